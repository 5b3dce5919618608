"""What a second thread brings an HTTP server: ours, Go's and tokio's. ./dev bench --scaling calls this; ../README.md says more."""

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import re
import sqlite3
import statistics
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

from compare import Problem, build_crate, first_line_of, machine, output_of, run_script, say, short, tool  # noqa: E402
from servers import cpu_seconds, build_go, free_port, running  # noqa: E402

ITEMS = [{"id": i, "name": f"item {i}", "sold": i % 2 == 0} for i in range(100)]
EXPECTED = {
    "plaintext": ("text/plain", "hello, world\n"),
    "json": ("application/json", json.dumps(ITEMS, separators=(",", ":"))),
    "sqlite": ("text/plain", "".join(f"item {i}\n" for i in range(501, 551))),
}
THREADS = (1, 2)


@dataclasses.dataclass
class Run:
    rate: float  # requests in a second
    cost: float  # microseconds of the server's processor time for a request
    busy: float  # share of the machine's processor time in which something ran


def make_database(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        database.executemany("INSERT INTO items VALUES (?, ?)", [(i, f"item {i}") for i in range(1, 1001)])
        database.commit()


def check(server, port, handler):
    """All servers give the same answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/{handler}")
        answer = connection.getresponse()
        got = answer.status, answer.getheader("Content-Type"), answer.read().decode()
        chunked = answer.getheader("Transfer-Encoding")
    if got != (200, *EXPECTED[handler]) or chunked:
        raise Problem(f"{server}: /{handler} is answered with {got}, {chunked}")


def processor_ticks():
    """Of the whole machine: busy, and all."""
    ticks = list(map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]))
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def wrk(options, port, handler, connections):
    """Gives the number of requests that were answered."""
    url = f"http://127.0.0.1:{port}/{handler}"
    printed = output_of(tool("wrk"), "-t2", f"-c{connections}", f"-d{options.seconds}s", url)
    if re.search(r"Non-2xx|Socket errors", printed):
        raise Problem(f"wrk: {printed}")
    return int(re.search(r"(\d+) requests in", printed)[1])


def measure(options, server, handler, threads):
    port = free_port()
    with running(options.programs[server](port, threads), port, threads) as process:
        check(server, port, handler)
        used, (busy, all_of_it) = cpu_seconds([process.pid]), processor_ticks()
        requests = wrk(options, port, handler, options.connections * threads)
        used, after = cpu_seconds([process.pid]) - used, processor_ticks()
    return Run(requests / options.seconds, used / requests * 1e6, (after[0] - busy) / (after[1] - all_of_it))


def print_row(handler, server, found):
    def ratio(value):
        ratios = [value(*runs) for runs in zip(*found.values())]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"

    costs = "".join(f"{short(statistics.median(run.cost for run in found[threads])):>12}" for threads in THREADS)
    busy = statistics.median(run.busy for run in found[2])
    print(
        f"{handler:10} {server:8}{costs}{busy:>8.0%}"
        f"{ratio(lambda one, two: 2 * one.cost / two.cost * two.busy):>22}{ratio(lambda one, two: two.rate / one.rate):>22}",
        flush=True,
    )


def make_programs(options):
    ours = options.aiocxx.resolve()
    options.programs = {
        "aiocxx": lambda port, threads: [ours, port, threads, options.database],
        "epoll": lambda port, threads: ["env", "AIO_BACKEND=epoll", ours, port, threads, options.database],
    }
    try:
        go = build_go(options, "scaling", "-tags", "libsqlite3")
        options.programs["go"] = lambda port, threads: [go, port, options.database]
        print(f"  go       {output_of(tool('go'), 'version').removeprefix('go version ')}")
    except Problem as problem:
        print(f"  go       LEFT OUT: {problem}")
    try:
        tokio, version = build_crate(options, options.build_dir.resolve() / "tokio/scaling", HERE / "tokio/scaling", "scaling_server", "hyper")
        options.programs["tokio"] = lambda port, threads: [tokio, port, threads, options.database]
        print(f"  tokio    {version}, {output_of(tool('rustc'), '--version')}, LTO")
    except Problem as problem:
        print(f"  tokio    LEFT OUT: {problem}")


def main():
    parser = argparse.ArgumentParser(prog="dev bench --scaling", description=__doc__)
    parser.add_argument("--handlers", default=",".join(EXPECTED), help="of %(default)s")
    parser.add_argument("--servers", default="aiocxx,epoll,go,tokio", help="of %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each (%(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="how long a run takes (%(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="for each thread of the server (%(default)s)")
    parser.add_argument("--aiocxx", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cxx", default="c++", help=argparse.SUPPRESS)
    parser.add_argument("--build-dir", type=pathlib.Path, default=HERE.parent.parent / "build/peers", help=argparse.SUPPRESS)
    parser.add_argument("--go-code", type=pathlib.Path, default=pathlib.Path("/usr/share/gocode"), help="where Go's packages are")
    parser.add_argument("--cargo-registry", type=pathlib.Path, default=pathlib.Path("/usr/share/cargo/registry"), help="where crates are")
    options = parser.parse_args()
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, {about['kernel']}, {about['date']}, load {about['load']:.2g}")
    print(f"  aiocxx   {first_line_of(options.cxx)}")
    make_programs(options)
    servers = [name for name in options.servers.split(",") if name in options.programs]
    print(f"\n{'':19}{'us of processor time a request':>32}{'what a second thread brings':>44}")
    print(f"{'':19}{'1 thread':>12}{'2 threads':>12}{'busy':>8}{'by processor time':>22}{'by the clock':>22}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        options.database = pathlib.Path(folder) / "items.db"
        make_database(options.database)
        for handler in options.handlers.split(","):
            found = {server: {threads: [] for threads in THREADS} for server in servers}
            for number in range(options.rounds):
                say(f"{handler}: round {number + 1} of {options.rounds}")
                for server in servers:  # interleaved, so that what disturbs the machine disturbs all
                    for threads in THREADS:
                        found[server][threads].append(measure(options, server, handler, threads))
            for server in servers:
                print_row(handler, server, found[server])


if __name__ == "__main__":
    run_script(main)
