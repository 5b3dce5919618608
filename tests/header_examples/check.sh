#!/usr/bin/env bash
# Usage: check.sh COMPILER SOURCE_FOLDER: compiles the examples in the opening comments of all public headers (fault C15).
set -euo pipefail
compiler=$1 source=$2
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$source"
flags=(-std=c++20 -fsyntax-only -DAIO_ALLOW_GCC_12 -Iinclude)

headers=(include/aio/*.hpp include/aio/http/*.hpp include/aio/sql/*.hpp include/aio/jetstream/*.hpp)
if ! echo '#include <nlohmann/json.hpp>' | "$compiler" -std=c++20 -fsyntax-only -x c++ - 2>/dev/null; then
    headers=("${headers[@]/include\/aio\/*_json.hpp/}")
fi
# shellcheck disable=SC2068 # no name has a space, and an empty one has to vanish
perl "$here/extract.pl" ${headers[@]} > "$folder/examples.cpp"
grep -q 'namespace example_3' "$folder/examples.cpp" || { echo "no examples were found"; exit 1; }
"$compiler" "${flags[@]}" -w "-I$here" "$folder/examples.cpp"
