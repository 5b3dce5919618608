"""The same workloads in aiocxx and in its peers, in one run and one table. ./dev bench --peers calls this; ../README.md says how to read it."""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import platform
import random
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True

import svg  # noqa: E402
from svg import short  # noqa: E402

NOT_OFFERED = 3  # exit status of a program that has no such workload; its reason is on stderr
BUILD_TIMEOUT = 900
SERVER_TIMEOUT = 120  # seconds until a server is there, and until it is gone


class Problem(Exception):
    """The reason why something is left out."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run_script(main):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped
    try:
        sys.exit(main())
    except Problem as problem:
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {problem}")


# ---- what is measured


@dataclasses.dataclass
class Workload:
    name: str
    title: str
    cores: int = 1
    program: str = ""  # the name in the programs, if it is another one
    wall: bool = False  # waits for other threads or the clock, so its time is the wall's
    server: str = ""  # the server of this client, which has the other cores; the time is always the client's processor time


WORKLOADS = [
    Workload("W1", "spawn and join a task"),
    Workload("W2", "cooperative yield, 2 tasks"),
    Workload("W3", "ping-pong over two events"),
    Workload("W4", "queue of 10, 4 consumers"),
    Workload("W5", "lock, 100 tasks, a yield inside"),
    Workload("W6a", "sleeping tasks", wall=True),
    Workload("W6m", "the memory they take", wall=True, program="W6a"),
    Workload("W6b", "timeout that never fires"),
    Workload("W7", "nested await"),
    Workload("W7r", "nested awaits, 100 deep"),
    Workload("W8", "async generator, an item"),
    Workload("W9", "thread pool and back, 2 cores", cores=2, wall=True),
    Workload("W10", "TCP echo, 100 connections"),
    Workload("W10t", "the same over TLS"),
    Workload("W11", "start, cancel, join a task"),
    Workload("W12", "lines of a large file", wall=True),
    Workload("W13", "HTTP GET, 100 at once: the client", server="nginx"),
    Workload("W14", "SQL query, 10 at once: the client", server="PostgreSQL"),
]
TAIL = Workload("tail", "lateness of a 1 ms tick", wall=True)


@dataclasses.dataclass
class Row:
    """One line of the table: a figure taken from the runs of a workload."""

    workload: str
    title: str
    unit: str
    value: object  # the figure of one run
    more_is_better: bool = False


def nanoseconds(workload, time_of):
    field = "seconds" if workload.wall or (time_of == "wall" and not workload.server) else "cpu_seconds"
    return lambda run: run[field] / run["operations"] * 1e9


def rows_of(workload, time_of):
    if workload.name == "W6a":
        return [Row("W6a", "a million sleep 1 s: above it", "ms", lambda run: (run["seconds"] - 1) * 1e9 / run["operations"])]
    if workload.name == "W6m":
        return [Row("W6m", "a sleeping task takes", "bytes", lambda run: run["bytes_per_task"])]
    if workload.name == "W12":
        return [Row("W12", workload.title, "MB/s", lambda run: run["bytes"] / run["seconds"] / 1e6, True)]
    if workload.name == "tail":
        return [
            Row("tail", "lateness, median", "us", lambda run: run["p50_us"]),
            Row("tail", "lateness, 99 %", "us", lambda run: run["p99_us"]),
            Row("tail", "lateness, 99.9 %", "us", lambda run: run["p999_us"]),
            Row("tail", "a step of a busy task", "ns", lambda run: run["seconds"] / run["yields"] * 1e9),
        ]
    rows = [Row(workload.name, workload.title, "ns", nanoseconds(workload, time_of))]
    if workload.name == "W9":
        # The wall's time is mostly the time that an idle core takes to wake up. The processor time is what the work costs.
        rows.append(Row("W9", "the same, processor time", "ns", lambda run: run["cpu_seconds"] / run["operations"] * 1e9))
    return rows


# ---- the programs


def output_of(*command, **options):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(str(error)) from None
    if done.returncode:
        raise Problem(last_lines(done.stderr) or f"{command[0]} failed")
    return done.stdout.strip()


def last_lines(text, count=3):
    """The first error in a text, or else its last lines, without colours, as one line."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b|^\w+Error: ", line)]
    return "; ".join((errors[:1] or lines[-count:]))[:500]


def tool(name):
    """The tool that the environment names (CARGO, RUSTC, GO, PYTHON3), or else the system's, or the first on the path."""
    chosen = os.environ.get(name.upper())
    for candidate in (chosen,) if chosen else (f"/usr/bin/{name}", name):
        if path := shutil.which(candidate):
            return path
    raise Problem(f"there is no {chosen or name} here")


def build(command, **options):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(str(error)) from None
    if done.returncode:
        raise Problem(last_lines(done.stderr + done.stdout) or f"{command[0]} failed with status {done.returncode}")


@dataclasses.dataclass
class Peer:
    """A runtime to compare: command(workload) is the program that runs a workload; its name and the operations are added."""

    name: str
    version: str
    command: object
    clients: dict = dataclasses.field(default_factory=dict)  # for each workload with a server: the Client, or the Problem with it

    def program(self, workload):
        client = self.clients.get(workload.name)
        if isinstance(client, Problem):
            raise Problem(f"left out: {client}")
        return client.command if client else self.command(workload)

    def versions(self):
        named = [f"{name} {client.version}" for name, client in self.clients.items() if getattr(client, "version", "")]
        return "; ".join([self.version, *named])


@dataclasses.dataclass
class Client:
    """The program of a workload with a server, and the library that it uses."""

    version: str
    command: list


def clients_of(options, **makers):
    """Makes the clients that are wanted. A client that cannot be made is left out, and the others are not."""
    clients = {}
    for name, make in makers.items():
        if name not in options.wanted:
            continue
        try:
            clients[name] = make()
        except Problem as problem:
            clients[name] = problem
    return clients


def make_aiocxx(options):
    if not options.aiocxx.exists():
        raise Problem(f"{options.aiocxx} is not built")

    def client():
        program = options.aiocxx.with_name("io_workload")
        if not program.exists():
            raise Problem(f"{program} is not built")
        return Client("", [program])

    version = "of this folder"
    try:
        changed = output_of("git", "status", "--porcelain", "--untracked-files=no", cwd=ROOT)
        version = output_of("git", "rev-parse", "--short", "HEAD", cwd=ROOT) + (" and changes" if changed else "")
    except Problem:
        pass
    clients = clients_of(options, W13=client, W14=client)
    return Peer("aiocxx", f"{version}, {first_line_of(options.cxx)}, -O3", lambda workload: [options.aiocxx], clients)


def make_epoll(options):
    """aiocxx once more, on epoll: what it is without io_uring, as on an old kernel or in a container that forbids it."""
    ours = make_aiocxx(options)
    command = ["env", "AIO_BACKEND=epoll"]

    def program(workload):
        if workload.name not in ("W10", "W10t", "W12"):
            raise Problem("not offered: it waits for no descriptor")
        return [*command, options.aiocxx]

    clients = {name: Client("", [*command, *client.command]) for name, client in ours.clients.items() if isinstance(client, Client)}
    return Peer("epoll", "aiocxx on epoll", program, clients)


def first_line_of(compiler):
    return output_of(compiler, "--version").splitlines()[0]


def module_version(python, name):
    return output_of(python, "-c", f"import {name}; print({name}.__version__)")


def python_clients(options, python, command):
    def client_with(module):
        return lambda: Client(f"{module} {module_version(python, module)}", command)

    return clients_of(options, W13=client_with("aiohttp"), W14=client_with("asyncpg"))


def make_asyncio(options):
    python = tool("python3")
    command = [python, HERE / "asyncio/workload.py"]
    return Peer("asyncio", output_of(python, "--version"), lambda workload: command, python_clients(options, python, command))


def make_uvloop(options):
    python = tool("python3")
    command = [python, HERE / "asyncio/workload.py", "--uvloop"]
    version = module_version(python, "uvloop")
    return Peer("uvloop", f"uvloop {version}", lambda workload: command, python_clients(options, python, command))


def make_go(options):
    go, folder = tool("go"), options.build_dir / "go"
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "GOCACHE": str(folder / "cache"),
        "GOPATH": str(folder / "path"),
        "GOPROXY": "off",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "",
    }
    build([go, "build", "-o", folder / "workload", "."], cwd=HERE / "go", env=environment)
    version = output_of(go, "version").removeprefix("go version ")

    def http():
        build([go, "build", "-o", folder / "http", "."], cwd=HERE / "go/http", env=environment)
        return Client("net/http", [folder / "http"])

    def postgres():
        # Debian packages Go's libraries for a GOPATH, not as modules.
        if not (options.go_code / "src/github.com/jackc/pgx/v4").exists():
            raise Problem(f"there is no pgx 4 in {options.go_code}")
        packages = environment | {"GO111MODULE": "off", "GOPATH": str(options.go_code)}
        build([go, "build", "-o", folder / "postgres", "."], cwd=HERE / "go/postgres", env=packages)
        return Client("pgx 4", [folder / "postgres"])

    return Peer("go", version, lambda workload: [folder / "workload"], clients_of(options, W13=http, W14=postgres))


def build_crate(options, folder, sources, program, crate):
    """Builds a program that needs this crate. Gives the program's path and the crate's version."""
    cargo, rustc = tool("cargo"), tool("rustc")
    registry = options.cargo_registry
    if not list(registry.glob(f"{crate}-[0-9]*")):
        raise Problem(f"there is no {crate} in {registry}")
    # Built from a copy, because Cargo writes its lock file beside the sources.
    for name in ("Cargo.toml", "src/main.rs"):
        source, copy = sources / name, folder / "source" / name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    environment = os.environ | {
        "CARGO_HOME": str(folder / "home"),
        "CARGO_TARGET_DIR": str(folder / "target"),
        "RUSTC": rustc,
        "RUSTUP_TOOLCHAIN": "",
    }
    crates = ['source.crates-io.replace-with="installed"', f'source.installed.directory="{registry}"']
    settings = [part for source in crates for part in ("--config", source)]
    build([cargo, "build", "--release", "--offline", *settings], cwd=folder / "source", env=environment)
    lock = (folder / "source/Cargo.lock").read_text()
    version = re.search(rf'name = "{crate}"\nversion = "([^"]+)"', lock)[1]
    return folder / "target/release" / program, f"{crate} {version}"


def make_tokio(options):
    folder = options.build_dir / "tokio"
    program, tokio = build_crate(options, folder, HERE / "tokio", "workload", "tokio")
    version = f"{tokio}, {output_of(tool('rustc'), '--version')}, LTO"

    def http():
        client, hyper = build_crate(options, folder / "http", HERE / "tokio/http", "http_workload", "hyper")
        return Client(hyper, [client])

    def postgres():
        client, library = build_crate(options, folder / "postgres", HERE / "tokio/postgres", "postgres_workload", "tokio-postgres")
        return Client(library, [client])

    return Peer("tokio", version, lambda workload: [program], clients_of(options, W13=http, W14=postgres))


def make_libpq(options):
    """W14 with bare libpq in C: what stands below most clients of PostgreSQL."""

    def none(workload):
        raise Problem("not offered: it is a client of PostgreSQL alone")

    def postgres():
        folder = options.build_dir / "libpq"
        folder.mkdir(parents=True, exist_ok=True)
        flags = output_of(tool("pkg-config"), "--cflags", "--libs", "libpq").split()
        build([tool("cc"), "-O2", HERE / "libpq/workload.c", *flags, "-o", folder / "workload"])
        return Client("libpq " + output_of(tool("pkg-config"), "--modversion", "libpq"), [folder / "workload"])

    return Peer("libpq", "C, -O2", none, clients_of(options, W14=postgres))


def make_asio(options):
    folder = options.build_dir / "asio"
    folder.mkdir(parents=True, exist_ok=True)
    include = options.boost_include
    header = include / "boost/version.hpp"
    if not header.exists():
        raise Problem(f"there is no Boost in {include}")
    number = int(re.search(r"#define BOOST_VERSION (\d+)", header.read_text())[1])
    version = f"{number // 100000}.{number // 100 % 1000}"
    if number < 108000:
        raise Problem(f"Boost {version} in {include} is too old: its channels and generators came with 1.80")

    def build_program(program, source, *more):
        source, target = HERE / "asio" / source, folder / program
        stamp = folder / f"{program}.txt"
        command = [options.cxx, "-std=c++20", "-O3", "-DNDEBUG", *more, "-isystem", include, source, "-o", target]
        recipe = " ".join(map(str, command)) + first_line_of(options.cxx) + version
        fresh = target.exists() and target.stat().st_mtime > source.stat().st_mtime
        if not (fresh and stamp.exists() and stamp.read_text() == recipe):
            build(command)
            stamp.write_text(recipe)
        return target

    def http():
        return Client(f"Boost.Beast {version}", [build_program("http_workload", "http_workload.cpp", "-DBOOST_ASIO_DISABLE_THREADS")])

    # Threads are disabled for all workloads but the one that needs them.
    build_program("workload", "workload.cpp", "-DBOOST_ASIO_DISABLE_THREADS")
    build_program("workload_threads", "workload.cpp", "-DWITH_THREADS", "-pthread")
    return Peer(
        "asio",
        f"Boost.Asio {version}, {first_line_of(options.cxx)}, -O3",
        lambda workload: [folder / ("workload_threads" if workload.cores > 1 else "workload")],
        clients_of(options, W13=http),
    )


def make_curl(options):
    """libcurl alone, for W13: what the client of aiocxx adds to it."""
    folder = options.build_dir / "curl"
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "workload"

    def not_offered(workload):
        raise Problem("not offered: libcurl is an HTTP client and no runtime")

    def http():
        build([options.cxx, "-std=c++20", "-O3", "-DNDEBUG", HERE / "curl/workload.cpp", "-lcurl", "-o", program])
        return Client("", [program])

    version = output_of("curl-config", "--version")
    return Peer("curl", f"{version}, {first_line_of(options.cxx)}, -O3", not_offered, clients_of(options, W13=http))


MAKERS = {
    "aiocxx": make_aiocxx,
    "epoll": make_epoll,
    "asyncio": make_asyncio,
    "uvloop": make_uvloop,
    "go": make_go,
    "tokio": make_tokio,
    "asio": make_asio,
    "libpq": make_libpq,
    "curl": make_curl,
}


# ---- running

# The scripts that run a command beside a server, and the variable that has the server's address.
SERVERS = {
    "nginx": (HERE / "with_nginx", "AIO_BENCH_HTTP"),
    "PostgreSQL": (ROOT / "tests/with_postgres", "AIO_TEST_POSTGRES"),
}


@contextlib.contextmanager
def address_of_server(name, cores):
    """Starts the server on these cores. It stops when its input ends, and so never outlives this process, however that ends."""
    script, variable = SERVERS[name]
    os.sched_setaffinity(0, cores)  # inherited by the server
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([script, "sh", "-c", f'echo "${variable}"; exec cat'], start_new_session=True, **pipes)
    address = errors = ""
    try:
        there = select.select([process.stdout], [], [], SERVER_TIMEOUT)[0]
        address = process.stdout.readline().strip() if there else ""
        if address:
            yield address
    finally:
        if not address:
            process.terminate()
        try:
            errors = process.communicate(timeout=SERVER_TIMEOUT)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if not address:
        raise Problem(last_lines(errors) or f"{name} did not start")


class Runner:
    def __init__(self, options):
        self.options = options
        available = sorted(os.sched_getaffinity(0))
        first = options.core if options.core is not None else available[-1]
        if first not in available:
            raise SystemExit(f"compare.py: core {first} is not one of {available}")
        self.order = [first] + [core for core in reversed(available) if core != first]

    def run(self, peer, workload, operations, extra=None):
        """Runs a workload once, and gives what the program has printed. extra: a file, or the address of a server."""
        os.sched_setaffinity(0, self.order[: workload.cores])  # inherited by the program
        command = [*map(str, peer.program(workload)), workload.program or workload.name, str(operations)] + ([str(extra)] if extra else [])
        environment = os.environ | {"GOMAXPROCS": str(min(workload.cores, len(self.order)))}
        timeout = self.options.timeout
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
        except subprocess.TimeoutExpired:
            raise Problem(f"no end after {timeout:g} s ({operations:,} operations)") from None
        except OSError as error:
            raise Problem(str(error)) from None
        if done.returncode == NOT_OFFERED:
            raise Problem("not offered: " + last_lines(done.stderr))
        if done.returncode:
            raise Problem(f"status {done.returncode}: {last_lines(done.stderr)}")
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise Problem(f"printed no JSON: {done.stdout[:100]!r}") from None

    def calibrate(self, peer, workload, extra=None):
        """The number of operations with which a run takes about the target time."""
        target, operations = self.options.seconds, 2000
        while True:
            run = self.run(peer, workload, operations, extra)
            seconds = max(run["seconds"], 1e-7)
            if seconds >= target / 8 or operations >= 10**10:
                break
            operations = int(operations * min(20, max(2, target / 4 / seconds)))
        # Rounded to two digits, and a multiple of all batch sizes.
        wanted = max(1000, run["operations"] * target / seconds)
        digits = 10 ** max(3, math.floor(math.log10(wanted)) - 1)
        return max(1, round(wanted / digits)) * digits


class LargeFile:
    """Text files of given sizes in megabytes, made when they are needed. Their lines have 0 to 160 characters."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        letters, chance, lines, size = "abcdefghij klmnopqrstuvwxyz " * 8, random.Random(1), [], 0
        while size < 2**20 - 161:
            lines.append(letters[: chance.randint(0, 160)])
            size += len(lines[-1]) + 1
        lines.append(letters[:1].ljust(2**20 - size - 1, "."))
        self.lines = len(lines)
        self.block = ("\n".join(lines) + "\n").encode()
        assert len(self.block) == 2**20

    def of(self, megabytes):
        """The path of the file of this size, and its number of lines."""
        path = self.folder / f"lines_{megabytes}.txt"
        if not path.exists():
            say(f"making a text file of {megabytes} MiB")
            with open(path, "wb") as file:
                for _ in range(megabytes):
                    file.write(self.block)
        return path, megabytes * self.lines


class Certificate:
    """A folder with a certificate for localhost, cert.pem, and its key, key.pem, made when it is needed."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder) / "certificate"

    def path(self):
        if not self.folder.exists():
            self.folder.mkdir()
            words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
            names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
            try:
                subprocess.run(words.split() + names, cwd=self.folder, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise Problem(f"no certificate: {error}") from None
        return self.folder


def prepare(runner, peer, workload, options, files, address):
    """The arguments of this peer's runs."""
    if workload.server:
        return runner.calibrate(peer, workload, address), address
    if workload.name == "tail":
        return (options.tail_ms,)
    if workload.name == "W6a":
        # A million takes Python too long, so it runs a tenth, and the figure is scaled.
        count = options.sleepers // 10 if peer.name in ("asyncio", "uvloop") else options.sleepers
        runner.run(peer, workload, 1000)
        return (max(1, count),)
    if workload.name == "W6m":
        # As many as all peers can start before the first tasks have slept their second.
        return (max(1, options.sleepers // 20),)
    if workload.name == "W10t":
        folder = Certificate(files.folder).path()
        return runner.calibrate(peer, workload, folder), folder
    if workload.name == "W12":
        path, lines = files.of(1)
        run = runner.run(peer, workload, lines, path)
        fits = int(run["bytes"] / run["seconds"] / 2**20 * 4)  # what is read in some 4 s
        path, lines = files.of(max(1, min(options.file_mb, fits)))
        return lines, path
    return (runner.calibrate(peer, workload),)


def measure_beside_server(runner, peers, workload, options, files, problems):
    if not workload.server:
        return measure(runner, peers, workload, options, files, problems)
    try:
        with address_of_server(workload.server, runner.order[1:] or runner.order) as address:
            return measure(runner, peers, workload, options, files, problems, address)
    except Problem as problem:
        problems.append((workload.name, workload.server, f"left out: {problem}"))
        return {}


def measure(runner, peers, workload, options, files, problems, address=None):
    """{peer name: [run]}. The rounds go over the peers in turn, so that what disturbs one disturbs all."""
    arguments = {}
    for peer in peers:
        try:
            arguments[peer.name] = prepare(runner, peer, workload, options, files, address)
        except Problem as problem:
            problems.append((workload.name, peer.name, str(problem)))
    runs = {name: [] for name in arguments}
    for number in range(options.rounds):
        say(f"{workload.name}: round {number + 1} of {options.rounds}")
        for peer in peers:
            if peer.name not in runs:
                continue
            try:
                runs[peer.name].append(runner.run(peer, workload, *arguments[peer.name]))
            except Problem as problem:
                problems.append((workload.name, peer.name, str(problem)))
                del runs[peer.name]
    return runs


# ---- what is printed


def cell(row, runs):
    values = [row.value(run) for run in runs]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(row, found, ours):
    """How many times better ours is."""
    if not ours or min(found["median"], ours["median"]) <= 0:
        return None
    times = found["median"] / ours["median"]
    return 1 / times if row.more_is_better else times


def table_of(rows, results):
    """[(row, {peer: {median, min, max, ratio}})]"""
    table = []
    for row in rows:
        cells = {name: cell(row, runs) for name, runs in results.get(row.workload, {}).items() if runs}
        ours = cells.get("aiocxx")
        for name, found in cells.items():
            found["ratio"] = ratio(row, found, ours)
        table.append((row, cells))
    return table


def times(value):
    return "" if value is None else f"{value:.1g}x" if value < 0.1 else f"{value:.2g}x" if value < 10 else f"{value:,.0f}x"


def print_table(table, names):
    width = 17
    print(f"{'':44}" + "".join(f"{name:>{width}}" for name in names))
    for row, cells in table:
        first = f"{row.workload:5}{row.title}, {row.unit}"
        middle, spread = "", ""
        for name in names:
            if name not in cells:
                middle += f"{'-':>{width}}"
                spread += " " * width
                continue
            found = cells[name]
            is_ratio = "" if name == "aiocxx" else times(found["ratio"])
            middle += f"{short(found['median']):>{width - 7}}{is_ratio:>7}"
            spread += f"{short(found['min']) + '-' + short(found['max']):>{width}}"
        print(f"{first:44}{middle}\n{'':44}{spread}")


def print_markdown(table, names):
    print("| | " + " | ".join(names) + " |\n" + "| --- " * (len(names) + 1) + "|")
    for row, cells in table:
        best = min((times["median"] for times in cells.values()), default=0)
        if row.more_is_better:
            best = max((times["median"] for times in cells.values()), default=0)
        texts = []
        for name in names:
            median = cells[name]["median"] if name in cells else None
            text = "" if median is None else short(median)
            texts.append(f"**{text}**" if median == best else text)
        print(f"| {row.workload} {row.title}, {row.unit} | " + " | ".join(texts) + " |")


def machine():
    model = platform.processor()
    try:
        model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }


def plot(options, table, names):
    """The times, in nanoseconds, or the lateness."""
    unit = "us" if options.tail else "ns"
    groups = [
        (f"{row.workload} {row.title}" if not options.tail else row.title, {name: found["median"] for name, found in cells.items()})
        for row, cells in table
        if row.unit == unit and cells
    ]
    title = "How late a tick of 1 ms is beside 10,000 busy tasks" if options.tail else "What an operation costs on one core"
    svg.bar_chart(options.plot, title, "microseconds" if options.tail else "nanoseconds", names, groups)


# ---- main


def names_from(text, known, what):
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise SystemExit(f"compare.py: no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if name in names]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--only", metavar="W1,W4", help="these workloads alone")
    add("--peers", metavar="asyncio,go", help="these peers alone, beside aiocxx")
    add("--rounds", type=int, default=5, help="runs of each (5)")
    add("--seconds", type=float, default=0.3, help="how long a run shall take (0.3)")
    add("--time", choices=["cpu", "wall"], default="cpu", help="of what waits for nothing: processor time, or the wall's (cpu)")
    add("--timeout", type=float, default=60, help="seconds after which a run is ended (60)")
    add("--core", type=int, help="the core to run on (the last one)")
    add("--sleepers", type=int, default=1_000_000, help="tasks of W6a; a tenth for Python, a twentieth in W6m (1000000)")
    add("--file-mb", type=int, default=512, help="megabytes of W12's file; less for the slow (512)")
    add("--tail", action="store_true", help="instead of the workloads: how late a tick of 1 ms is beside 10,000 busy tasks")
    add("--tail-ms", type=int, default=3000, help="how long that takes (3000)")
    add("--json", metavar="FILE", type=pathlib.Path, help="write everything there")
    add("--plot", metavar="FILE.svg", type=pathlib.Path, help="draw the times as bars")
    add("--markdown", action="store_true", help="print the table for a page")
    add("--aiocxx", type=pathlib.Path, default=ROOT / "build/release/bench/core_workload", help="our program, core_workload")
    add("--cxx", default=os.environ.get("CXX", "clang++-19"), help="the compiler of Asio and of our program")
    add("--build-dir", type=pathlib.Path, default=ROOT / "build/peers", help="where the peers are built")
    add("--boost-include", type=pathlib.Path, default=pathlib.Path("/usr/include"), help="where Boost's headers are")
    add("--go-code", type=pathlib.Path, default=pathlib.Path("/usr/share/gocode"), help="where Go's packages are")
    add("--cargo-registry", type=pathlib.Path, default=pathlib.Path("/usr/share/cargo/registry"), help="where crates are")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0 or options.sleepers < 10 or options.file_mb < 1:
        parser.error("rounds, seconds, sleepers and megabytes are at least 1, 0, 10 and 1")
    for path in ("aiocxx", "build_dir", "boost_include", "go_code", "cargo_registry"):
        setattr(options, path, getattr(options, path).resolve())
    return options


def main():
    options = arguments()
    workloads = [TAIL] if options.tail else WORKLOADS
    if options.only and not options.tail:
        wanted = names_from(options.only, [workload.name for workload in WORKLOADS], "workload")
        workloads = [workload for workload in WORKLOADS if workload.name in wanted]
    options.wanted = [workload.name for workload in workloads]
    wanted = ["aiocxx"] + [name for name in MAKERS if name != "aiocxx"]
    if options.peers:
        wanted = names_from("aiocxx," + options.peers, wanted, "peer")

    peers, problems = [], []
    for name in wanted:
        say(f"building {name}")
        try:
            peers.append(MAKERS[name](options))
        except Problem as problem:
            problems.append(("", name, str(problem)))
    runner = Runner(options)
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, {about['kernel']}, {about['date']}, load {about['load']:.1f}")
    for peer in peers:
        print(f"  {peer.name:8} {peer.versions()}")
    left_out = [(name, why) for workload, name, why in problems if not workload]
    for name, why in left_out:
        print(f"  {name:8} LEFT OUT: {why}")
    print(flush=True)

    results = {}
    with tempfile.TemporaryDirectory(prefix="aiocxx-bench-") as folder:
        files = LargeFile(folder)
        for workload in workloads:
            results[workload.name] = measure_beside_server(runner, peers, workload, options, files, problems)
    rows = [row for workload in workloads for row in rows_of(workload, options.time)]
    names = [peer.name for peer in peers]
    table = table_of(rows, results)
    (print_markdown if options.markdown else print_table)(table, names)
    clock = "Processor time where nothing is waited for" if options.time == "cpu" else "The wall's time"
    least = "" if options.markdown else ", least and most below it; 12x: aiocxx is twelve times better"
    print(f"\nMedian of {options.rounds} runs{least}. {clock}, on one core.")
    for workload, name, why in problems:
        if workload:
            print(f"{workload} {name}: {why}")

    if options.json:
        figures = {
            f"{row.workload} {row.title}": {"unit": row.unit, "peers": cells} for row, cells in table
        }
        about["versions"] = {peer.name: peer.versions() for peer in peers}
        about["left_out"] = [{"workload": workload, "peer": name, "why": why} for workload, name, why in problems]
        options.json.write_text(json.dumps({"machine": about, "table": figures, "runs": results}, indent=1) + "\n")
    if options.plot:
        plot(options, table, names)
    failed = [why for workload, _, why in problems if workload and not why.startswith(("not offered", "left out"))]
    return 1 if failed or not any(peer.name == "aiocxx" for peer in peers) else 0


if __name__ == "__main__":
    run_script(main)
