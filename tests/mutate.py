#!/usr/bin/env python3
"""How many small faults in the headers the tests find: python3 tests/mutate.py [--count N] [--first N] [--seed S]

One operator, comparison, constant or statement at a time is changed, on lines drawn by the seed from the parts listed
below, each with the tests that should find it. A change that does not compile, or that gives the same object code, is
drawn again. So is one that can change no result, since it is no fault: < for <= in a minimum, and what
tests/mutate_equal.txt lists with its reason; these are counted apart. What the listed tests do not find goes through
the other test programs before it counts as a survivor (with --own: not). A line a fault goes to build/mutate/table.csv,
where a run that was stopped goes on; survivors are tried again once the tests or that list changed, all faults once
the headers did. One set of kernels is built, since they are one text, where the machine has fused multiply-add. Faults
are numbered: those from --first on are tried, so that two copies of the repository can share the work. Compilers and
tests are run by what WRAPPER in the environment says, if anything. The last line is the total, "N passed, N failed":
passed is one that was found.
"""
import argparse
import csv
import hashlib
import json
import os
import platform
import random
import re
import resource
import shlex
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "build", "mutate")
EQUAL = os.path.join(ROOT, "tests", "mutate_equal.txt")
WRAPPER = shlex.split(os.environ.get("WRAPPER", ""))
# File, first and last heading of the part, tests that look at it, share of the faults.
PARTS = [
    ("mdemix.h", "7. KERNELS", "8. TENSORS", ["test_kernels", "test_ops"], 25),
    ("mdemix.h", "8. TENSORS", "9. LAYERS", ["test_ops"], 20),
    ("mdemix.h", "5. FILES", "6. RANDOM", ["test_files", "test_platform"], 10),
    ("mdemix.h", "10. TEXT", "11. LANGUAGE", ["test_text"], 8),
    ("mdemix.h", "11. LANGUAGE", "12. SIMPLEX", ["test_lm"], 8),
    ("mdemix.h", "12. SIMPLEX", "14. DENSE", ["test_search", "test_mde"], 10),
    ("mdemix.h", "14. DENSE", "16. EVALUATION", ["test_regression"], 12),
    ("mdemix.h", "16. EVALUATION", "17. PICTURES", ["test_regression", "test_search", "test_optimize"], 7),
]
ALL = ["test_platform", "test_files", "test_text", "test_kernels", "test_ops", "test_training", "test_lm",
       "test_search", "test_mde", "test_regression", "test_optimize", "test_experiment", "test_dagan_ops",
       "test_dagan_training"]
# As in the Makefile: tests of the public functions link compiled headers, of which only some link dagan.h.
LINKED = ["test_mde", "test_search", "test_training", "test_dagan_ops", "test_dagan_training"]
LINKED_DAGAN = ["test_dagan_ops"]
CHANGES = [
    (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" / ", " * "), (r" < ", " <= "), (r" <= ", " < "),
    (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "), (r" && ", " || "), (r" \|\| ", " && "),
    (r" \+= ", " -= "), (r" -= ", " += "), (r"\b0\.5\b", "0.6"), (r"\b2\.0\b", "2.1"), (r"\b1\.0\b", "1.1"),
    (r" = 0;", " = 1;"), (r" = 1;", " = 0;"), (r"\+\+", "--"), (r"\breturn 1;", "return 0;"),
    (r"\breturn 0;", "return 1;"),
    (r"^(\s+)[a-z_>.\[\]\-]+(\[[^=;]*\])? [-+*]?= [^;]*;$", r"\1;"),
]
# The smaller or larger of two numbers: whether equal ones are compared with < or <= cannot matter.
EXTREMES = [r"(?:= |\()((?:[^=?:;<>]|->)+) [<>]=? (?!0)((?:[^=?:;<>]|->)+) \? (?:\1 : \2|\2 : \1)[;),]",
            r"if \((\S+) [<>]=? (?!0)(\S+)\) \1 = \2;"]


def code_lines(lines, first, last):
    """Numbers of the lines of a part that are statements: no comments, prototypes, messages or preprocessor."""
    start, end = (max(i for i, line in enumerate(lines) if line.strip().startswith(h)) for h in (first, last))
    comment = False
    for i in range(start, end):
        line = lines[i]
        was = comment
        if "/*" in line and "*/" not in line:
            comment = True
        if "*/" in line:
            comment = False
        if was or comment or "/*" in line or '"' in line or not line.startswith("    "):
            continue
        if line.lstrip().startswith(("#", "MDE", "static", "mde_fail", "for (i = 0; i < count; i++) {}")):
            continue
        yield i


def function_of(lines, at):
    """Name of the function or macro that a line is part of."""
    while at > 0 and not re.match(r"[a-z].*\(.*[^;]$|#define \w+\(.*\\$", lines[at]):
        at -= 1
    return re.search(r"(\w+)\(", re.sub(r"\bMDE__K\((\w+)\)", r"\1", lines[at]) + "(").group(1)


def read_equal():
    """Reasons by function, line before and after: blocks of "function: reason", "- before", "+ after"."""
    equal, reason, before = {}, None, None
    with open(EQUAL, encoding="utf-8") as file:
        for number, line in enumerate(file.read().split("\n"), 1):
            if line.startswith("- ") and reason:
                before = line[2:]
            elif line.startswith("+ ") and before is not None:
                equal[tuple(reason[:1]) + (before, line[2:])] = reason[1]
            elif re.match(r"\w+: .", line):
                reason, before = line.split(": ", 1), None
            elif line and not line.startswith("#"):
                sys.exit("%s line %d: not \"function: reason\", \"- before\", \"+ after\"" % (EQUAL, number))
    return equal


def without_effect(equal, function, before, after):
    """Why a change alters no result, or None."""
    for pattern in EXTREMES:
        old, new = re.search(pattern, before), re.search(pattern, after)
        if old and new and before[:old.start()] == after[:new.start()] and before[old.end():] == after[new.end():]:
            return "the smaller or larger of two equal numbers"
    return equal.get((function, before.strip(), after.strip()))


def draw(rng):
    """One fault: file, line number, function, text before and after, tests."""
    part = rng.choices(PARTS, weights=[p[4] for p in PARTS])[0]
    with open(os.path.join(ROOT, part[0]), encoding="utf-8") as file:
        lines = file.read().split("\n")
    while True:
        at = rng.choice(list(code_lines(lines, part[1], part[2])))
        found = [(m, new) for old, new in CHANGES for m in re.finditer(old, lines[at])]
        if not found:
            continue
        match, new = rng.choice(found)
        after = lines[at][:match.start()] + match.expand(new) + lines[at][match.end():]
        return part[0], at, function_of(lines, at), lines[at], after, part[3]


def run(command, cpu):
    """Exit code of a command that may take so many seconds of a processor; waiting for one counts little."""
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    try:
        return subprocess.run(WRAPPER + command, cwd=FOLDER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=1800, check=False, preexec_fn=limit).returncode
    except subprocess.TimeoutExpired:
        return -1


FLAGS = ["-std=c99", "-O1", "-w"]
if platform.machine() == "x86_64":
    FLAGS += ["-mavx2", "-mfma", "-DMDE_NO_SIMD"]


def build(test):
    """Compiles one test in the scratch tree; 0 if it compiles. Objects stay until the header changes."""
    objects = []
    if test in LINKED:
        for header in ("mdemix", "dagan") if test in LINKED_DAGAN else ("mdemix",):
            objects.append(header + ".o")
            if os.path.exists(os.path.join(FOLDER, header + ".o")):
                continue
            code = run(["cc"] + FLAGS + ["-D%s_IMPLEMENTATION" % header.upper(), "-x", "c", "-c",
                                         header + ".h", "-o", header + ".o"], 600)
            if code:
                return code
    return run(["cc"] + FLAGS + [os.path.join("tests", test + ".c")] + objects + ["-o", test, "-lm"], 600)


def digest(test):
    with open(os.path.join(FOLDER, test), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def finds(test, reference, built):
    """Whether a test finds the fault. What computes for far longer than it did does not end."""
    if not built and build(test) != 0:
        return True
    limit = int(5 + 4 * reference[test]["seconds"])
    return digest(test) != reference[test]["digest"] and run(["./" + test], limit) != 0


def read_json(name, default):
    path = os.path.join(FOLDER, name)
    if not os.path.exists(path):
        return default
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_json(name, value):
    with open(os.path.join(FOLDER, name + ".tmp"), "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(os.path.join(FOLDER, name + ".tmp"), os.path.join(FOLDER, name))


def sources(*folders):
    """Digest of the C files in some folders."""
    text = hashlib.sha256()
    for folder in folders:
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            if name.endswith((".c", ".h")):
                with open(os.path.join(ROOT, folder, name), "rb") as file:
                    text.update(file.read())
    return text.hexdigest()


def references(tests):
    """Digest and seconds of each test that passes as it is, and a line for one that does not; kept for the next run."""
    kept = read_json("references.json", {})
    if kept.get("sources") != sources("tests", "examples", "."):
        kept = {"sources": sources("tests", "examples", "."), "tests": {}}
    for test in tests:
        if test in kept["tests"]:
            continue
        if build(test) != 0:
            sys.exit("mutate: %s does not compile" % test)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        if run(["./" + test], 600) != 0:
            print("%s does not pass as it is: it judges nothing here" % test, flush=True)
            continue
        seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        kept["tests"][test] = {"digest": digest(test), "seconds": seconds}
        write_json("references.json", kept)
    return kept["tests"]


def prepare():
    """A copy of what the tests are made of; links would lead their "../mdemix.h" back to the sources."""
    os.makedirs(os.path.join(FOLDER, "build"), exist_ok=True)
    for name in ("tests", "examples"):
        shutil.copytree(os.path.join(ROOT, name), os.path.join(FOLDER, name), dirs_exist_ok=True)
    restore()


def change(name, text):
    """Writes a header into the scratch tree, where nothing built from another stays."""
    with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
        file.write(text)
    for built in ("mdemix.o", "dagan.o"):
        if os.path.exists(os.path.join(FOLDER, built)):
            os.remove(os.path.join(FOLDER, built))


def restore():
    for name in ("mdemix.h", "dagan.h"):
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            change(name, file.read())


def one_fault(rng, number, equal, reference, silent, keep, own):
    """Draws a fault and lets the tests look for it: its row of the table."""
    without = []
    while True:
        name, at, function, before, after, tests = draw(rng)
        reason = without_effect(equal, function, before, after)
        if reason:
            without.append(reason)
            continue
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            lines = file.read().split("\n")
        lines[at] = after
        order = [t for t in tests + [t for t in ALL if t not in tests and not own] if t in reference]
        if not order:
            sys.exit("mutate: no test passes as it is")
        change(name, "\n".join(lines))
        if build(order[0]) == 0 and digest(order[0]) != reference[order[0]]["digest"]:
            break
    killer = ""
    for test in order:
        if killer or [number, at, after, test] in silent:
            continue
        if finds(test, reference, test == order[0]):
            killer = test
        else:
            silent.append([number, at, after, test])
            keep()
    return {"number": number, "file": name, "line": at + 1, "function": function, "found_by": killer,
            "before": before.strip(), "after": after.strip(), "without_effect": "\n".join(without)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--own", action="store_true", help="only the tests of a fault's part")
    options = parser.parse_args()
    equal = read_equal()
    os.environ["OMP_NUM_THREADS"] = "1"
    prepare()
    reference = references([test for test in ALL if not options.own or any(test in part[3] for part in PARTS)])
    suffix = "" if options.seed == 1 else "-%d" % options.seed
    table, kept = os.path.join(FOLDER, "table%s.csv" % suffix), "silent%s.json" % suffix
    state = {"headers": sources("."), "sources": sources("tests", "examples", ".")}
    silent = read_json(kept, dict(state, list=[]))     # tests that did not find a fault, for a run stopped in between
    done = {}
    if os.path.exists(table) and silent["headers"] != state["headers"]:
        os.remove(table)
    if silent["sources"] != state["sources"]:
        silent = dict(state, list=[])
    if os.path.exists(table):
        with open(table, encoding="utf-8", newline="") as file:
            done = {int(row["number"]): row for row in csv.DictReader(file)}
    done = {number: row for number, row in done.items() if row["found_by"] or options.own and any(
        tried[0] == number for tried in silent["list"]) and (row["function"], row["before"], row["after"]) not in equal}
    passed = failed = 0
    reasons = {}
    for number in range(options.first, options.count):
        rng = random.Random("%d-%d" % (options.seed, number))
        if number not in done:
            row = one_fault(rng, number, equal, reference, silent["list"], lambda: write_json(kept, silent),
                            options.own)
            fresh = not os.path.exists(table)
            with open(table, "a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
            done[number] = row
            print("%3d %s:%d %s %s  ->  %s" % (number, row["file"], row["line"], row["found_by"] or "SURVIVES",
                                               row["before"], row["after"]), flush=True)
        for reason in filter(None, done[number]["without_effect"].split("\n")):
            reasons[reason] = reasons.get(reason, 0) + 1
        if done[number]["found_by"]:
            passed += 1
        else:
            failed += 1
    restore()
    print("%d changes without effect were drawn again" % sum(reasons.values()))
    for reason in sorted(reasons):
        print("%5d  %s" % (reasons[reason], reason))
    print("%d passed, %d failed" % (passed, failed))
    return 0 if passed >= 0.92 * (passed + failed) else 1


if __name__ == "__main__":
    sys.exit(main())
