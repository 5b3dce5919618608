#!/usr/bin/env bash
# Usage: check.sh COMPILER INCLUDE_FOLDER FILE
# Compiles FILE, a program that uses the library wrongly or rightly, and compares what the compiler says with what FILE expects.
# The first lines of FILE are the expectation:
#   // error: TEXT      it does not compile, and the first error is TEXT (a part of it)
#   // warning: TEXT    it compiles, and a warning is TEXT
#   // clean            it compiles without a warning
#   // flags: FLAG...   further flags for the compiler, after the usual ones; @folder@ is the folder of FILE
#   // only: clang|g++  the file is compiled by this compiler alone
#   // fault P10        the reported fault that FILE tests, if there is one
set -euo pipefail
compiler=$1 include=$2 file=$3
most_errors=4 # a few more may follow from the first error; many would hide it

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
    # For a call of a deleted function clang 19 prints the reason that is given; g++ prints the line with the reason.
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
