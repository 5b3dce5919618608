#!/usr/bin/env bash
# Usage: check.sh CODING_RULES: aiocxx-check reports each line of cases.cpp by the rule that its comment names, and no other line.
set -euo pipefail
cd "$(dirname "$0")"
expected=$(sed -nE 's|.*// (R[0-9]+)$|\1|;T;=;p' cases.cpp | paste -d: - - | sort -u)
said=$({ perl "$1" cases.cpp || true; } | sed -nE 's|^[^:]*:([0-9]+): (R[0-9]+):.*|\1:\2|p' | sort -u)
[[ $expected ]] || { echo "cases.cpp names no rule"; exit 1; }
diff <(echo "$expected") <(echo "$said") || { echo "<: expected, >: reported"; exit 1; }
