#!/usr/bin/env bash
# Usage: tests/quickstart/check.sh BUILD_FOLDER
# Does what docs/quickstart.md says, in an empty folder: writes each file (a block below a line that is `NAME`:), runs each line of
# the console blocks that begins with "$ ", and compares what it prints on stdout with the lines below it, if there are any.
# Three things differ: packages are only looked up in ./dev, the compiler is CXX, and BUILD_FOLDER is installed, not a new build.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
built=$(cd "$1" && pwd)
cxx=${CXX:-clang++-19}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
ln -s "$root" aiocxx

fail() { echo "docs/quickstart.md: $*" >&2; exit 1; }

run() { # run COMMAND EXPECTED_OUTPUT
    local command=$1 package
    echo "\$ $command"
    case $command in
        "sudo apt-get install "*)
            for package in ${command#sudo apt-get install }; do
                [[ $package == clang-19 ]] || grep -qw -- "$package" "$root/dev" || fail "./dev does not know the package $package"
            done
            return ;;
        "export CXX="*) export CXX=$cxx; return ;;
        "cmake --build aiocxx-build") return ;;
        "cmake --install aiocxx-build "*) command=${command/aiocxx-build/\"\$built\"} ;;
    esac
    eval "$command" >"$folder/stdout" 2>"$folder/stderr" || { cat "$folder/stdout" "$folder/stderr"; fail "this failed: $command"; }
    [[ ! $2 ]] || diff <(printf '%s' "$2") "$folder/stdout" || fail "this prints something else: $command"
}

commands=0 files=0 kind='' name='' command='' expected=''
while IFS= read -r line <&3; do
    if [[ $kind == console ]]; then
        if [[ $line == '```' || $line == '$ '* ]]; then
            [[ ! $command ]] || { run "$command" "$expected"; commands=$((commands + 1)); }
            command='' expected=''
            if [[ $line == '```' ]]; then kind=''; else command=${line#'$ '}; fi
        else
            expected+=$line$'\n'
        fi
    elif [[ $kind == file ]]; then
        if [[ $line == '```' ]]; then kind='' name='' files=$((files + 1)); else printf '%s\n' "$line" >>"$name"; fi
    elif [[ $line == '```console' ]]; then
        kind=console
    elif [[ $line == '```'* ]]; then
        [[ $name ]] || fail "a block without a file name: $line"
        kind=file
    elif [[ $line =~ ^\`([a-zA-Z_.]+)\`:$ ]]; then
        name=${BASH_REMATCH[1]}
    fi
done 3<"$root/docs/quickstart.md"
((commands >= 12 && files == 4)) || fail "only $commands commands and $files files were found"
