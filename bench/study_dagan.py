#!/usr/bin/env python3
"""The study of made images: splits by alphabet, runs that grow row by row, tables from the rows.

    study_dagan.py split N FILE             the split of number N as dagan_lab --split takes it
    study_dagan.py run DATA OUT [N [SEED]]  trains and measures one split and seed; again: goes on. SCALE=0.02: a trial
    study_dagan.py rows N SEED OUT          rows of OUT/classify.csv and OUT/match.json into bench/study/dagan_*.csv
    study_dagan.py tables                   Markdown from bench/study/dagan_*.csv
    study_dagan.py sheet IMAGES LABELS FILE examples/data/characters.pbm, from unpacked IDX files

DATA is Omniglot's background set, 28 x 28, as IDX in alphabet order: omniglot28-background-images-idx3-ubyte.
"""
import csv
import hashlib
import json
import math
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
STUDY = os.path.join(HERE, "study")
ALPHABETS = """Magi 20 Futhorc 29 Arcadian 26 Armenian 41 Asomtavruli 40 Balinese 24 Bengali 46 Blackfoot 14 Braille 26
Burmese 34 Cyrillic 33 Aramaic 22 Futurama 26 Grantha 43 Greek 24 Gujarati 48 Hebrew 22 Inuktitut 16 Hiragana 52
Katakana 47 Korean 40 Latin 26 Malay 40 Mkhedruli 41 NKo 33 Ojibwe 14 Sanskrit 42 Syriac 23 Tagalog 17
Tifinagh 55""".split()
NAMES, COUNTS = ALPHABETS[::2], [int(n) for n in ALPHABETS[1::2]]
FIRST = [sum(COUNTS[:a]) for a in range(len(COUNTS))]
SHEET = {"Magi": 7, "Futhorc": 7, "Balinese": 7, "Cyrillic": 7, "Hiragana": 7, "Tagalog": 5}    # targets of split 1
CELL = 42


def split(number):
    """Alphabets of each part: 4 to choose on, 7 to test on, 19 to train on, in an order by a hash."""
    order = sorted(range(len(NAMES)), key=lambda a: hashlib.sha256(f"{number} {NAMES[a]}".encode()).hexdigest())
    return {"source": sorted(order[11:]), "validation": sorted(order[:4]), "target": sorted(order[4:11])}


def write_split(number, path):
    parts = {part: [f"class {FIRST[a] + k}" for a in alphabets for k in range(COUNTS[a])]
             for part, alphabets in split(number).items()}
    with open(path, "w") as f:
        json.dump(parts, f)


def run(data, out, number="1", seed="1"):
    scale = float(os.environ.get("SCALE", "1"))
    os.makedirs(out, exist_ok=True)
    write_split(int(number), os.path.join(out, "split.json"))
    options = ["--data", data, "--split", os.path.join(out, "split.json"), "--seed", seed, "--out", out]
    if scale < 1:
        for name, full in (("--steps", 8000), ("--classifier-steps", 6000), ("--episodes", 6000)):
            options += [name, str(max(2, int(full * scale)))]
        options += ["--runs", "1", "--samples", "5"]
    lab = os.environ.get("LAB", os.path.join(HERE, "..", "build", "dagan_lab"))
    for step in ("train", "sample", "classify", "match"):
        subprocess.run([lab, step] + options, check=True)
        rows(number, seed, out)


def append(name, header, fresh):
    """Rows of a table under bench/study; one that is there already is not added again."""
    os.makedirs(STUDY, exist_ok=True)
    path = os.path.join(STUDY, name)
    have = list(csv.reader(open(path))) if os.path.exists(path) else [header]
    have += [r for r in ([str(c) for c in row] for row in fresh) if r not in have]
    with open(path, "w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows(have)


def rows(number, seed, out):
    path = os.path.join(out, "classify.csv")
    if os.path.exists(path):
        with open(path) as f:
            table = list(csv.DictReader(f))
        if table:
            names = list(table[0])[1:]
            append("dagan_classify.csv", ["split", "seed"] + names,
                   [[number, seed] + [row[name] for name in names] for row in table])
    path = os.path.join(out, "match.json")
    if not os.path.exists(path):
        return
    with open(path) as f:
        match = json.load(f)
    append("dagan_match.csv", ["split", "seed", "matcher", "way", "shot", "accuracy", "gain", "gain_error", "weight"],
           [[number, seed, m["matcher"], a["way"], a["shot"], a["mean"], a.get("gain", ""),
             a.get("gain_standard_error", ""), a.get("weight", "")]
            for m in match.get("matchers", []) for a in m["accuracy"]])
    append("dagan_quality.csv", ["split", "seed", "kept", "diversity", "copy", "recognised", "real_recognised"],
           [[number, seed, q["kept"], q["diversity"], q["copy"], q["recognisability"], q["real_recognisability"]]
            for key, q in match.items() if key.startswith("quality")])


def read(name):
    path = os.path.join(STUDY, name)
    with open(path) as f:
        return list(csv.DictReader(f)) if os.path.exists(path) else []


def last(row):
    """Accuracy at the end of the training."""
    return [float(row[f"accuracy{k}"]) for k in (4, 3, 2, 1) if row[f"accuracy{k}"]][0]


def mean_error(values):
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{100 * mean:.1f}"
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return f"{100 * mean:.1f} +- {100 * error:.1f}"


def tables():
    if os.path.exists(os.path.join(STUDY, "dagan_quality.csv")):
        print("| split, seed | kept | diversity | copy ratio | recognised | real ones |\n" + "| --- " * 6 + "|")
        for q in read("dagan_quality.csv"):
            cells = [f"{float(q[k]):.3f}" for k in ("kept", "diversity", "copy", "recognised", "real_recognised")]
            print(f"| {q['split']}, {q['seed']} | " + " | ".join(cells) + " |")
        print()
    if os.path.exists(os.path.join(STUDY, "dagan_classify.csv")):
        table = read("dagan_classify.csv")
        measured = {}
        for r in table:
            if r["set"] == "target":
                key = (int(r["samples"]), r["arm"])
                measured.setdefault(key, {})[(r["split"], r["seed"], r["run"])] = (last(r), int(r["steps"]))
        print("| real samples a class | arm | accuracy, % | over none, paired | over classic, paired | steps | runs |")
        print("| --- " * 7 + "|")
        for (samples, arm), got in sorted(measured.items(), key=lambda item: item[0][0]):
            cells = [mean_error([v for v, _ in got.values()])]
            for other in ("none", "classic"):
                base = measured.get((samples, other), {})
                both = [got[k][0] - base[k][0] for k in got if k in base]
                cells.append("" if arm == other or not both else mean_error(both))
            steps = sum(s for _, s in got.values()) / len(got)
            print(f"| {samples} | {arm} | " + " | ".join(cells) + f" | {steps:.0f} | {len(got)} |")
        print()
    if os.path.exists(os.path.join(STUDY, "dagan_match.csv")):
        print("| matcher | way, shot | accuracy, % | gain | weight |\n" + "| --- " * 5 + "|")
        for m in read("dagan_match.csv"):
            gain = f"{100 * float(m['gain']):.2f} +- {100 * float(m['gain_error']):.2f}" if m["gain"] else ""
            print(f"| {m['matcher']} | {m['way']}, {m['shot']} | {100 * float(m['accuracy']):.2f} | {gain} | "
                  f"{m['weight']} |")


def sheet(images, labels, path):
    """Characters evenly from the target alphabets of split 1, all 20 drawers: cells of 42 pixels, black and white, from
    28 x 28 grey ones so that the ink stays."""
    with open(images, "rb") as f:
        pixels = f.read()[16:]
    with open(labels, "rb") as f:
        raw = f.read()[8:]
    label = [256 * raw[2 * i] + raw[2 * i + 1] for i in range(len(raw) // 2)]
    classes = [FIRST[a] + int((i + .5) * COUNTS[a] / SHEET[NAMES[a]]) for a in split(1)["target"]
               if NAMES[a] in SHEET for i in range(SHEET[NAMES[a]])]
    at = []
    for k in range(CELL):
        x = (k + .5) * 28 / CELL - .5
        i = min(max(int(x // 1), 0), 26)
        at.append((i, min(max(x - i, 0), 1)))
    width, height = 20 * CELL, len(classes) * CELL
    bits = bytearray(width * height // 8)
    for row, wanted in enumerate(classes):
        for column, n in enumerate(i for i in range(len(label)) if label[i] == wanted):
            image = pixels[784 * n:784 * n + 784]
            lines = [[image[28 * y + i] * (1 - f) + image[28 * y + i + 1] * f for i, f in at] for y in range(28)]
            large = [[lines[i][x] * (1 - f) + lines[i + 1][x] * f for x in range(CELL)] for i, f in at]
            order = sorted((v for line in large for v in line), reverse=True)
            threshold = order[round(sum(image) / 255 * CELL * CELL / 784)]
            for y in range(CELL):
                for x in range(CELL):
                    if large[y][x] > threshold:
                        bit = (row * CELL + y) * width + column * CELL + x
                        bits[bit // 8] |= 128 >> bit % 8
    with open(path, "wb") as f:
        f.write(b"P4\n%d %d\n" % (width, height) + bytes(bits))


def main():
    commands = {"split": lambda n, path: write_split(int(n), path), "run": run, "rows": rows, "tables": tables,
                "sheet": sheet}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
