#!/usr/bin/env python3
"""What `#include <aio/aio.hpp>` costs the compiler in processor time, as a multiple of the standard headers that it includes.

The multiple hardly depends on the machine, and the budget leaves some room all the same. Each is compiled five times, in turn, and the least counts.
"""

import argparse
import pathlib
import re
import resource
import subprocess
import sys
import tempfile

INCLUDE = pathlib.Path(__file__).parent.parent / "include"
BUDGET = 1.8  # 1.45 when it was set


def standard_headers():
    """The standard headers that the headers of <aio/aio.hpp> name. detail/base/chrono.hpp does not count: it avoids <chrono> where it can."""
    found = set()
    for header in (*INCLUDE.glob("aio/*.hpp"), *INCLUDE.glob("aio/detail/*/*.hpp")):
        if header.stem not in ("http", "http_json", "sql", "chrono"):
            found.update(re.findall(r"^#include <([a-z_]+)>", header.read_text(), re.M))
    return sorted(found)


def processor_seconds(compiler, source, folder):
    file = folder / "one.cpp"
    file.write_text(source)
    command = [compiler, "-std=c++20", f"-I{INCLUDE}", "-O0", "-c", "-o", str(folder / "one.o"), str(file)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode:
        sys.exit(f"headers: {' '.join(command)} failed:\n{run.stderr}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sources = "#include <aio/aio.hpp>\n", "".join(f"#include <{h}>\n" for h in standard_headers())
        rounds = [[processor_seconds(options.compiler, source, folder) for source in sources] for _ in range(5)]
        ours, standard = (min(times) for times in zip(*rounds))
    print(f"aio.hpp {ours:.2f} s, the standard headers in it {standard:.2f} s: {ours / standard:.2f} times as much, budget {BUDGET}")
    if ours > standard * BUDGET:
        sys.exit("headers: <aio/aio.hpp> has become too expensive; clang -ftime-trace tells where")


main()
