#!/usr/bin/env bash
# Fetches what tests/device/kotlin needs: the Kotlin compiler, ONNX Runtime for the JVM and for Android, Android's own code
# (Robolectric), the shrinker R8, the Android Gradle plugin's interface, and an emulator for the arm64 library.
# Runs again for nothing when all is there. Exit 3: something could not be fetched.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${EDGEPACK_TEST_CACHE:-$repo/.cache/tests}/kotlin
# Repackages Microsoft's onnxruntime-android 1.29, which not every Maven mirror carries.
android=com.github.asus4.onnxruntime@0.4.9
jars=(
  org.jetbrains.kotlin:kotlin-compiler-embeddable:2.2.20
  com.microsoft.onnxruntime:onnxruntime:1.29.0
  org.robolectric:android-all:7.0.0_r1-robolectric-r1 # API 24, the oldest onnxruntime-android runs on
  org.codehaus.mojo:animal-sniffer:1.24
  net.sf.androidscents.signature:android-api-level-24:7.0_r2:signature
  com.android.tools:r8:8.5.35
  org.jetbrains.kotlin:kotlin-sam-with-receiver-compiler-plugin-embeddable:2.2.20 # as Gradle compiles its scripts
)
# Android 14's framework and native code, as far as they run on a desktop.
robolectric=(org.robolectric:robolectric:4.16 junit:junit:4.13.2)
instrumented=org.robolectric:android-all-instrumented:14-robolectric-10818077-i7
# What build.gradle.kts is compiled against.
gradle=(
  dev.gradleplugins:gradle-api:8.11.1
  com.android.tools.build:gradle-api:9.5.1
  org.jetbrains.kotlin:kotlin-gradle-plugin-api:2.2.10
)

fail() {
  echo "tests/setup/kotlin.sh: $*" >&2
  exit 3
}

stamp=$folder/$(printf '%s ' "${jars[@]}" "${robolectric[@]}" "$instrumented" "${gradle[@]}" "$android" | sha256sum | cut -c1-16).fetched
[[ -e $stamp ]] && exit 0

missing=()
command -v javac >/dev/null || missing+=(openjdk-17-jdk-headless)
command -v mvn >/dev/null || missing+=(maven)
command -v npm >/dev/null || missing+=(npm)
command -v unzip >/dev/null || missing+=(unzip)
command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
command -v aarch64-linux-gnu-gcc >/dev/null || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
if ((${#missing[@]})); then
  [[ $(id -u) == 0 ]] || fail "install ${missing[*]} first"
  apt-get -o DPkg::Lock::Timeout=600 update -qq >&2 || fail "apt-get update failed"
  apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    fail "apt-get could not install ${missing[*]}"
fi

mkdir -p "$folder"
scratch=$(mktemp -d "$folder/fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# copy FOLDER COORDINATE…: the jars and all they need.
copy() {
  local to=$1 group name version type jar
  shift
  mkdir "$scratch/pom"
  {
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>edgepack</groupId><artifactId>tests</artifactId>'
    echo '<version>1</version><dependencies>'
    for jar in "$@"; do
      IFS=: read -r group name version type <<<"$jar"
      echo "<dependency><groupId>$group</groupId><artifactId>$name</artifactId><version>$version</version>"
      echo "<type>${type:-jar}</type></dependency>"
    done
    echo '</dependencies></project>'
  } >"$scratch/pom/pom.xml"
  mvn -q -B -f "$scratch/pom/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DoutputDirectory="$to" >&2 || fail "mvn could not fetch $*"
  rm -r "$scratch/pom"
}
copy "$scratch/lib" "${jars[@]}"
copy "$scratch/robolectric" "${robolectric[@]}"
copy "$scratch/instrumented" "$instrumented"
copy "$scratch/gradle" "${gradle[@]}"
for aar in "$scratch"/robolectric/*.aar; do # a JVM reads jars only
  unzip -qp "$aar" classes.jar >"${aar%.aar}.jar"
done

(cd "$scratch" && npm pack --silent "$android" >/dev/null && tar xzf ./*.tgz package/Plugins/Android/onnxruntime.aar) ||
  fail "npm could not fetch $android"
unzip -qp "$scratch/package/Plugins/Android/onnxruntime.aar" classes.jar >"$scratch/lib/onnxruntime-android.jar" ||
  fail "$android holds no classes.jar"
unzip -qjo "$scratch/package/Plugins/Android/onnxruntime.aar" 'jni/arm64-v8a/libonnxruntime.so' 'headers/*' -d "$scratch/arm64" ||
  fail "$android holds no arm64 library"

rm -rf "$folder"/{lib,robolectric,instrumented,gradle,arm64} "$folder"/*.fetched
mv "$scratch"/{lib,robolectric,instrumented,gradle,arm64} "$folder"
touch "$stamp"
