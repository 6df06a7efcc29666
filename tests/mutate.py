#!/usr/bin/env python3
"""How many small faults in the headers the tests find: python3 tests/mutate.py [--count N] [--first N] [--seed S]

One operator, comparison, constant or statement at a time is changed, on lines drawn by the seed from the parts listed
below, each with the tests that should find it. A change that does not compile, or that gives the same object code, is
drawn again. What the listed tests do not find goes through the other test programs before it counts as a survivor. A
line a fault goes to build/mutate/table.csv, where a run that was stopped goes on. One set of kernels is built, since
they are one text, where the machine has fused multiply-add. Faults are numbered: those from --first on are tried, so
that two copies of the repository can share the work. Compilers and tests are run by what WRAPPER in the environment
says, if anything. The last line is the total, "N passed, N failed": passed is one that was found.
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
ALL = ["test_platform", "test_files", "test_text", "test_kernels", "test_ops", "test_training", "test_lm", "test_search",
       "test_mde", "test_regression", "test_optimize", "test_experiment", "test_dagan_ops", "test_dagan_training"]
# As in the Makefile: tests of the public functions link compiled headers, of which only some link dagan.h.
LINKED = ["test_mde", "test_search", "test_training", "test_dagan_ops", "test_dagan_training"]
LINKED_DAGAN = ["test_dagan_ops"]
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


def references():
    """Digest and seconds of each test that passes as it is, and a line for one that does not; kept for the next run."""
    names = [os.path.join(folder, name) for folder in ("tests", "examples", ".")
             for name in sorted(os.listdir(os.path.join(ROOT, folder))) if name.endswith((".c", ".h"))]
    text = hashlib.sha256()
    for name in names:
        with open(os.path.join(ROOT, name), "rb") as file:
            text.update(file.read())
    kept = read_json("references.json", {})
    if kept.get("sources") != text.hexdigest():
        kept = {"sources": text.hexdigest(), "tests": {}}
    for test in ALL:
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    table = os.path.join(FOLDER, "table.csv")
    os.environ["OMP_NUM_THREADS"] = "1"
    prepare()
    reference = references()
    silent = read_json("silent.json", [])       # tests that did not find a fault, for a run that was stopped in between
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
            order = [t for t in tests + [t for t in ALL if t not in tests] if t in reference]
            if not order:
                sys.exit("mutate: no test passes as it is")
            change(name, "\n".join(lines))
            if build(order[0]) == 0 and digest(order[0]) != reference[order[0]]["digest"]:
                break
        if number not in done:
            killer = ""
            for test in order:
                if killer or [number, test] in silent:
                    continue
                if finds(test, reference, test == order[0]):
                    killer = test
                else:
                    silent.append([number, test])
                    write_json("silent.json", silent)
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
