#!/usr/bin/env bash
# Fetches what tests/legality/test_opinion.py needs: TensorRT-RTX's parser (NVIDIA's licence), into a folder of its own, at the versions of
# the extra tensorrt-rtx. Runs again for nothing when all is there. Exit 3: it could not be fetched.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${EDGEPACK_TEST_CACHE:-$repo/.cache/tests}/tensorrt
python=${PYTHON:-python3}
mapfile -t packages < <(grep -o 'tensorrt-rtx[a-z0-9-]*==[0-9.]*' "$repo/pyproject.toml")

fail() {
  echo "tests/setup/tensorrt.sh: $*" >&2
  exit 3
}

stamp=$folder/$(printf '%s ' "${packages[@]}" "$("$python" -c 'import sys; print(sys.implementation.cache_tag)')" | sha256sum | cut -c1-16).fetched
[[ -e $stamp ]] && exit 0
mkdir -p "$folder"
scratch=$(mktemp -d "$folder/fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
"$python" -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --target "$scratch/packages" "${packages[@]}" >&2 ||
  fail "pip could not fetch ${packages[*]}"
rm -rf "$folder/packages" "$folder"/*.fetched
mv "$scratch/packages" "$folder/packages"
touch "$stamp"
