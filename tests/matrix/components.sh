#!/usr/bin/env bash
# Usage: tests/matrix/components.sh BUILD_FOLDER
# Installs components alone, and checks what find_package finds, and which sentence it says if something is missing. Uses CXX.
set -euo pipefail
built=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fault() { echo "fault P12: $*"; exit 1; }
configure() { # configure COMPONENT...: a project that asks for these
    printf '%s\n' 'cmake_minimum_required(VERSION 3.25)' 'project(p LANGUAGES CXX)' 'set(AIO_ALLOW_GCC_12 ON)' \
        "find_package(aiocxx REQUIRED COMPONENTS $*)" >"$folder/CMakeLists.txt"
    rm -rf "$folder/build"
    cmake -G Ninja -S "$folder" -B "$folder/build" -DCMAKE_PREFIX_PATH="$folder/prefix" >"$folder/log" 2>&1
}
refused() { # refused WORDS COMPONENT...
    local words=$1
    shift
    if configure "$@"; then fault "COMPONENTS $* was not refused"; fi
    tr -s ' \n' ' ' <"$folder/log" | grep -qF -- "$words" || { cat "$folder/log"; fault "COMPONENTS $* does not say: $words"; }
}
install() { cmake --install "$built" --prefix "$folder/prefix" --component "$1" >/dev/null; }

install core
refused "Could not find a package configuration file" core # the libraries alone are for programs that were built already
install core-dev
configure core || { cat "$folder/log"; fault "core-dev alone is not enough"; }
refused "aio::http is not installed here" core http
refused "aiocxx has no component banana" core banana
if [[ -e $built/aiocxx-sql.cmake ]]; then
    install sql
    refused "aio::sql is not installed here" sql
    install sql-dev
    configure sql || { cat "$folder/log"; fault "sql-dev beside core-dev is not enough"; }
fi
echo "each component is found, or missed in a sentence"
