#!/usr/bin/env bash
# Usage: check.sh COMPILER INCLUDE_FOLDER FILE: a program that misuses the library, or is just right, and what its compiler says.
# The first lines of FILE are the expectation:
#   // error: TEXT      it does not compile, and the first error is TEXT (a part of it)
#   // warning: TEXT    it compiles, and a warning is TEXT
#   // clean            it compiles without a warning
#   // flags: FLAG...   further flags of the compiler, behind the usual ones; @folder@ is where FILE is
#   // only: clang|g++  what another compiler says does not matter
#   // fault P10        the fault that strangers found, where there is one
set -euo pipefail
compiler=$1 include=$2 file=$3
most_errors=4 # so many may follow from the first; more would hide it

first() { sed -n "s|^// $1: *||p" "$file" | head -1; }
if "$compiler" --version | grep -q clang; then kind=clang; else kind=g++; fi
only=$(first only)
if [[ $only && $only != "$kind" ]]; then
    echo "skipped: it concerns $only alone, and this is $kind"
    exit 77
fi

read -r -a flags <<<"$(first flags | sed "s,@folder@,$(dirname "$file"),g")"
rc=0
output=$("$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -DAIO_ALLOW_GCC_12 -I"$include" "${flags[@]}" "$file" 2>&1) || rc=$?

fail() {
    echo "$file: $*"
    echo "---- the compiler said:"
    head -60 <<<"$output"
    exit 1
}
errors=$(grep -E '(^|: )(fatal )?error: ' <<<"$output" || true)
if expected=$(first error) && [[ $expected ]]; then
    ((rc)) || fail "it compiles; expected the error: $expected"
    # An error that calls a deleted function shows its reason where the compiler knows of reasons (clang 19), else its line.
    if ! head -1 <<<"$errors" | grep -qF -- "$expected"; then
        [[ $kind == g++ ]] && head -1 <<<"$errors" | grep -q 'use of deleted function' && grep -qF -- "$expected" <<<"$output" ||
            fail "the first error is not: $expected"
    fi
    (($(wc -l <<<"$errors") <= most_errors)) || fail "more than $most_errors errors"
elif expected=$(first warning) && [[ $expected ]]; then
    ((rc == 0)) || fail "it does not compile; expected the warning: $expected"
    grep 'warning: ' <<<"$output" | grep -qF -- "$expected" || fail "there is no warning: $expected"
elif grep -q '^// clean' "$file"; then
    [[ $rc == 0 && ! $output ]] || fail "expected neither an error nor a warning"
else
    fail "it has no line // error:, // warning: or // clean"
fi
