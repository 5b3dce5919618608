#!/usr/bin/env bash
# Usage: tests/packaging/abi.sh
# Has packaging/abi/compare look at a small library in a project of its own: what it lets pass, what it refuses, and what it says. Uses CXX.
set -euo pipefail
compare=$(cd "$(dirname "$0")/../.." && pwd)/packaging/abi/compare
command -v abidw >/dev/null || { echo "abigail-tools is not installed"; exit 77; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir -p packaging/abi include/aio built
cp "$compare" packaging/abi/
fault() { echo "fault: $*"; exit 1; }
is_version() { echo "project(aiocxx VERSION $1 LANGUAGES CXX)" >CMakeLists.txt; }
library() { # library SONAME NAMESPACE MEMBERS FUNCTIONS: builds libaiocxx.so
    cat >include/aio/box.hpp <<END_OF_HEADER
namespace aio::inline $2 {
struct box { $3 };
int weigh(const box& what);
$4
}
END_OF_HEADER
    cat >box.cpp <<END_OF_SOURCE
#include "include/aio/box.hpp"
namespace aio::inline $2 {
int weigh(const box& what) { return what.weight; }
int more(const box&) { return 1; }
}
int of_nobody() { return 1; }
END_OF_SOURCE
    link "$1"
}
link() { "${CXX:-c++}" -std=c++20 -O0 -g -fPIC -shared -Wl,-soname,"$1" box.cpp -o built/libaiocxx.so; }
says() { # says RESULT WORDS OPTION...: compare ends with this result, and says these words
    local result=$1 words=$2 got=0
    shift 2
    packaging/abi/compare "$@" built >log 2>&1 || got=$?
    [[ $got == "$result" ]] || { cat log; fault "$got instead of $result: $words"; }
    tr -s ' \n' ' ' <log | grep -qF -- "$words" || { cat log; fault "this is not said: $words"; }
}

is_version 0.1.0
echo "## [Unreleased]" >CHANGELOG.md
library libaiocxx.so.0.1 v0 "int weight;" ""
says 1 "keeps no ABI"
says 0 "packaging/abi has the ABI of 0.1.0" --update
says 0 "a program that was built with 0.1.0 runs with these libraries"

# Before the release nothing is promised.
library libaiocxx.so.0.1 v0 "int weight; int height;" ""
says 0 "0.1.0, which is not released yet, so these are no fault"
says 0 "packaging/abi has the ABI of 0.1.0" --update
git init -q .
git add packaging
git -c user.name=test -c user.email=test@localhost commit -q -m "Release 0.1.0"
git tag v0.1.0
echo "## [0.1.0] - 2099-01-01" >>CHANGELOG.md

# A patch release adds.
is_version 0.1.1
library libaiocxx.so.0.1 v0 "int weight; int height;" "int more(const box&);"
says 0 "a program that was built with 0.1.0 runs with these libraries"

# It changes nothing, and removes nothing.
library libaiocxx.so.0.1 v0 "long color; int weight; int height;" ""
says 1 "a program that was built with 0.1.0 may break with these libraries, though 0.1.1 promises that it does not."
grep -q "weight" log || fault "the member that moved is not named"
says 0 "packaging/abi has the ABI of 0.1.1" --update
says 1 "built with 0.1.0 may break with these libraries" --from v0.1.0
says 1 "abi: git ls-tree failed: " --from v0.0.9
git checkout -q packaging
library libaiocxx.so.0.1 v0 "int weight; int height;" ""
sed -i 's/int weigh(/int weigh_it(/' box.cpp include/aio/box.hpp
link libaiocxx.so.0.1
says 1 "may break with these libraries"
mv built/libaiocxx.so built/libaiocxx_other.so
says 1 "the library is gone"
rm built/libaiocxx_other.so

# A minor release may do both, under another SONAME and in another inline namespace.
is_version 0.2.0
library libaiocxx.so.0.1 v0 "long color; int weight; int height;" ""
says 1 "0.2.0 may differ from 0.1.0, but still has its aio::v0, libaiocxx.so.0.1: raise"
library libaiocxx.so.0.2 v0 "long color; int weight; int height;" ""
says 1 "0.2.0 may differ from 0.1.0, but still has its aio::v0: raise"
library libaiocxx.so.0.1 v1 "long color; int weight; int height;" ""
says 1 "0.2.0 may differ from 0.1.0, but still has its libaiocxx.so.0.1: raise"
library libaiocxx.so.0.2 v1 "long color; int weight; int height;" ""
says 0 "0.2.0 may differ from 0.1.0; ./dev abi --update takes the libraries as they are"
echo "the ABI is compared as the versions promise"
