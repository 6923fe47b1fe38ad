#!/bin/sh
# Installs this bundle on the board it lies on: copy it, verify every file of the copy, self-test, put in place, enable the unit.
# What was installed before stays until the new one has passed. A second run finds nothing to do. No root needed.
set -eu

usage() {
    cat <<'HELP'
usage: sh install.sh [--to FOLDER] [--python PROGRAM | --runner PROGRAM] [--no-service]

  --to FOLDER       where the bundle goes (root: /opt/edgepack/NAME, others: ~/.local/share/edgepack/NAME)
  --python PROGRAM  Python 3.8 or newer with numpy and onnxruntime (python3)
  --runner PROGRAM  edgepack-run, compiled from loader/edgepack-run.cpp, in place of Python
  --no-service      do not install the systemd unit

Exit: 0 installed, or installed already; 1 the bundle does not prove itself here; 2 it could not run.
HELP
}

say() { printf '%s\n' "$*" >&2; }

stop() { # cause, fix
    say "error: $1"
    say "fix:   $2"
    exit 2
}

bundle=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
name=$(basename -- "$bundle")
place='' python=python3 runner='' service=yes
while [ $# -gt 0 ]; do
    case $1 in
    --to | --python | --runner) [ $# -ge 2 ] || stop "$1 needs a value" "see sh install.sh --help" ;;
    esac
    case $1 in
    --to) place=$2 && shift 2 ;;
    --python) python=$2 && shift 2 ;;
    --runner) runner=$2 && shift 2 ;;
    --no-service) service=no && shift ;;
    -h | --help) usage && exit 0 ;;
    *) stop "there is no option $1" "see sh install.sh --help" ;;
    esac
done

root=no
[ "$(id -u)" -ne 0 ] || root=yes
if [ -z "$place" ] && [ $root = yes ]; then
    place=/opt/edgepack/$name
elif [ -z "$place" ]; then
    [ -n "${HOME:-}" ] || stop "HOME is not set" "say where with --to FOLDER"
    place=${XDG_DATA_HOME:-$HOME/.local/share}/edgepack/$name
fi
case $place in
/*) ;;
*) place=$(pwd -P)/$place ;;
esac
case $name in
*[!A-Za-z0-9._-]*) stop "the bundle's folder is called '$name'" "name it with letters, digits, '.', '_' and '-' alone" ;;
esac

if [ -n "$runner" ]; then
    runner=$(command -v "$runner") || stop "there is no program at --runner" "compile it: see loader/edgepack-run.cpp"
    case $runner in
    /*) ;;
    *) runner=$(pwd -P)/$runner ;;
    esac
    command="\"$runner\""
else
    python=$(command -v "$python") || stop "there is no $python" "apt-get install python3, or give --python or --runner"
    missing=$("$python" -c 'import importlib.util, sys
print("Python 3.8" if sys.version_info < (3, 8) else "",
      *(name for name in ("numpy", "onnxruntime") if not importlib.util.find_spec(name)))' 2>&1) ||
        stop "$python does not start: $missing" "give another with --python, or a compiled program with --runner"
    case $missing in
    *[a-z]*) stop "$python lacks:$missing" "install it for this Python (on a Jetson NVIDIA's onnxruntime-gpu), or give --runner" ;;
    esac
    command="\"$python\" -B \"$place/loader/edgepack_loader.py\""
fi

case $place$command in
*[\\%\&\|]*) stop "a path holds a character that a unit file cannot take: $place, $command" "choose another folder" ;;
esac

# What the loader needs to find its libraries here, it needs at every start, too.
environment=
for variable in PYTHONPATH LD_LIBRARY_PATH EDGEPACK_ONNXRUNTIME XDG_CACHE_HOME; do
    value=
    eval "value=\${$variable:-}"
    case $value in
    '') ;;
    *[\"\\%\&\|]*) stop "$variable holds a character that a unit file cannot take: $value" "set it without" ;;
    *) environment="$environment \"$variable=$value\"" ;;
    esac
done

loader() { # command, bundle: through the loader that lies in the bundle given
    if [ -n "$runner" ]; then
        "$runner" "$1" "$2"
    else
        "$python" -B "$2/loader/edgepack_loader.py" "$1" "$2"
    fi
}

new=$place.new old=$place.old
prove() { # bundle
    loader check "$1" >/dev/null || {
        say "fix:   copy the bundle to this board again"
        exit 1
    }
    code=0
    loader self-test "$1" >/dev/null || code=$?
    [ $code -eq 0 ] || {
        say "fix:   see \"Read a failure\" in $1/README.md; what was installed before is still there"
        exit $((code == 1 ? 1 : 2))
    }
}

mkdir -p -- "$(dirname -- "$place")" 2>/dev/null || stop "$(dirname -- "$place") cannot be made" "choose another folder with --to"
# A run that was cut off between the two renames below.
[ -e "$place" ] || [ ! -e "$old" ] || mv -- "$old" "$place"
if [ "$bundle" = "$place" ]; then
    prove "$place"
elif cmp -s -- "$bundle/manifest.json" "$place/manifest.json" && loader check "$place" >/dev/null 2>&1; then
    say "$name is installed already in $place"
    prove "$place"
else
    trap 'rm -rf -- "$new"' EXIT
    trap 'exit 130' INT TERM
    rm -rf -- "$new"
    cp -R -- "$bundle" "$new" || stop "$new cannot be written" "make room, or choose another folder with --to"
    prove "$new"
    rm -rf -- "$old"
    [ ! -e "$place" ] || mv -- "$place" "$old"
    mv -- "$new" "$place"
    sync
    rm -rf -- "$old"
    say "$name is installed in $place"
fi

[ $service = yes ] || exit 0
command -v systemctl >/dev/null || {
    say "there is no systemd here: no unit was installed"
    exit 0
}
unit=edgepack-$name.service
if [ $root = yes ]; then
    units=/etc/systemd/system target=multi-user.target scope=
else
    units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user target=default.target scope=--user
fi
mkdir -p -- "$units"
sed -e "s|@NAME@|$name|; s|@FOLDER@|$place|g; s|@COMMAND@|$command|; s|@ENVIRONMENT@|${environment# }|; s|@TARGET@|$target|" \
    "$place/edgepack.service" >"$units/$unit.new"
mv -- "$units/$unit.new" "$units/$unit"
# shellcheck disable=SC2086 # scope is one word or none
if systemctl $scope daemon-reload && systemctl $scope enable --quiet "$unit"; then
    say "$unit is enabled: it checks the bundle at every start"
else
    say "$units/$unit is written; systemd does not answer: run systemctl $scope enable $unit once it does"
fi
