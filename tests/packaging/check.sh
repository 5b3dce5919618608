#!/usr/bin/env bash
# Usage: tests/packaging/check.sh
# Tries ./dev release in a clone with a version of its own, and checks that the source archive has the same bytes each time.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
git -C "$source" rev-parse -q --verify HEAD >/dev/null 2>&1 || { echo "no checkout of git"; exit 77; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone -q --no-local "$source" "$folder/clone"
cd "$folder/clone"
for file in packaging tests/packaging dev CHANGELOG.md CMakeLists.txt; do # as they are now, committed or not
    cp -r "$source/$file" "$(dirname "$file")/"
done
export SKIP_DEPS=1 GIT_AUTHOR_NAME=test GIT_AUTHOR_EMAIL=test@localhost GIT_COMMITTER_NAME=test GIT_COMMITTER_EMAIL=test@localhost
export AIO_RELEASE_TEST='echo tests run >>../ran' AIO_RELEASE_ABI='echo ABI compared' AIO_RELEASE_PACKAGE='./dev package --archive'
commit() { git add -A && git commit -q --allow-empty -m "$1"; }
version=99.1.0
fault() { echo "fault: $*"; exit 1; }
refused() { # refused WORDS ARGUMENT...: ./dev release fails, and says these words
    local words=$1
    shift
    if ./dev release "$@" >"$folder/log" 2>&1; then fault "release $* was not refused: $words"; fi
    grep -qF -- "$words" "$folder/log" || { cat "$folder/log"; fault "release $* does not say: $words"; }
    [[ -z $(git tag --list "v$version") && ! -e ../ran ]] || fault "a refused release has tested or tagged"
}

commit "The state of the working tree"
refused "which version?"
refused "which version?" 1.2
refused "the only option is --dry-run" $version --dry
refused "CMakeLists.txt says VERSION" $version
refused "CHANGELOG.md has no section" $version
refused "packaging/abi has the ABI of" $version
refused "vcpkg.json has another version" $version
sed -i "s/^\(project(aiocxx VERSION \)[0-9.]*/\1$version/" CMakeLists.txt
sed -i "s/\(\"version-semver\": \"\)[0-9.]*/\1$version/" packaging/vcpkg/vcpkg.json
echo $version >packaging/abi/version
sed -i "0,/^## \[/s//## [$version] - 2099-01-01\n\n### Added\n- The thing that the notes tell.\n\n&/" CHANGELOG.md
refused "not committed" $version
commit "Version $version"
git tag v99.2.0
refused "there is a later version, 99.2.0" $version
git tag -d v99.2.0 >/dev/null

AIO_RELEASE_TEST=false ./dev release $version >"$folder/log" 2>&1 && fault "failing tests do not stop a release"
grep -q "the tests fail: nothing was released" "$folder/log" || fault "failing tests are not told"
grep -q "ABI compared" "$folder/log" && fault "the ABI is compared after failing tests"
AIO_RELEASE_ABI=false ./dev release $version >"$folder/log" 2>&1 && fault "another ABI does not stop a release"
grep -q "packaging/abi does not have this commit's ABI: nothing was released" "$folder/log" || fault "another ABI is not told"
git tag v99.0.0 HEAD~
echo '[[ $# == 0 ]]' >../same_as_kept
AIO_RELEASE_ABI='bash ../same_as_kept' ./dev release $version >"$folder/log" 2>&1 && fault "another ABI than the last release's does not stop a release"
grep -q "a program that was built with v99.0.0 would break: nothing was released" "$folder/log" || fault "another ABI than the last release's is not told"
AIO_RELEASE_PACKAGE=false ./dev release $version >"$folder/log" 2>&1 && fault "failing packages do not stop a release"
[[ -z $(git tag --list v$version) ]] || fault "a failed release leaves a tag"
rm -f ../ran

./dev release $version --dry-run | grep -q "could be released" || fault "--dry-run does not say that it passes"
[[ -e ../ran && -z $(git tag --list v$version) ]] || fault "--dry-run must test and not tag"

./dev release $version >"$folder/log" 2>&1 || { cat "$folder/log"; fault "the release failed"; }
[[ $(git rev-parse "v$version^{commit}") == "$(git rev-parse HEAD)" ]] || fault "the tag is not on this commit"
git tag -l --format='%(contents)' v$version | grep -q "The thing that the notes tell" || fault "the tag has no notes"
archive=build/package/aiocxx-$version.tar.gz
tar -tzf $archive >"$folder/list"
grep -qx "aiocxx-$version/CMakeLists.txt" "$folder/list" || fault "the archive has no CMakeLists.txt"
if grep -q "/build/" "$folder/list"; then fault "the archive has the build folder"; fi
cp $archive "$folder/first"
touch CMakeLists.txt
./dev package --archive >/dev/null
cmp $archive "$folder/first" || fault "the archive is not reproducible"
if ./dev release $version >"$folder/log" 2>&1; then fault "a version was released twice"; fi
grep -q "there is a tag v$version already" "$folder/log" || fault "a second release does not say why it is refused"

# The recipes for vcpkg and Conan: their syntax, the fields that vcpkg requires, and that they have the version and the options of CMake.
python3 - <<'END'
import ast, glob, json, re
port = json.load(open("packaging/vcpkg/vcpkg.json"))
assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", port["name"]) and port["description"] and port["version-semver"]
for name, feature in port["features"].items():
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) and feature["description"]
assert set(port["default-features"]) <= set(port["features"])
for file in ("conanfile.py", "test_package/conanfile.py"):
    ast.parse(open("packaging/conan/" + file).read())

cmake = open("CMakeLists.txt").read()
version = re.search(r"^project\(aiocxx VERSION ([0-9.]+) ", cmake, re.M).group(1)
assert port["version-semver"] == version, "vcpkg has another version than CMake"
options = set(re.findall(r"^option\(AIO_(\w+)", cmake, re.M))
parts = {option for option in options if f"${{{option.lower()}_default}}" in cmake}  # what may be left out
features = dict(re.findall(r"^\s+([a-z-]+) AIO_(\w+)\b", open("packaging/vcpkg/portfile.cmake").read(), re.M))
assert set(features) == set(port["features"]), "the portfile has other features than vcpkg.json"
assert set(features.values()) == parts, "vcpkg has other features than CMake has options"

recipe = open("packaging/conan/conanfile.py").read()
found = re.search(re.search(r're\.search\(r"(.*?)", text\)', recipe).group(1), cmake)
assert found and found.group(1) == version, "Conan has another version than CMake"
loops = [ast.literal_eval(words) for words in re.findall(r"for part in (\(.*?\)):", recipe)]
given = {part.upper() for words in loops for part in words}
assert given <= options, f"CMake has no option {given - options}"
assert parts <= given, f"Conan leaves the option {parts - given} to chance"
chosen = {part for part in loops[0]}
assert chosen <= set(ast.literal_eval(re.search(r"default_options = (\{.*?\})", recipe).group(1))), "Conan lacks a default"
for files in re.findall(r'"([^"]+)"', re.search(r"for pattern in \((.*?)\)", recipe).group(1)):
    assert glob.glob(files), f"Conan exports {files}, which is not there"
END
# The portfile runs with stubs in place of vcpkg's functions, which show what it asks for.
cat >"$folder/port.cmake" <<'END'
foreach(name IN ITEMS vcpkg_check_features vcpkg_cmake_configure vcpkg_cmake_install vcpkg_cmake_config_fixup
        vcpkg_fixup_pkgconfig vcpkg_install_copyright)
    function(${name})
        message(STATUS "${CMAKE_CURRENT_FUNCTION} ${ARGN}")
    endfunction()
endforeach()
file(WRITE ${CURRENT_PACKAGES_DIR}/bin/aiocxx-check "")
include(${PORTFILE})
if(NOT EXISTS ${CURRENT_PACKAGES_DIR}/tools/aiocxx/aiocxx-check OR NOT EXISTS ${CURRENT_PACKAGES_DIR}/share/aiocxx/usage)
    message(FATAL_ERROR "the port lacks a file")
endif()
END
AIOCXX_SOURCE=$PWD "${CMAKE_COMMAND:-cmake}" -DCURRENT_PACKAGES_DIR="$folder/port" -DPORT=aiocxx -DVERSION=$version \
    -DPORTFILE="$PWD/packaging/vcpkg/portfile.cmake" -P "$folder/port.cmake" >"$folder/log" 2>&1 || { cat "$folder/log"; fault "the portfile fails"; }
grep -q "vcpkg_cmake_configure SOURCE_PATH;$PWD" "$folder/log" || { cat "$folder/log"; fault "the portfile does not configure"; }
echo "releases, the archive and the recipes are right"
