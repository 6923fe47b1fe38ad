#!/usr/bin/env bash
# Fetches what tests/device/cpp needs: C++ compilers for this machine and for arm64, and ONNX Runtime's C headers out of its iOS framework.
# Runs again for nothing when all is there. Exit 3: something could not be fetched.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${EDGEPACK_TEST_CACHE:-$repo/.cache/tests}/cpp
# Repackages Microsoft's framework of ONNX Runtime 1.29.0; no registry here carries the headers themselves.
framework=com.github.asus4.onnxruntime@0.4.9

fail() {
  echo "tests/setup/cpp.sh: $*" >&2
  exit 3
}

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v aarch64-linux-gnu-g++ >/dev/null || missing+=(g++-aarch64-linux-gnu)
command -v npm >/dev/null || missing+=(npm)
if ((${#missing[@]})); then
  [[ $(id -u) == 0 ]] || fail "install ${missing[*]} first"
  apt-get -o DPkg::Lock::Timeout=600 update -qq >&2 || fail "apt-get update failed"
  apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt-get could not install ${missing[*]}"
fi
[[ -e $folder/include ]] && exit 0

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
(cd "$scratch" && npm pack --silent "$framework" >/dev/null) || fail "npm could not fetch $framework"
tar -xzf "$scratch"/*.tgz -C "$scratch"
mv "$scratch"/package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers "$folder/include"
