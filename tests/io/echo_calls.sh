#!/usr/bin/env bash
# Usage: echo_calls.sh PROGRAM BACKEND: an echo round trip takes three system calls on either side with epoll: one that reads, one that
# writes, and a poll; with io_uring it takes the poll alone. Counts all calls of both sides with strace, for 100 and for 1,100 round trips.
set -euo pipefail
program=$1
export AIO_BACKEND=$2
if [[ $AIO_BACKEND == epoll ]]; then expected=3000; else expected=1000; fi
folder=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT

if ! strace -o "$folder/try" true 2>/dev/null; then
    echo "SKIPPED: strace is missing, or may trace no process here"
    exit 77
fi

# calls TIMES: writes the traces server.TIMES and client.TIMES.
calls() {
    mkfifo "$folder/port.$1"
    timeout 60 strace -f -qq -o "$folder/server.$1" "$program" >"$folder/port.$1" &
    server=$!
    read -r -t 60 port <"$folder/port.$1"
    timeout 60 strace -f -qq -o "$folder/client.$1" "$program" "$port" "$1"
    wait "$server"
    server=
}
calls 100
calls 1100

failed=0
for side in server client; do
    more=$(($(wc -l <"$folder/$side.1100") - $(wc -l <"$folder/$side.100")))
    echo "$side: $more calls more for 1,000 round trips more"
    sed -E 's/^[0-9]+ +//; s/\(.*//' "$folder/$side.1100" | sort | uniq -c | sort -rn | head -4
    # A loop that has nothing to do wakes up once a second, and under load a poll may come before the peer has answered.
    if ((more < expected - 100 || more > expected + 100)); then failed=1; fi
done
exit $failed
