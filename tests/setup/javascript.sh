#!/usr/bin/env bash
# Fetches what tests/device/javascript needs: Node, Chromium, onnxruntime-web, TypeScript and Vite.
# Runs again for nothing when all is there. Exit 3: something could not be fetched.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${EDGEPACK_TEST_CACHE:-$repo/.cache/tests}/javascript
packages=(onnxruntime-web@1.30.0 typescript@7.0.2 vite@8.3.8)
# Debian 12 has Node 18, and the loader needs process.getBuiltinModule.
modern='process.exit(process.getBuiltinModule ? 0 : 1)'

fail() {
  echo "tests/setup/javascript.sh: $*" >&2
  exit 3
}

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if ((${#missing[@]})); then
  [[ $(id -u) == 0 ]] || fail "install ${missing[*]} first"
  apt-get -o DPkg::Lock::Timeout=600 update -qq >&2 || fail "apt-get update failed"
  apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt-get could not install ${missing[*]}"
fi
node -e "$modern" || packages+=(node@20.20.2)

stamp=$folder/$(printf '%s ' "${packages[@]}" | sha256sum | cut -c1-16).fetched
[[ -e $stamp ]] && exit 0

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
npm install --prefix "$scratch" --no-audit --no-fund --loglevel error "${packages[@]}" >&2 ||
  fail "npm could not fetch ${packages[*]}"
rm -rf "$folder/node_modules" "$folder"/*.fetched
mv "$scratch/node_modules" "$folder/node_modules"
touch "$stamp"
