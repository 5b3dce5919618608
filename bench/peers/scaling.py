"""What a second thread brings an HTTP server: ours, Go's and tokio's. ./dev bench --scaling calls this; ../README.md says more."""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

from compare import Problem, build, build_crate, machine, output_of, say, short, tool  # noqa: E402
from servers import START_TIMEOUT, cpu_seconds, free_port  # noqa: E402

HANDLERS = ("plaintext", "json", "sqlite")


def build_go(options):
    folder = (options.build_dir / "go").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"GOCACHE": str(folder / "cache"), "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    build([tool("go"), "build", "-o", folder / "scaling", "."], cwd=HERE / "go/scaling", env=environment)
    return folder / "scaling"


def build_tokio(options):
    program, _ = build_crate(options, options.build_dir.resolve() / "tokio/scaling", HERE / "tokio/scaling", "scaling_server", "hyper")
    return program


@contextlib.contextmanager
def running(command, port, threads):
    with tempfile.TemporaryFile("w+") as errors:
        environment = os.environ | {"GOMAXPROCS": str(threads)}
        server = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if server.poll() is not None or time.monotonic() > deadline:
                    errors.seek(0)
                    raise Problem(f"did not start: {errors.read()[-300:].strip()}")
                time.sleep(0.05)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.send_signal(signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def measure(options, server, handler, threads):
    """Gives the requests in a second, and those in a second of the server's processor time."""
    port = free_port()
    with running(options.programs[server](port, threads), port, threads) as process:
        before = cpu_seconds([process.pid])
        printed = output_of("wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", f"http://127.0.0.1:{port}/{handler}")
        used = cpu_seconds([process.pid]) - before
    if re.search(r"Non-2xx|Socket errors", printed):
        raise Problem(f"{server}: {printed}")
    requests = int(re.search(r"(\d+) requests in", printed)[1])
    return requests / options.seconds, requests / used


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--handlers", default=",".join(HANDLERS), help="of %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each (%(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="how long a run takes (%(default)s)")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--aiocxx", type=pathlib.Path, required=True, help="our program, scaling_server")
    parser.add_argument("--build-dir", type=pathlib.Path, default=pathlib.Path("build/peers"), help="where the peers are built")
    parser.add_argument("--cargo-registry", type=pathlib.Path, default=pathlib.Path("/usr/share/cargo/registry"), help="where crates are")
    options = parser.parse_args()
    ours = options.aiocxx.resolve()
    options.programs = {
        "aiocxx": lambda port, threads: [ours, port, threads],
        "epoll": lambda port, threads: ["env", "AIO_BACKEND=epoll", ours, port, threads],
    }
    for name, make, arguments in (("go", build_go, 1), ("tokio", build_tokio, 2)):
        try:
            program = make(options)
            options.programs[name] = lambda port, threads, p=program, n=arguments: [p, port, threads][: n + 1]
        except Problem as problem:
            print(f"{name}: left out: {problem}")
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, {about['kernel']}, {about['date']}, load {about['load']:.2g}\n")
    print(f"{'':22}{'us of processor time a request':>32}{'a second thread brings':>36}")
    print(f"{'':22}{'1 thread':>16}{'2 threads':>16}{'by processor time':>22}{'by the clock':>14}")
    for handler in options.handlers.split(","):
        found = {}
        for number in range(options.rounds):
            say(f"{handler}: round {number + 1} of {options.rounds}")
            for server in options.programs:
                if handler == "sqlite" and server in ("go", "tokio"):
                    continue
                for threads in (1, 2):
                    found.setdefault((server, threads), []).append(measure(options, server, handler, threads))
        for server in dict.fromkeys(name for name, _ in found):
            one, two = found[server, 1], found[server, 2]
            efficiency = [2 * b[1] / a[1] for a, b in zip(one, two)]
            clock = [b[0] / a[0] for a, b in zip(one, two)]
            cost = [1e6 / statistics.median(per for _, per in runs) for runs in (one, two)]
            print(
                f"{handler:12}{server:10}{short(cost[0]):>16}{short(cost[1]):>16}"
                f"{statistics.median(efficiency):>9.2f}  ({min(efficiency):.2f}-{max(efficiency):.2f}){statistics.median(clock):>11.2f}"
            )
    print(f"\nMedians of {options.rounds} interleaved runs; least and most in brackets. By processor time: requests a second of the server's")
    print("processor time with 2 threads, over those with 1, times 2. 2.00: a request costs the same, whatever other threads do.")


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"scaling.py: {problem}")
