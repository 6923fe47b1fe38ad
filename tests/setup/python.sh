#!/usr/bin/env bash
# Fetches what tests/runtime/test_gpu_fallback.py needs: onnxruntime's GPU build, for the Python that runs the tests.
# Runs again for nothing when all is there. Exit 3: it could not be fetched.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${EDGEPACK_TEST_CACHE:-$repo/.cache/tests}/python
python=${PYTHON:-python3}
package=onnxruntime-gpu==1.31.1

fail() {
  echo "tests/setup/python.sh: $*" >&2
  exit 3
}

abi=$("$python" -c 'import sys; print(sys.implementation.cache_tag)') || fail "there is no $python"
stamp=$folder/$package-$abi.fetched
[[ -e $stamp ]] && exit 0

if ! "$python" -m pip --version >/dev/null 2>&1; then
  [[ $(id -u) == 0 ]] || fail "$python has no pip: install python3-pip first"
  apt-get -o DPkg::Lock::Timeout=600 update -qq >&2 || fail "apt-get update failed"
  apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends python3-pip >&2 ||
    fail "apt-get could not install python3-pip"
fi

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
# Only the package itself: numpy comes from the environment of the tests.
"$python" -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
  --target "$scratch/onnxruntime-gpu" "$package" >&2 || fail "pip could not fetch $package for $abi"

rm -rf "$folder/onnxruntime-gpu" "$folder"/*.fetched
mv "$scratch/onnxruntime-gpu" "$folder/onnxruntime-gpu"
touch "$stamp"
