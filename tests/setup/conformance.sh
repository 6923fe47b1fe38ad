#!/usr/bin/env bash
# Fetches what tests/conformance compares with: onnxruntime for Python in the versions that the other loaders run on.
# Runs again for nothing when all is there. Exit 3: it could not be fetched.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${EDGEPACK_TEST_CACHE:-$repo/.cache/tests}/conformance
python=${PYTHON:-python3}
# kotlin.sh and swift.sh fetch 1.29.0, javascript.sh fetches 1.30.0.
versions=(1.29.0 1.30.0)

fail() {
  echo "tests/setup/conformance.sh: $*" >&2
  exit 3
}

mkdir -p "$folder"
for version in "${versions[@]}"; do
  [[ -e $folder/onnxruntime-$version ]] && continue
  scratch=$(mktemp -d "$folder/fetching.XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  # Only the package itself: numpy comes from the environment of the tests.
  "$python" -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
    --target "$scratch/wheel" "onnxruntime==$version" >&2 || fail "pip could not fetch onnxruntime $version"
  mv "$scratch/wheel" "$folder/onnxruntime-$version"
  rm -rf "$scratch"
done
