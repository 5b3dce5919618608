"""What a request costs our HTTP server and its peers, in one run and one table. ./dev bench --http calls this; ../README.md says more."""

import argparse
import contextlib
import json
import os
import pathlib
import random
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

from compare import Certificate, Problem, build, machine, output_of, run_script, say, short, times, tool  # noqa: E402

START_TIMEOUT = 20
TICKS = os.sysconf("SC_CLK_TCK")

# ---- the loads: each is run against a server, and gives how many requests were answered


def wrk(options, scheme, port):
    printed = output_of("wrk", "-t1", "-c64", f"-d{options.seconds}s", f"{scheme}://127.0.0.1:{port}/")
    if re.search(r"Non-2xx|Socket errors", printed):
        raise Problem(" ".join(line.strip() for line in printed.splitlines() if "Non-2xx" in line or "Socket" in line))
    return int(re.search(r"(\d+) requests in", printed)[1])


def h2load(options, scheme, port):
    printed = output_of("h2load", "-t1", "-c10", "-m100", f"-D{options.seconds}", f"{scheme}://127.0.0.1:{port}/")
    total, succeeded, failed = (int(re.search(rf"(\d+) {word}", printed)[1]) for word in ("total", "2xx", "failed"))
    if failed or succeeded == 0:
        raise Problem(f"h2load: {total} requests, {succeeded} answered, {failed} failed")
    return succeeded


def websockets(options, scheme, port):
    printed = output_of(options.aiocxx.with_name("websocket_load"), str(port), str(options.seconds))
    return json.loads(printed)["messages"]


class Row:
    def __init__(self, name, title, load, tls=False):
        self.name, self.title, self.load, self.tls = name, title, load, tls
        self.scheme = "https" if tls else "http"


ROWS = [
    Row("S1", "hello, world: HTTP/1.1, 64 connections", wrk),
    Row("S1t", "the same over TLS", wrk, tls=True),
    Row("S2", "HTTP/2, 10 connections, 100 streams each", h2load),
    Row("S2t", "the same over TLS", h2load, tls=True),
    Row("S3", "WebSocket: an echo, 64 connections", websockets),
]

# ---- the servers: a function gives the command that listens on a port, or throws the Problem with it


def aiocxx(options, row, port, files):
    return [options.aiocxx, str(port), *(files if row.tls else [])]


def epoll(options, row, port, files):
    return ["env", "AIO_BACKEND=epoll", *aiocxx(options, row, port, files)]


def nginx(options, row, port, files):
    if row.name == "S3":
        raise Problem("not offered: nginx passes WebSockets on, and ends none")
    ssl = f"ssl_certificate {files[0]}; ssl_certificate_key {files[1]};" if row.tls else ""
    how = (" ssl" if row.tls else "") + (" http2" if row.load is h2load else "")
    folder = pathlib.Path(files[0]).parent
    user = "user nobody nogroup;" if os.geteuid() == 0 else ""
    settings = folder / f"nginx-{port}.conf"
    settings.write_text(
        f"{user} daemon off; pid {folder}/pid-{port}; worker_processes 1; events {{ worker_connections 1000; }}\n"
        "http { access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; http2_max_concurrent_streams 1000;\n"
        + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        + f"server {{ listen 127.0.0.1:{port}{how} backlog=1000; {ssl} default_type text/plain;\n"
        'location / { return 200 "hello, world\\n"; } } }\n'
    )
    return [tool("nginx"), "-e", f"{folder}/log-{port}", "-c", settings]


def go(options, row, port, files):
    if row.load is h2load and not row.tls:
        raise Problem("not offered: net/http speaks HTTP/2 over TLS alone")
    return [options.go_server, str(port), *(files if row.tls else [])]


def aiohttp(options, row, port, files):
    if row.load is h2load:
        raise Problem("not offered: aiohttp has no HTTP/2")
    return [tool("python3"), HERE / "asyncio/server.py", str(port), *(files if row.tls else [])]


SERVERS = {"aiocxx": aiocxx, "epoll": epoll, "nginx": nginx, "go": go, "aiohttp": aiohttp}


def build_go(options, name, *flags):
    """Debian packages Go's libraries for a GOPATH, not as modules."""
    folder = options.build_dir.resolve() / "go"
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"GOCACHE": str(folder / "cache"), "GO111MODULE": "off", "GOPATH": str(options.go_code), "GOFLAGS": ""}
    build([tool("go"), "build", *flags, "-o", folder / name, "."], cwd=HERE / "go" / name, env=environment)
    return folder / name


# ---- running


def family(pid):
    """The process and its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            found += [int(child) for child in pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return found


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def free_port():
    while True:
        port = random.randint(20000, 29999)  # below the range of outgoing connections
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


@contextlib.contextmanager
def running(command, port, threads=1):
    """Runs a server that listens on the port; Go's has so many threads."""
    environment = os.environ | {"GOMAXPROCS": str(threads)}
    errors = tempfile.TemporaryFile("w+")
    server = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                              env=environment, start_new_session=True)
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
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        errors.close()


def measure(options, row, name, files, cores):
    """Microseconds of the server's processor time for a request."""
    port = free_port()
    os.sched_setaffinity(0, {cores[0]})  # inherited by the server
    with running(SERVERS[name](options, row, port, files), port) as server:
        os.sched_setaffinity(0, set(cores[1:] or cores))  # inherited by the load
        pids = family(server.pid)
        before = cpu_seconds(pids)
        requests = row.load(options, row.scheme, port)
        return (cpu_seconds(pids) - before) / requests * 1e6


def run_all(options, rows, files):
    cores = sorted(os.sched_getaffinity(0), reverse=True)
    results, problems = {}, {}
    for row in rows:
        for number in range(options.rounds):
            say(f"{row.name}: round {number + 1} of {options.rounds}")
            for name in options.servers:
                if (row.name, name) in problems:
                    continue
                try:
                    taken = measure(options, row, name, files, cores)
                    results.setdefault((row.name, name), []).append(taken)
                except Problem as problem:
                    problems[row.name, name] = str(problem)
    os.sched_setaffinity(0, set(cores))
    return results, problems


def print_table(options, rows, results, problems):
    width = 17
    print(f"{'':52}" + "".join(f"{name:>{width}}" for name in options.servers))
    for row in rows:
        own = results.get((row.name, "aiocxx"))
        ours = statistics.median(own) if own else None
        middle = spread = ""
        for name in options.servers:
            found = results.get((row.name, name))
            if not found or (row.name, name) in problems:
                middle, spread = middle + f"{'-':>{width}}", spread + " " * width
                continue
            median = statistics.median(found)
            middle += f"{short(median):>{width - 7}}{'' if name == 'aiocxx' or ours is None else times(median / ours):>7}"
            spread += f"{short(min(found)) + '-' + short(max(found)):>{width}}"
        print(f"{row.name:5}{row.title + ', us':47}{middle}\n{'':52}{spread}")
    print(f"\nThe server's processor time for a request: median of {options.rounds} runs, least and most below it. 2x: twice ours.")
    for (row, name), problem in problems.items():
        print(f"{row} {name}: {problem}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="S1,S2", help="these rows alone")
    parser.add_argument("--servers", metavar="nginx,go", help="these servers alone, beside aiocxx")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (%(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="how long a run takes (%(default)s)")
    parser.add_argument("--aiocxx", type=pathlib.Path, required=True, help="our program, http_server")
    parser.add_argument("--build-dir", type=pathlib.Path, default=pathlib.Path("build/peers"), help="where the peers are built")
    parser.add_argument("--go-code", type=pathlib.Path, default=pathlib.Path("/usr/share/gocode"), help="where Go's packages are")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [row.name for row in ROWS]
    rows = [row for row in ROWS if row.name in wanted]
    chosen = options.servers.split(",") if options.servers else list(SERVERS)
    options.servers = [name for name in SERVERS if name == "aiocxx" or name in chosen]
    options.aiocxx = options.aiocxx.resolve()
    if "go" in options.servers:
        try:
            options.go_server = build_go(options, "server")
        except Problem as problem:
            print(f"go: left out: {problem}")
            options.servers.remove("go")
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, {about['kernel']}, {about['date']}, load {about['load']:.2g}")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        certificate = Certificate(folder).path()
        results, problems = run_all(options, rows, [str(certificate / "cert.pem"), str(certificate / "key.pem")])
    print_table(options, rows, results, problems)


if __name__ == "__main__":
    run_script(main)
