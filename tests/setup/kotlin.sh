#!/usr/bin/env bash
# Fetches what tests/device/kotlin needs: the Kotlin compiler, ONNX Runtime for the JVM and for Android, Android's classes.
# Runs again for nothing when all is there. Exit 3: something could not be fetched.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${EDGEPACK_TEST_CACHE:-$repo/.cache/tests}/kotlin
# Repackages Microsoft's onnxruntime-android 1.29, which not every Maven mirror carries; its classes.jar is what we need.
android=com.github.asus4.onnxruntime@0.4.9
jars=(
  org.jetbrains.kotlin:kotlin-compiler-embeddable:2.2.20
  com.microsoft.onnxruntime:onnxruntime:1.29.0
  org.robolectric:android-all:7.0.0_r1-robolectric-r1 # API 24, the oldest onnxruntime-android runs on
  org.codehaus.mojo:animal-sniffer:1.24
  net.sf.androidscents.signature:android-api-level-24:7.0_r2:signature
)

fail() {
  echo "tests/setup/kotlin.sh: $*" >&2
  exit 3
}

stamp=$folder/$(printf '%s ' "${jars[@]}" "$android" | sha256sum | cut -c1-16).fetched
[[ -e $stamp ]] && exit 0

missing=()
command -v javac >/dev/null || missing+=(openjdk-17-jdk-headless)
command -v mvn >/dev/null || missing+=(maven)
command -v npm >/dev/null || missing+=(npm)
command -v unzip >/dev/null || missing+=(unzip)
if ((${#missing[@]})); then
  [[ $(id -u) == 0 ]] || fail "install ${missing[*]} first"
  apt-get -o DPkg::Lock::Timeout=600 update -qq >&2 || fail "apt-get update failed"
  apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt-get could not install ${missing[*]}"
fi

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

{
  echo '<project><modelVersion>4.0.0</modelVersion><groupId>edgepack</groupId><artifactId>tests</artifactId>'
  echo '<version>1</version><dependencies>'
  for jar in "${jars[@]}"; do
    IFS=: read -r group name version type <<<"$jar"
    echo "<dependency><groupId>$group</groupId><artifactId>$name</artifactId><version>$version</version>"
    echo "<type>${type:-jar}</type></dependency>"
  done
  echo '</dependencies></project>'
} >"$scratch/pom.xml"
mvn -q -B -f "$scratch/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
  -DoutputDirectory="$scratch/lib" >&2 || fail "mvn could not fetch ${jars[*]}"

(cd "$scratch" && npm pack --silent "$android" >/dev/null && tar xzf ./*.tgz package/Plugins/Android/onnxruntime.aar) ||
  fail "npm could not fetch $android"
unzip -qp "$scratch/package/Plugins/Android/onnxruntime.aar" classes.jar >"$scratch/lib/onnxruntime-android.jar" ||
  fail "$android holds no classes.jar"

rm -rf "$folder/lib" "$folder"/*.fetched
mv "$scratch/lib" "$folder/lib"
touch "$stamp"
