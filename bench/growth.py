"""What an operation of aiocxx costs beside more and more tasks, timers or waiters. ./dev bench --growth calls this; see README.md."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

import svg  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--most", type=int, default=1_000_000, help="the largest number (1000000)")
    add("--rounds", type=int, default=3, help="runs, of which the median counts (3)")
    add("--core", type=int, help="the core to run on (the last one)")
    add("--timeout", type=float, default=300, help="seconds after which a run is ended (300)")
    add("--json", metavar="FILE", type=pathlib.Path, help="write the figures there")
    add("--plot", metavar="FOLDER", type=pathlib.Path, help="draw them as lines: growth-tasks.svg, -timers, -waiters")
    add("--program", type=pathlib.Path, default=HERE.parent / "build/release/bench/growth", help="the program growth")
    options = parser.parse_args()
    if options.most < 1 or options.rounds < 1:
        parser.error("at least 1")
    return options


def main():
    options = arguments()
    core = options.core if options.core is not None else max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [core])  # inherited by the program
    runs, plots = {}, {}
    for number in range(options.rounds):
        print(f"growth: round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        command = [str(options.program.resolve()), str(options.most)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=options.timeout, check=True)
        for line in done.stdout.splitlines():
            figure = json.loads(line)
            plots.setdefault(figure["of"], {})[figure["scenario"]] = None
            runs.setdefault(figure["scenario"], {}).setdefault(figure["count"], []).append(figure["ns"])
    lines = {name: [(count, statistics.median(ns)) for count, ns in counts.items()] for name, counts in runs.items()}

    counts = [count for count, _ in next(iter(lines.values()))]
    print(f"{'nanoseconds an operation, N =':40}" + "".join(f"{count:>11,}" for count in counts))
    for name, points in lines.items():
        print(f"{name:40}" + "".join(f"{svg.short(ns):>11}" for _, ns in points))
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n")
    if options.plot:
        for of, names in plots.items():
            title = f"What an operation costs among N {of}"
            svg.line_chart(options.plot / f"growth-{of}.svg", title, "N", "nanoseconds", {name: lines[name] for name in names})


if __name__ == "__main__":
    main()
