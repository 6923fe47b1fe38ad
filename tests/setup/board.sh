#!/usr/bin/env bash
# Makes what tests/device/board runs: an arm64 Debian with Python, numpy, onnxruntime and sshd, in
# ${EDGEPACK_TEST_CACHE:-.cache/tests}/board/<stamp>, and fetches qemu, shellcheck and systemd-analyze. Nothing is emulated here.
# Runs again for nothing when all is there. Exit 3: it could not be made.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${EDGEPACK_TEST_CACHE:-$repo/.cache/tests}/board
python=${PYTHON:-python3}
suite=bookworm # its Python is 3.11
packages=base-files,base-passwd,bash,dash,coreutils,libc-bin,util-linux,mount,login,passwd,sed,grep,tar,gzip,findutils,diffutils
packages+=,hostname,procps,python3,libstdc++6,libgomp1,openssh-server,openssh-sftp-server,openssh-client,openssl
wheels=(onnxruntime==1.32.0 numpy==2.4.6)

fail() {
  echo "tests/setup/board.sh: $*" >&2
  exit 3
}

missing=()
[[ -x /usr/bin/qemu-aarch64-static ]] || missing+=(qemu-user-static)
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
command -v shellcheck >/dev/null || missing+=(shellcheck)
command -v systemd-analyze >/dev/null || missing+=(systemd)
if ((${#missing[@]})); then
  [[ $(id -u) == 0 ]] || fail "install ${missing[*]} first"
  apt-get -o DPkg::Lock::Timeout=600 update -qq >&2 || fail "apt-get update failed"
  apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt-get could not install ${missing[*]}"
fi

stamp=$folder/$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-16) # tests/device/board/board.py looks there
[[ -e $stamp ]] && exit 0
[[ $(id -u) == 0 ]] || fail "run as root: mmdebstrap unpacks an arm64 Debian"

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/making.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root
mmdebstrap --quiet --mode=root --arch=arm64 --variant=extract --include="$packages" \
  --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr "$suite" "$root" >&2 || fail "mmdebstrap could not unpack Debian $suite for arm64"

# What the packages' own scripts would have done, had they run.
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
sed -i 's#^root:.*#root:x:0:0:root:/root:/bin/bash#' "$root/etc/passwd"
{
  echo 'sshd:x:106:65534::/run/sshd:/usr/sbin/nologin'
  echo 'edge:x:1000:1000::/home/edge:/bin/bash'
} >>"$root/etc/passwd"
echo 'edge:x:1000:' >>"$root/etc/group"
install -d "$root/run/sshd" "$root/opt"
install -d -m 700 "$root/root"
install -d -o 1000 -g 1000 "$root/home/edge"

"$python" -m pip install -q --disable-pip-version-check --no-cache-dir --only-binary=:all: --implementation cp --python-version 3.11 \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
  --target "$root/opt/site" "${wheels[@]}" >&2 || fail "pip could not fetch ${wheels[*]} for aarch64"

chmod 755 "$scratch" "$root"
# Older images stay: another checkout may share this folder and boot one.
mv "$root" "$stamp"
