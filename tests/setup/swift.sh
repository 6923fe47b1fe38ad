#!/bin/bash
# What the Swift loader's tests need, in ${EDGEPACK_TEST_CACHE:-.cache/tests}/swift:
#   root     a Debian trixie with Swift 6.0 (3 GB); Debian 12 has none
#   include  ONNX Runtime's C headers, out of the iOS framework
#   lib      ONNX Runtime for Linux, of the same version
# Needs root, for mmdebstrap and the chroot. Does nothing when all is there.
set -euo pipefail

# An npm package that holds the iOS xcframework of ONNX Runtime 1.29.0.
FRAMEWORK=com.github.asus4.onnxruntime@0.4.9
WHEEL=onnxruntime==1.29.0
PACKAGES=swiftlang,libc6-dev,libstdc++-14-dev,git,ca-certificates

cache=${EDGEPACK_TEST_CACHE:-$(cd "$(dirname "$0")/../.." && pwd)/.cache/tests}/swift
scratch=$cache/scratch

stop() {
  echo "swift.sh: $*" >&2
  exit 3
}

have() {
  command -v "$1" >/dev/null && return
  [ "$(id -u)" = 0 ] || stop "$1 is missing: run as root, or apt-get install $2"
  { apt-get -qq update && apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$2"; } >&2 ||
    stop "cannot install $2"
}

if [ ! -e "$cache/lib" ] || [ ! -e "$cache/include" ] || [ ! -e "$cache/root" ]; then
  mkdir -p "$cache"
  rm -rf "$scratch"
  mkdir "$scratch"
  trap 'rm -rf "$scratch"' EXIT
fi

if [ ! -e "$cache/include" ]; then
  have npm npm
  (cd "$scratch" && npm pack --silent "$FRAMEWORK" >/dev/null) || stop "cannot fetch $FRAMEWORK from npm"
  tar -xzf "$scratch"/*.tgz -C "$scratch"
  mkdir "$scratch/include"
  mv "$scratch"/package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers "$scratch/include/onnxruntime"
  mv "$scratch/include" "$cache/include"
fi

if [ ! -e "$cache/lib" ]; then
  have python3 python3
  have pip3 python3-pip
  have unzip unzip
  python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_x86_64 \
    --dest "$scratch" "$WHEEL" || stop "cannot fetch $WHEEL from PyPI"
  unzip -q -o -j "$scratch"/onnxruntime-*.whl 'onnxruntime/capi/libonnxruntime.so.*' -d "$scratch/lib"
  ln -s "$(basename "$scratch"/lib/*)" "$scratch/lib/libonnxruntime.so"
  ln -s libonnxruntime.so "$scratch/lib/libonnxruntime.so.1"
  mv "$scratch/lib" "$cache/lib"
fi

if [ ! -e "$cache/root" ]; then
  [ "$(id -u)" = 0 ] || stop "run as root: mmdebstrap makes a Debian trixie with Swift"
  have mmdebstrap mmdebstrap
  mmdebstrap --quiet --variant=minbase --include="$PACKAGES" trixie "$scratch/root" || stop "cannot make a Debian trixie with Swift"
  mv "$scratch/root" "$cache/root"
fi
