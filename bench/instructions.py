#!/usr/bin/env python3
"""How many instructions an operation of W1 to W8 takes, counted by callgrind, against the budget in instructions.json.

A count does not depend on how busy the machine is, so CI can hold it. Each workload runs twice, the second time with twice as many
operations: the difference is what the operations take. What the loop does by the clock (its looks at timers and the kernel) is left out.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
BUDGET = HERE / "instructions.json"
OPERATIONS = 10_000
SLACK = 1.05
BY_THE_CLOCK = re.compile(r"scheduler::|epoll|mailbox::drain|clock|timers::fire_due|_dl_|do_lookup|dl_relocate|strcmp|check_match|vdso")


def self_costs(path):
    """The instructions of each function, without those of its callees."""
    names, costs, current, skip = {}, collections.Counter(), None, False
    for line in path.open():
        if found := re.match(r"c?fn=\((\d+)\)(?: (.*))?$", line):
            if found[2]:
                names[found[1]] = found[2]
            if line.startswith("fn="):
                current = found[1]
        elif line.startswith("calls="):
            skip = True  # the next line is the cost of the call, which counts for the callee
        elif re.match(r"[+\-*\d]", line):
            if not skip and current:
                costs[current] += int(line.split()[1])
            skip = False
    total = collections.Counter()
    for number, cost in costs.items():
        total[names[number]] += cost
    return total


def counted(program, workload, operations, folder):
    out = folder / f"{workload}.{operations}"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(program), workload, str(operations)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if run.returncode:
        sys.exit(f"instructions: {' '.join(command)} failed:\n{run.stderr}")
    return self_costs(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="core_workload, of the release preset")
    parser.add_argument("--compiler", required=True, help="whose budget: clang++-19")
    parser.add_argument("--functions", metavar="WORKLOAD", help="only this one, function by function")
    parser.add_argument("--update", action="store_true", help="make what is counted now the budget")
    options = parser.parse_args()

    budgets = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    budget = budgets.setdefault(options.compiler, {})
    workloads = [options.functions] if options.functions else ["W1", "W2", "W3", "W4", "W5", "W6b", "W7", "W8"]
    too_many = []
    print("workload  instructions  budget")
    with tempfile.TemporaryDirectory() as name:
        for workload in workloads:
            once, twice = (counted(options.program, workload, OPERATIONS * k, pathlib.Path(name)) for k in (1, 2))
            if not any("scheduler::poll_outside" in f for f in twice):  # the function was renamed: BY_THE_CLOCK is out of date
                sys.exit(f"instructions: {workload} has no scheduler::poll_outside")
            each = {f: (twice[f] - once[f]) / OPERATIONS for f in twice if not BY_THE_CLOCK.search(f)}
            count = round(sum(each.values()), 1)
            allowed = budget.get(workload)
            print(f"{workload:8}  {count:12.1f}  {allowed if allowed is not None else '-':>6}")
            if options.functions:
                for function, cost in sorted(each.items(), key=lambda x: -x[1])[:25]:
                    if cost >= 0.5:
                        print(f"{cost:22.1f}  {function}")
            if allowed is not None and count > allowed * SLACK:
                too_many.append(f"{workload}: {count} instructions, budget {allowed}")
            if options.update:
                budget[workload] = count
    if options.update:
        BUDGET.write_text(json.dumps(budgets, indent=2) + "\n")
    elif too_many:
        sys.exit("instructions: more than 5 % over the budget\n  " + "\n  ".join(too_many) +
                 "\nIf that is the price of something worth it, say so in the commit: ./dev bench --instructions --update")
    elif not budget:
        print(f"there is no budget for {options.compiler}: nothing was compared")


main()
