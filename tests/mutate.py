#!/usr/bin/env python3
"""Puts single faults into src/, one at a time, and tells which of them no test notices.

A fault is a small change of the text: a condition negated, removed or cut, a comparison off by one, a statement removed or swapped with the
next one, an early return, the last element taken for the first one, a wake-up, a decrement, an unlinking or an error check removed.
Faults are made in a copy of the tree below the build folder, never in the work tree. The libraries of the copy are shared ones, so that a
fault costs the compilation of one file. Then the suites of the fault's area run, the nearest ones first, until one fails.
"""

import argparse
import collections
import concurrent.futures
import functools
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The suites that are nearest to a file of src/, besides the suite of the same name.
NEAR = {
    "blocking": ["blocking", "executor", "file", "run"],
    "children": ["gather", "race", "views", "async_generator"],
    "connection": ["sql", "sql_postgres"],
    "connect": ["connect", "stream", "server"],
    "errors": ["task", "exception_group", "async_trace"],
    "exits": ["with", "async_generator"],
    "mailbox": ["event_loop", "thread_future", "executor"],
    "descriptor": ["stream", "server", "loop"],
    "descriptor_wait": ["loop", "event_loop", "signals"],
    "loop_core": ["event_loop", "run", "testing"],
    "memory": ["allocations", "out_of_memory", "testing"],
    "resolver": ["stream", "connect"],
    "sync": ["lock", "event", "semaphore"],
    "scheduler": ["loop", "event_loop", "sleep", "run", "testing"],
    "stepper": ["loop", "task", "testing"],
    "ending": ["run"],
    "interrupts": ["run", "signals"],
    "reports": ["event_loop", "async_trace"],
    "timers": ["sleep", "event_loop", "timeout"],
    "epoll": ["stream", "event_loop"],
    "request_parser": ["http_server"],
    "server": ["server", "http_server"],
    "transfer": ["http_client"],
    "session": ["http_client"],
    "postgres": ["sql_postgres"],
    "sqlite": ["sql"],
    "pool": ["sql", "sql_postgres"],
}
AREAS = ("http", "sql", "jetstream")  # a library each; its suites begin with its name
WHOLE = ["brute_force", "model", "out_of_memory"]  # run last among the suites of the core, because they take the longest

KEYWORDS = {"return", "co_return", "co_await", "co_yield", "throw", "using", "static_assert", "break", "continue", "goto", "delete", "case",
            "default", "public", "private", "protected", "typedef", "friend", "template", "namespace", "else", "if", "while", "for", "do"}

Fault = collections.namedtuple("Fault", "file start end text kind")


@functools.cache
def text_of(path):
    """The text of a file as it was at the first call, so that an edit of the work tree meanwhile changes no fault."""
    return (ROOT / path).read_text()


def blanked(text):
    """The text with comments and literals replaced by spaces, in the same places."""
    literal = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:[^"\\\n]|\\.)*"|(?<!\w)\'(?:[^\'\\\n]|\\.)+\'', re.S)
    return literal.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def closing(text, at):
    """The place of the bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(text)):
        if text[i] in "([{":
            depth += 1
        elif text[i] in ")]}":
            depth -= 1
            if depth == 0:
                return i
    return -1


def operands(condition, operator):
    """The places of an operator, outside of all brackets."""
    depth, places = 0, []
    for i, c in enumerate(condition):
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif depth == 0 and condition.startswith(f" {operator} ", i):
            places.append(i)
    return places


def is_statement(line):
    """Whether the line is an assignment, a call, an increment or a decrement, and nothing else."""
    code = line.strip()
    first = re.match(r"\w+", code)
    if not code.endswith(";") or code.count(";") != 1 or (first and first[0] in KEYWORDS):
        return False
    if code.endswith(("= delete;", "= default;")):
        return False
    if code.count("(") != code.count(")") or code.count("{") != code.count("}"):
        return False
    return bool(re.match(r"(?:\+\+|--)?[*]?(?:::)?[\w:.\->\[\]]+(?:\(.*\))?(?:(?:\.|->)\w+\(.*\))*(?:(?:\+\+|--)|\s*[-+|&^*/]?=\s.*)?;$", code)
                and re.search(r"\(|=|\+\+|--", code))


def matters(first, second):
    """Whether the order of two statements may matter. It does not if they share no name, or if both are assignments without a call and
    neither names what the other assigns to."""
    if not set(re.findall(r"\w+", first)) & set(re.findall(r"\w+", second)) - {"this"}:
        return False
    if "(" in first + second or "=" not in first or "=" not in second:
        return True
    to_first, to_second = first.split("=")[0].rstrip(" -+|&^*/"), second.split("=")[0].rstrip(" -+|&^*/")
    return to_first in second or to_second in first


def faults_in(path):
    """All faults that can be made in this file."""
    text = text_of(path)
    code = blanked(text)
    found = []

    def add(start, end, new, kind):
        found.append(Fault(str(path), start, end, new, kind))

    for match in re.finditer(r"\b(if|while)\s*\(", code):
        open_at = match.end() - 1
        end = closing(code, open_at)
        if end < 0:
            continue
        start = open_at + 1
        if ";" in code[start:end]:
            start += code[start:end].rindex(";") + 1
        condition, shown = text[start:end].strip(), code[start:end]
        start += len(shown) - len(shown.lstrip())
        if re.match(r"(?:const\s+)?[\w:<>,*&\s]+\s[*&]?\w+\s*=\s", condition):
            continue  # the condition declares a variable
        add(start, end, f"!({condition})", "a condition negated")
        if match[1] == "if":
            check = re.search(r"errno|< 0|!= 0|error", condition)
            for value in ("true", "false"):
                add(start, end, value, "an error check removed" if check and value == "false" else f"a condition that is always {value}")
        for operator in ("&&", "||"):
            for at in operands(shown.lstrip(), operator):
                if not operands(shown, "||" if operator == "&&" else "&&"):
                    add(start, end, condition[:at], f"a condition cut before {operator}")
                    add(start, end, condition[at + 4:], f"a condition cut behind {operator}")

    swaps = [(" < ", " <= "), (" <= ", " < "), (" > ", " >= "), (" >= ", " > "), (" == ", " != "), (" != ", " == "),
             (" && ", " || "), (" || ", " && "), (" + 1", ""), (" - 1", ""), ("std::min", "std::max"), ("std::max", "std::min"),
             ("push_back(", "push_front("), ("pop_front(", "pop_back("), (".front()", ".back()"), ("push_front(", "push_back("),
             (" + ", " - ")]
    for old, new in swaps:
        for match in re.finditer(re.escape(old) + (r"\b" if old[-1].isdigit() else ""), code):
            kind = "last first" if "(" in old else "an operator or an end off by one"
            add(match.start(), match.end(), new, kind)
    for match in re.finditer(r"--(?=\w)|(?<=\w)--", code):
        add(match.start(), match.end(), "++", "a decrement turned round")
    for match in re.finditer(r"\btrue\b|\bfalse\b", code):
        add(match.start(), match.end(), "false" if match[0] == "true" else "true", "true for false, or false for true")

    at, previous = 0, None
    for line in code.splitlines(keepends=True):
        if is_statement(line) and text[at:at + len(line)].strip():
            start = at + len(line) - len(line.lstrip())
            end = at + len(line.rstrip())
            kind = "a statement removed"
            if re.search(r"\b(wake|wake_to_retry|schedule|notify\w*|set|write_to)\(", line):
                kind = "a wake-up removed"
            elif re.search(r"\b(unlink|unpark|disarm|erase|remove|clear|reset|close)\(", line):
                kind = "an unlinking removed"
            elif "--" in line:
                kind = "a decrement removed"
            add(start, end, ";", kind)
            add(start, start, "return; ", "an early return")
            indent = start - at
            if previous and previous[2] == indent and previous[1] == at - 1:
                first, second = text[previous[0]:previous[1]], text[start:end]
                if matters(first, second):
                    add(previous[0], end, second + "\n" + " " * indent + first, "two statements swapped")
            previous = (start, at + len(line) - 1, indent) if at + len(line.rstrip()) == at + len(line) - 1 else None
        else:
            previous = None
        at += len(line)
    return found


class Copy:
    """A copy of the tree with a build of its own. Only the first copy builds the tests; the others build the libraries alone."""

    database = threading.Lock()  # suites that share the database server's tables take turns

    def __init__(self, folder, cmake_options, first=None):
        self.tree = folder / "tree"
        self.build = folder / "build"
        self.programs = (first or self).build / "tests"
        self.options = cmake_options + (["-DAIO_BUILD_TESTS=OFF"] if first else [])

    def refresh(self):
        """Copies what has changed in the work tree."""
        files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
        wanted = {name for name in files.stdout.splitlines() if (ROOT / name).is_file()}
        for old in self.tree.rglob("*"):
            if old.is_file() and str(old.relative_to(self.tree)) not in wanted:
                old.unlink()
        for name in wanted:
            source, target = ROOT / name, self.tree / name
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def cmake_build(self, *targets):
        command = ["cmake", "--build", str(self.build)]
        if targets:
            command += ["--target", *targets]
        return subprocess.run(command, capture_output=True, text=True)

    def prepare(self, areas):
        """Builds the libraries, and the suites of these areas."""
        self.refresh()
        configure = subprocess.run(
            ["cmake", "--preset", "shared", "-B", str(self.build), "-DCMAKE_CXX_FLAGS_DEBUG=-O0 -D_GLIBCXX_ASSERTIONS",
             "-DAIO_BUILD_EXAMPLES=OFF", "-DAIO_BUILD_BENCH=OFF", *self.options],
            cwd=self.tree, capture_output=True, text=True)
        if configure.returncode:
            sys.exit(f"mutate: cmake failed:\n{configure.stdout}{configure.stderr}")
        targets = set(re.findall(r"^(\w+): phony", self.cmake_build("help").stdout, re.M))
        self.libraries = [t for t in ("aiocxx", *(f"aiocxx_{area}" for area in AREAS)) if t in targets]
        every = sorted(t for t in targets if t.endswith("_test"))
        self.suites = [suite for area in areas for suite in suites_in(area, every)]
        built = self.cmake_build(*self.libraries, *self.suites)
        if built.returncode:
            sys.exit(f"mutate: the unchanged tree does not build:\n{built.stdout[-4000:]}{built.stderr[-2000:]}")

    def run(self, suite, limit, output=subprocess.DEVNULL):
        """True if the suite passes with this copy's libraries within the limit."""
        if suite.startswith("sql"):
            with self.database:
                return self.run_now(suite, limit, output)
        return self.run_now(suite, limit, output)

    def run_now(self, suite, limit, output):
        limits = ["prlimit", f"--as={8 << 30}", f"--fsize={4 << 30}"]  # a fault may allocate or write without end
        process = subprocess.Popen([*limits, str(self.programs / suite), "--gtest_brief=1", "--gtest_fail_fast"], cwd=self.programs,
                                   env=os.environ | {"LD_LIBRARY_PATH": str(self.build)}, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output, start_new_session=True)
        try:
            return process.wait(limit) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # children that a test has left, too
            except ProcessLookupError:
                pass
            process.wait()

    def outcome(self, fault, suites, seconds):
        """The suite that finds the fault, or "" if none does. None if the fault does not compile."""
        target = self.tree / fault.file
        text = text_of(fault.file)
        target.write_text(text[:fault.start] + fault.text + text[fault.end:])
        try:
            if self.cmake_build(*self.libraries).returncode:
                return None
            for suite in suites_for(fault.file, suites, seconds):
                if not self.run(suite, 20 + 5 * seconds[suite]):
                    return suite
            return ""
        finally:
            target.write_text(text)


def area_of(path):
    """The folder of src/ that has a library of its own, or "core"."""
    folder = pathlib.Path(path).parts[1]
    return folder if folder in AREAS else "core"


def suites_in(area, suites):
    return [s for s in suites if (s.startswith(area) if area in AREAS else not s.startswith((*AREAS, "docs")))]


def suites_for(path, suites, seconds):
    """The suites of the area of a file, the nearest first."""
    stem = pathlib.Path(path).stem
    area = suites_in(area_of(path), suites)
    near = [f"{name}_test" for name in [stem, *NEAR.get(stem, [])]]
    whole = [f"{name}_test" for name in WHOLE]
    return sorted(area, key=lambda s: (near.index(s) if s in near else len(near), s in whole, seconds[s]))


def described(fault):
    text = text_of(fault.file)
    line = text.count("\n", 0, fault.start) + 1
    old = " ".join(text[fault.start:fault.end].split()) or text[fault.start:].split("\n", 1)[0].strip()
    new = " ".join(fault.text.split())
    return f"{fault.file}:{line}: {fault.kind}: `{old}` -> `{new}`"


def changed_files(base):
    out = subprocess.run(["git", "diff", "--name-only", base, "--", "src"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in out.stdout.splitlines() if name.endswith(".cpp") and (ROOT / name).exists()]


def without_danger():
    """If this is root, runs the program again with /dev read-only: devices work, but no fault can replace /dev/null by a file."""
    if os.geteuid() != 0 or os.environ.get("AIO_MUTATE_READ_ONLY_DEV"):
        return
    script = 'mount --rbind /dev /dev && mount -o remount,bind,ro /dev && exec "$@"'
    os.environ["AIO_MUTATE_READ_ONLY_DEV"] = "yes"
    if subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", "true"], stderr=subprocess.DEVNULL).returncode == 0:
        os.execvp("unshare", ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, *sys.argv])
    print("mutate: /dev cannot be made read-only here, and this is root: a fault may replace what is in it", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(prog="./dev mutate", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="of src/, or a line of it as src/io/file.cpp:106; otherwise all of them")
    parser.add_argument("--most", type=int, default=50, help="how many faults (50); 0: all")
    parser.add_argument("--seed", type=int, help="of the choice; otherwise one of the day, which is printed")
    parser.add_argument("--changed", metavar="COMMIT", help="only files of src/ that differ from that commit")
    parser.add_argument("--one-area", action="store_true", help="only in the area of the first fault, so that fewer suites are built: "
                        "the core, or one of " + ", ".join(AREAS))
    parser.add_argument("--seconds", type=int, default=0, help="stop after that many (0: never)")
    parser.add_argument("--list", action="store_true", help="only print the faults that would be made")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) // 2), help="faults at a time (half of the cores)")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/mutate", help=argparse.SUPPRESS)
    parser.add_argument("--cmake", action="append", default=[], help="an option for cmake")
    options = parser.parse_args()

    files, lines = [], set()
    for given in options.files:
        name, _, line = given.partition(":")
        files.append(str(pathlib.Path(name).resolve().relative_to(ROOT)))
        if line:
            lines.add(f"{files[-1]}:{line}:")
    files = sorted(set(files))
    if options.changed:
        files = changed_files(options.changed)
        if not files:
            print("mutate: no file of src/ has changed: any of them", flush=True)
    if not files:
        files = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "src").rglob("*.cpp"))
    for name in files:
        if not (ROOT / name).is_file() or not name.startswith("src/"):
            sys.exit(f"mutate: {name} is no file of src/")

    seed = options.seed if options.seed is not None else int(time.strftime("%Y%m%d"))
    faults = [fault for name in files for fault in faults_in(name)]
    if lines:
        faults = [fault for fault in faults if any(described(fault).startswith(line) for line in lines)]
    random.Random(seed).shuffle(faults)
    if options.one_area and faults:
        faults = [fault for fault in faults if area_of(fault.file) == area_of(faults[0].file)]
    if options.list:
        for fault in faults[:options.most or None]:
            print(described(fault))
        return 0

    without_danger()
    first = Copy(options.folder, options.cmake)
    copies = [first] + [Copy(options.folder / str(n), options.cmake, first) for n in range(2, options.jobs + 1)]
    print(f"mutate: seed {seed}, {len(faults)} possible faults in {len(files)} files; building the tests", flush=True)
    for copy in copies:
        copy.prepare(sorted({area_of(fault.file) for fault in faults}))

    def seconds_of(suite):
        start = time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            if not first.run(suite, 300, output):
                output.seek(0)
                sys.exit(f"{output.read()[-6000:]}\nmutate: {suite} fails on the unchanged tree")
        return time.monotonic() - start

    suites = first.suites
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as threads:
        seconds = dict(zip(suites, threads.map(seconds_of, suites)))
    print("mutate: " + ", ".join(f"{s} {seconds[s]:.1f} s" for s in sorted(seconds, key=seconds.get, reverse=True)[:12]), flush=True)

    found, total, survivors = collections.Counter(), collections.Counter(), []
    pending, state, ends = iter(faults), threading.Lock(), time.monotonic() + options.seconds

    def work(copy):
        while True:
            with state:
                enough = options.most and sum(total.values()) >= options.most
                fault = None if enough or (options.seconds and time.monotonic() > ends) else next(pending, None)
            if fault is None:
                break
            killer = copy.outcome(fault, list(seconds), seconds)
            if killer is None:
                continue
            with state:
                total[fault.file] += 1
                found[fault.file] += bool(killer)
                if not killer:
                    survivors.append(fault)
                print(f"  found by {killer}: {described(fault)}" if killer else f"  NOT FOUND: {described(fault)}", flush=True)
        copy.cmake_build(*copy.libraries)

    with concurrent.futures.ThreadPoolExecutor(len(copies)) as threads:
        for done in [threads.submit(work, copy) for copy in copies]:
            done.result()
    made = sum(total.values())

    print(f"\n{'file':40} found / made")
    for name in sorted(total):
        print(f"{name:40} {found[name]:5} / {total[name]}")
    score = 100 * sum(found.values()) / made if made else 100
    print(f"mutate: {sum(found.values())} of {made} faults found, {score:.0f} %; not found:")
    for fault in survivors:
        print(f"  {described(fault)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
