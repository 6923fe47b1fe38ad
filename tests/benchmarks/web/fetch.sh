#!/usr/bin/env bash
# Fetches what this benchmark compares with: TensorFlow.js and its converter, LiteRT.js. onnxruntime-web and Chromium come with
# tests/setup/javascript.sh. Runs again for nothing when all is there.
# Exit 3: something could not be fetched.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
folder=${EDGEPACK_TEST_CACHE:-$repo/.cache/tests}/benchmark-web
npm=(@tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-converter@4.22.0 @tensorflow/tfjs-backend-cpu@4.22.0
  @tensorflow/tfjs-backend-wasm@4.22.0 @litertjs/core@2.5.3)
# Without what it depends on: it wants packages that clash with a current TensorFlow, for formats that are not used here.
pypi=(tensorflowjs==4.22.0)

stamp=$folder/$(printf '%s ' "${npm[@]}" "${pypi[@]}" | sha256sum | cut -c1-16).fetched
[[ -e $stamp ]] && exit 0

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
npm install --prefix "$scratch" --no-audit --no-fund --loglevel error "${npm[@]}" >&2 ||
  { echo "npm could not fetch ${npm[*]}" >&2; exit 3; }
"${PYTHON:-python3}" -m pip install -q --no-deps --target "$scratch/python" "${pypi[@]}" >&2 ||
  { echo "pip could not fetch ${pypi[*]}" >&2; exit 3; }
rm -rf "$folder/node_modules" "$folder/python" "$folder"/*.fetched
mv "$scratch/node_modules" "$scratch/python" "$folder/"
touch "$stamp"
