"""Items through a queue between threads: aiocxx's shared_queue beside the channels of Go, tokio, async-channel and crossbeam, in one run
and one table. ./dev bench --queues calls this; ../README.md says how to read it."""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from compare import NOT_OFFERED, Problem, build, build_crate, first_line_of, output_of, run_script, say, tool  # noqa: E402

ONE, APART, FREE = "on one thread", "on two threads", ""
WHO = [(1, 1, ONE), (1, 1, APART), (1, 1, FREE), (4, 4, FREE), (1, 16, FREE)]
SHAPES = [(producers, consumers, size, capacity, place) for producers, consumers, place in WHO for size in (8, 4096) for capacity in (100, 1000)]


def go_program(options):
    folder = options.build_dir / "go"
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"GOCACHE": str(folder / "cache"), "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    build([tool("go"), "build", "-o", folder / "queues", "."], cwd=HERE / "queues/go", env=environment)
    return [folder / "queues"], output_of(tool("go"), "version").removeprefix("go version ")


def rust_programs(options):
    program, version = build_crate(options, options.build_dir / "rust", HERE / "queues/rust", "queues", "crossbeam-channel")
    return {name: [program, name] for name in ("tokio", "async-channel", "crossbeam")}, version


def run(command, shape, items, threads):
    """Nanoseconds of the wall and of the processors for an item, or None if that is not offered."""
    *numbers, place = shape
    words = [*map(str, command), *map(str, numbers), str(items), str(1 if place == ONE else threads), *(["apart"] if place == APART else [])]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # glibc would give memory back to the kernel or not, depending on which block happens to lie last: see ../README.md
    environment = os.environ | {"MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment)
    except subprocess.TimeoutExpired:
        return float("inf"), float("inf")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode == NOT_OFFERED:
        return None
    if done.returncode:
        raise Problem(f"{words[0]}: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found["seconds"] / found["operations"] * 1e9, processor / found["operations"] * 1e9


def main():
    parser = argparse.ArgumentParser(prog="dev bench --queues", description=__doc__)
    parser.add_argument("--aiocxx", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cxx", default="c++", help=argparse.SUPPRESS)
    parser.add_argument("--build-dir", type=pathlib.Path, default=HERE.parent.parent / "build/peers/queues", help=argparse.SUPPRESS)
    parser.add_argument("--cargo-registry", type=pathlib.Path, default=pathlib.Path("/usr/share/cargo/registry"), help=argparse.SUPPRESS)
    parser.add_argument("--items", type=int, default=2_000_000, help="through the queue, in each run")
    parser.add_argument("--runs", type=int, default=5, help="of each program; the table has their median")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="that the loops and runtimes have; crossbeam's have one each")
    parser.add_argument("--without", default="", help="programs that are left out, as in crossbeam,go")
    parser.add_argument("--json", type=pathlib.Path, help="writes the times to this file, too")
    options = parser.parse_args()
    options.build_dir = options.build_dir.resolve()

    programs = {"aiocxx": [options.aiocxx]}
    say(f"aiocxx: {first_line_of(options.cxx)}, -O3")
    for name, make in (("go", go_program), ("rust", rust_programs)):
        try:
            made, version = make(options)
            programs.update(made if isinstance(made, dict) else {name: made})
            say(f"{name}: {version}")
        except Problem as problem:
            say(f"{name} is left out: {problem}")
    for name in filter(None, options.without.split(",")):
        programs.pop(name, None)

    names = list(programs)
    print(f"ns an item, the wall's / the processors', medians of {options.runs} runs of {options.items} items, {options.threads} threads; last the best peer by aiocxx\n")
    print("| producers:consumers, bytes, capacity | " + " | ".join(names) + " | ratios |")
    print("| --- |" + " ---: |" * (len(names) + 1))
    results = []
    for shape in SHAPES:
        items = options.items if shape[2] == 8 else options.items // 4
        times = {name: [] for name in names}
        for _ in range(options.runs):  # interleaved, so that what disturbs the machine disturbs all
            for name in names:
                times[name].append(run(programs[name], shape, items, options.threads))
        medians = {name: None if None in of else [statistics.median(column) for column in zip(*of)] for name, of in times.items()}
        peers = [of for name, of in medians.items() if name != "aiocxx" and of is not None]
        ratios = " / ".join(f"{min(column) / own:.2f}" for column, own in zip(zip(*peers), medians["aiocxx"])) or "-"
        cells = ["-" if of is None else " / ".join(f"{time:.0f}" for time in of) for of in medians.values()]
        where = f" {shape[4]}" if shape[4] else ""
        print(f"| {shape[0]}:{shape[1]}{where}, {shape[2]}, {shape[3]} | " + " | ".join(cells) + f" | {ratios} |", flush=True)
        results.append({"shape": shape, "times": times})
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    run_script(main)
