"""Items through a queue over one NATS server: aiocxx beside a program in C with bare libnats, in one run and one table. ./dev bench --jetstream
calls this beside a server that tests/with_nats has started; ../README.md says how to read it."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from compare import Problem, build, first_line_of, output_of, run_script, say, tool  # noqa: E402

# what it is called, the programs' word for it, how much is under way, and its part of --items
LOADS = [("put", "put", 256, 1), ("get", "get", 256, 1), ("one put at a time", "put", 1, 8), ("4 producers, 4 consumers", "many", 64, 8)]


def libnats_program(options):
    folder = options.build_dir
    folder.mkdir(parents=True, exist_ok=True)
    flags = output_of(tool("pkg-config"), "--cflags", "--libs", "libnats").split()
    build([tool("cc"), "-O2", HERE / "libnats/workload.c", *flags, "-lpthread", "-o", folder / "workload"])
    return [folder / "workload"], output_of(tool("pkg-config"), "--modversion", "libnats")


def run(command, *words):
    words = [*map(str, command), os.environ["AIO_TEST_NATS"], *map(str, words)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise Problem(f"{' '.join(words)} takes longer than 2 minutes") from None
    if done.returncode:
        raise Problem(f"{words[0]}: {done.stderr.strip()}")
    return json.loads(done.stdout) if done.stdout else None


def measure(options, programs, load, storage, size):
    """For each program, the seconds of the wall and of the processor for an item, one of each run."""
    _, word, in_flight, part = load
    items = options.items // part // 4 * 4
    found = {name: [] for name in programs}
    for turn in range(options.runs):  # one after the other, so that what disturbs the machine disturbs all
        for name in list(programs) if turn % 2 == 0 else reversed(programs):
            run(options.aiocxx, "make", storage)
            if word == "get":
                run(options.aiocxx, "put", size, items, in_flight)
            one = run(programs[name], word, size, items, in_flight)
            found[name].append((one["seconds"] / items, one["processor"] / items))
    return found


def main():
    parser = argparse.ArgumentParser(prog="dev bench --jetstream", description=__doc__)
    parser.add_argument("--aiocxx", type=lambda path: [path], required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cxx", default="c++", help=argparse.SUPPRESS)
    parser.add_argument("--build-dir", type=pathlib.Path, default=HERE.parent.parent / "build/peers/libnats", help=argparse.SUPPRESS)
    parser.add_argument("--items", type=int, default=40_000, help="through the queue in each run; an eighth of that for loads that wait for each")
    parser.add_argument("--runs", type=int, default=7, help="of each program; the table has their median")
    parser.add_argument("--storage", default="memory,file", help="of the server")
    parser.add_argument("--bytes", default="16,1024", help="of an item")
    parser.add_argument("--json", type=pathlib.Path, help="writes the times to this file, too")
    options = parser.parse_args()
    options.build_dir = options.build_dir.resolve()
    programs = {"aiocxx": options.aiocxx}
    say(f"aiocxx: {first_line_of(options.cxx)}, -O3")
    try:
        programs["libnats"], version = libnats_program(options)
        say(f"libnats {version}: C, -O2")
    except Problem as problem:
        say(f"libnats is left out: {problem}")
    print(f"items a second, and microseconds of the client's processor time for an item; median of {options.runs} runs\n")
    print("| storage, bytes | | " + " | ".join(programs) + " | ratio | " + " | ".join(f"{name}, us" for name in programs) + " | ratio |")
    print("| --- | --- |" + " ---: |" * (2 * len(programs) + 2))
    results = []
    for storage in options.storage.split(","):
        for size in map(int, options.bytes.split(",")):
            for load in LOADS:
                of = measure(options, programs, load, storage, size)
                rates = {name: 1 / statistics.median(t[0] for t in times) for name, times in of.items()}
                costs = {name: 1e6 * statistics.median(t[1] for t in times) for name, times in of.items()}
                faster, cheaper = "-", "-"
                if "libnats" in programs:
                    faster = f"{rates['aiocxx'] / rates['libnats']:.2f}"
                    cheaper = f"{costs['libnats'] / costs['aiocxx']:.2f}"
                print(f"| {storage}, {size} | {load[0]} | " + " | ".join(f"{rate:,.0f}" for rate in rates.values()) + f" | {faster} | " +
                      " | ".join(f"{cost:.2f}" for cost in costs.values()) + f" | {cheaper} |", flush=True)
                results.append({"storage": storage, "bytes": size, "load": load[0], "times": of})
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    run_script(main)
