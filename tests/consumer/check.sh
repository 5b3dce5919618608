#!/usr/bin/env bash
# Usage: tests/consumer/check.sh BUILD_FOLDER
# Installs that build into a folder of its own and builds and runs the consumer against it, twice: through find_package
# and through pkg-config. Uses CXX and CXXFLAGS.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$1
cmake=${CMAKE_COMMAND:-cmake}
export CXX=${CXX:-c++} CXXFLAGS=${CXXFLAGS:-}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$cmake" --install "$build" --prefix "$folder/prefix" >"$folder/install.log" || { cat "$folder/install.log"; exit 1; }

echo "== find_package(aiocxx)"
"$cmake" -G Ninja -S "$here" -B "$folder/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$folder/prefix"
"$cmake" --build "$folder/build"
"$folder/build/consumer_core"
"$folder/build/consumer_aio"

echo "== pkg-config"
modules=$(dirname "$(find "$folder/prefix" -name aiocxx.pc)")
export PKG_CONFIG_PATH=$modules${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export LD_LIBRARY_PATH=${modules%/pkgconfig}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
for module in "$modules"/*.pc; do
    name=$(basename "$module" .pc)
    # shellcheck disable=SC2046,SC2086 # flags are words
    "$CXX" -std=c++20 -Wall -Wextra $CXXFLAGS $(pkg-config --cflags "$name") "$here/main.cpp" \
        $(pkg-config --libs "$name") -o "$folder/$name"
    "$folder/$name"
done
