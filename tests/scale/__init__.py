"""Models too large for one protobuf, made and taken through every step: `python -m tests.scale --help`."""
