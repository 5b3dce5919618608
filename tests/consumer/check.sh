#!/usr/bin/env bash
# Usage: tests/consumer/check.sh BUILD_FOLDER, or with the environment PREFIX=/usr: tests/consumer/check.sh
# Installs the build into a temporary folder, or takes what is installed in PREFIX, and builds and runs the consumer with it, twice:
# through find_package and through pkg-config. Uses CXX and CXXFLAGS.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cmake=${CMAKE_COMMAND:-cmake}
export CXX=${CXX:-c++} CXXFLAGS=${CXXFLAGS:-}

configure=("$cmake" -G Ninja -S "$here" -DCMAKE_BUILD_TYPE=Release)
refused=no # g++ 12 is refused unless AIO_ALLOW_GCC_12 is set
if [[ $("$CXX" --version | head -n 1) =~ ^g\+\+ ]] && (($("$CXX" -dumpversion | cut -d. -f1) < 13)); then refused=yes; fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
prefix=$folder/prefix
if [[ ${PREFIX-} ]]; then
    prefix=$(cd "$PREFIX" && pwd)
else
    [[ -e ${1-}/CMakeCache.txt ]] || { echo "${1-} is no build folder; tests/consumer/check.sh BUILD_FOLDER" >&2; exit 2; }
    built=$(cd "$1" && pwd)
    "$cmake" --install "$built" --prefix "$prefix" >"$folder/install.log" || { cat "$folder/install.log"; exit 1; }
fi

echo "== find_package(aiocxx)"
options=()
if [[ $refused == yes ]]; then
    if "${configure[@]}" -DCMAKE_PREFIX_PATH="$prefix" -B "$folder/refused" >"$folder/refused.log" 2>&1; then echo "fault P1: g++ 12 was not refused"; exit 1; fi
    tr -s ' \n' ' ' <"$folder/refused.log" | grep -q 'aiocxx refuses g++ 12' || { cat "$folder/refused.log"; exit 1; }
    options+=(-DAIO_ALLOW_GCC_12=ON)
    CXXFLAGS+=" -DAIO_ALLOW_GCC_12"
fi
"${configure[@]}" "${options[@]}" -DCMAKE_PREFIX_PATH="$prefix" -B "$folder/build"
"$cmake" --build "$folder/build"
for program in "$folder"/build/consumer_*; do "$program"; done

echo "== aiocxx-check"
check=$prefix/bin/aiocxx-check
printf 'aio::coro<> f() { co_await q.put(item{"a", "b"}); }\n' >"$folder/broken.cpp"
if "$check" "$folder/broken.cpp" >"$folder/check.log"; then echo "fault P1: aiocxx-check found nothing"; exit 1; fi
grep -q 'broken.cpp:1: R1:' "$folder/check.log"
if [[ -d $here/../../examples ]]; then "$check" "$here/../../examples/"*.cpp "$here/../../examples/tour/"*.cpp; fi

echo "== pkg-config"
modules=$(dirname "$(find "$prefix" -name aiocxx.pc)")
export PKG_CONFIG_PATH=$modules${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export LD_LIBRARY_PATH=${modules%/pkgconfig}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
for module in "$modules"/aiocxx*.pc; do
    name=$(basename "$module" .pc)
    source=$here/${name#aiocxx-}.cpp
    [[ -e $source ]] || source=$here/main.cpp
    # shellcheck disable=SC2046,SC2086 # flags are words
    "$CXX" -std=c++20 -Wall -Wextra $CXXFLAGS $(pkg-config --cflags "$name") "$source" \
        $(pkg-config --libs "$name") -o "$folder/$name"
    "$folder/$name"
done

echo "== another Boost"
libraries=${modules%/pkgconfig}
for library in "$libraries"/libaiocxx*.so "$libraries"/libaiocxx*.a; do
    [[ -e $library ]] || continue
    option=-g
    [[ $library == *.a ]] || option=-D
    nm -P $option "$library" 2>/dev/null >"$folder/names"
    if grep -E '5boost|8nlohmann' "$folder/names"; then echo "fault: $library exports names of Boost or nlohmann"; exit 1; fi
    [[ $library == *_http.* ]] || continue
    # A program that has the same functions of Boost, which break off, keeps them to itself. A stripped library does not tell which there are.
    nm -P "$library" 2>/dev/null | sed -n 's/9aio_boost/5boost/g; s/^\(_Z[^ ]*5boost[^ ]*\) .*/\1/p' | sort -u >"$folder/names"
    [[ -s $folder/names ]] || continue
    { sed 's/.*/.globl "&"\n"&":/' "$folder/names" && printf '.space 64\n.section .note.GNU-stack,"",%%progbits\n'; } >"$folder/boost.s"
    # shellcheck disable=SC2046,SC2086 # flags are words
    "$CXX" -std=c++20 $CXXFLAGS -rdynamic $(pkg-config --cflags aiocxx-http) "$here/http.cpp" "$folder/boost.s" \
        $(pkg-config --libs aiocxx-http) -o "$folder/another_boost"
    "$folder/another_boost"
done

if [[ ! ${PREFIX-} ]]; then
    echo "== find_package(aiocxx) in the build folder"
    "${configure[@]}" "${options[@]}" -Daiocxx_DIR="$built" -B "$folder/uninstalled"
    "$cmake" --build "$folder/uninstalled" --target consumer_core
    "$folder/uninstalled/consumer_core"
fi
