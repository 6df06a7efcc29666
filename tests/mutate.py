#!/usr/bin/env python3
"""How many small faults in the headers the tests find: python3 tests/mutate.py [--count N] [--first N] [--seed S]

One operator, comparison, constant or statement at a time is changed, on lines drawn by the seed from the parts listed
below, each with the tests that should find it. A change that does not compile, or that gives the same object code, is
drawn again. What the listed tests do not find goes through the other test programs before it counts as a survivor. A
line a fault goes to build/mutate/table.csv, where a run that was stopped goes on. One set of kernels is built, since
they are one text, where the machine has fused multiply-add. Faults are numbered: those from --first on are tried, so
that two copies of the repository can share the work. The last line is the total, "N passed, N failed": passed is one
that was found.
"""
import argparse
import csv
import os
import platform
import random
import re
import resource
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "build", "mutate")
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
ALL = ["test_platform", "test_files", "test_text", "test_kernels", "test_ops", "test_training", "test_lm", "test_search",
       "test_mde", "test_regression", "test_optimize", "test_experiment", "test_dagan_ops", "test_dagan_training"]
LINKED = ["test_mde", "test_search", "test_training", "test_dagan_ops", "test_dagan_training"]
CHANGES = [
    (r" \+ ", " - "), (r" - ", " + "), (r" \* ", " + "), (r" / ", " * "), (r" < ", " <= "), (r" <= ", " < "),
    (r" > ", " >= "), (r" >= ", " > "), (r" == ", " != "), (r" != ", " == "), (r" && ", " || "), (r" \|\| ", " && "),
    (r" \+= ", " -= "), (r" -= ", " += "), (r"\b0\.5\b", "0.6"), (r"\b2\.0\b", "2.1"), (r"\b1\.0\b", "1.1"),
    (r" = 0;", " = 1;"), (r" = 1;", " = 0;"), (r"\+\+", "--"), (r"\breturn 1;", "return 0;"), (r"\breturn 0;", "return 1;"),
    (r"^(\s+)[a-z_>.\[\]\-]+(\[[^=;]*\])? [-+*]?= [^;]*;$", r"\1;"),
]


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


def draw(rng):
    """One fault: file, line number, text before and after, tests."""
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
        return part[0], at, lines[at], after, part[3]


def run(command, seconds):
    try:
        return subprocess.run(command, cwd=FOLDER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=seconds, check=False, preexec_fn=limit).returncode
    except subprocess.TimeoutExpired:
        return -1


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))


FLAGS = ["-std=c99", "-O1", "-w"]
if platform.machine() == "x86_64":
    FLAGS += ["-mavx2", "-mfma", "-DMDE_NO_SIMD"]


def build(test):
    """Compiles one test in the scratch tree; 0 if it compiles."""
    name = os.path.join("tests", test + ".c")
    objects = []
    if test in LINKED:
        for header in ("mdemix", "dagan") if "dagan" in test else ("mdemix",):
            objects.append(header + ".o")
            code = run(["cc"] + FLAGS + ["-D%s_IMPLEMENTATION" % header.upper(), "-x", "c", "-c",
                                         header + ".h", "-o", header + ".o"], 600)
            if code:
                return code
    return run(["cc"] + FLAGS + [name] + objects + ["-o", test, "-lm"], 600)


def digest(test):
    with open(os.path.join(FOLDER, test), "rb") as file:
        return hash(file.read())


def fails(test, built=False):
    return (not built and build(test) != 0) or run(["./" + test], 900) != 0


def whole(test, known={}):
    """Digest of a test built from the headers as they are, by which it must pass; None, and a line, if it does not."""
    if test not in known:
        restore()
        known[test] = None if fails(test) else digest(test)
        if known[test] is None:
            print("%s does not pass as it is: it judges nothing here" % test, flush=True)
    return known[test]


def prepare():
    """A copy of what the tests are made of; links would lead their "../mdemix.h" back to the sources."""
    os.makedirs(os.path.join(FOLDER, "build"), exist_ok=True)
    for name in ("tests", "examples"):
        shutil.copytree(os.path.join(ROOT, name), os.path.join(FOLDER, name), dirs_exist_ok=True)
    restore()


def restore():
    for name in ("mdemix.h", "dagan.h"):
        shutil.copy(os.path.join(ROOT, name), FOLDER)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    table = os.path.join(FOLDER, "table.csv")
    os.environ["OMP_NUM_THREADS"] = "1"
    prepare()
    done = {}
    if os.path.exists(table):
        with open(table, encoding="utf-8", newline="") as file:
            done = {int(row["number"]): row for row in csv.DictReader(file)}
    passed = failed = 0
    for number in range(options.first, options.count):
        rng = random.Random("%d-%d" % (options.seed, number))
        while number not in done:
            name, at, before, after, tests = draw(rng)
            with open(os.path.join(ROOT, name), encoding="utf-8") as file:
                lines = file.read().split("\n")
            lines[at] = after
            order = [t for t in tests + [t for t in ALL if t not in tests] if whole(t)]
            if not order:
                sys.exit("mutate: no test passes as it is")
            with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
                file.write("\n".join(lines))
            if build(order[0]) == 0 and digest(order[0]) != whole(order[0]):
                break
        if number not in done:
            killer = ""
            for test in order:
                if not killer and fails(test, built=test == order[0]):
                    killer = test
            row = {"number": number, "file": name, "line": at + 1, "found_by": killer, "before": before.strip(),
                   "after": after.strip()}
            fresh = not os.path.exists(table)
            with open(table, "a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
            done[number] = row
            print("%3d %s:%d %-16s %s  ->  %s" % (number, name, at + 1, killer or "SURVIVES", row["before"], row["after"]),
                  flush=True)
        if done[number]["found_by"]:
            passed += 1
        else:
            failed += 1
    restore()
    print("%d passed, %d failed" % (passed, failed))
    return 0 if passed >= 0.92 * (passed + failed) else 1


if __name__ == "__main__":
    sys.exit(main())
