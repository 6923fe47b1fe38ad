"""Stands in for tegrastats: the same line, every interval, until it is killed."""

import sys
import time
from pathlib import Path

assert sys.argv[1] == "--interval", sys.argv
recording = Path(__file__).resolve().parent / "recordings" / "tegrastats.txt"
line = recording.read_text().splitlines()[-1]
while True:
    print(line, flush=True)
    time.sleep(int(sys.argv[2]) / 1000)
