#!/usr/bin/env python3
"""The study of made images: splits by alphabet, runs that grow row by row, tables from the rows.

    study_dagan.py split N FILE             the split of number N as dagan_lab --split takes it
    study_dagan.py run DATA OUT [N [SEED [HOW]]]   trains and measures one split and seed; again: goes on. SCALE=0.02:
                                            a trial. HOW: wide, a preset of dagan_lab, or untaught
    study_dagan.py rows "N HOW" SEED OUT    rows of OUT/classify.csv and OUT/match.json into bench/study/dagan_*.csv
    study_dagan.py set NAME OUT             those of a set that `dagan_lab classify --weights` was run on
    study_dagan.py judged HOW PART FILE     what `made_quality .. PART` printed of a generator trained as HOW says
    study_dagan.py tables [PAGE]            bench/STUDY-DAGAN.md's tables from bench/study/dagan_*.csv, in their place,
                                            written to PAGE if one is named
    study_dagan.py sheet IMAGES LABELS FILE examples/data/characters.pbm, from unpacked IDX files

DATA is Omniglot's background set, 28 x 28, as IDX in alphabet order: omniglot28-background-images-idx3-ubyte. Or it is
`drawn`: characters that dagan_lab draws, to try the path without any file; their rows name that as the split.
"""
import csv
import hashlib
import inspect
import json
import math
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
STUDY = os.environ.get("STUDY", os.path.join(HERE, "study"))
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


HOW = {"untaught": ["--preset", "compact", "--teach", "0"], "compact": ["--preset", "compact"],
       "wide": ["--preset", "wide"]}


def run(data, out, number="1", seed="1", how="wide"):
    if how not in HOW:
        raise ValueError(f"{how} is no way to train a generator; expected {', '.join(HOW)}")
    scale = float(os.environ.get("SCALE", "1"))
    os.makedirs(out, exist_ok=True)
    options = ["--seed", seed, "--made", "10", "--out", out] + HOW[how]
    if data == "drawn":
        number = "drawn"
    else:
        write_split(int(number), os.path.join(out, "split.json"))
        options += ["--data", data, "--split", os.path.join(out, "split.json")]
    number = f"{number} {how}"
    steps = {"--steps": 8000, "--classifier-steps": 4000, "--episodes": 6000}
    for name, full in steps.items():
        options += [name, str(max(2, int(full * scale)))]
    if scale < 1:
        options += ["--runs", "1", "--samples", "5"]
    restore(number, seed, out)
    lab = os.environ.get("LAB", os.path.join(HERE, "..", "build", "dagan_lab"))
    for step in ("train", "sample", "classify", "match"):
        subprocess.run([lab, step] + options, check=True)
        rows(number, seed, out)


MEASURED = "set classes samples arm run made kept share right steps accuracy_quarter accuracy_half accuracy_all".split()
COLUMNS = {
    "classify.csv": ["key"] + MEASURED,                 # as dagan_lab writes it; the others are the study's
    "dagan_classify.csv": ["split", "seed", "key"] + MEASURED,
    "dagan_sets.csv": ["data"] + MEASURED,
    "dagan_match.csv": "split seed matcher way shot accuracy error without gain gain_error weight".split(),
    "dagan_quality.csv": "split seed kept diversity copy recognised real_recognised".split(),
    "dagan_pixels.csv": "split seed way episodes real with_made with_100_made".split(),
    "dagan_judged.csv": "generator part recognised real_recognised diversity".split(),
    "dagan_scale.csv": "z_scale kept recognised real_recognised diversity".split()}     # as made_quality prints it


def read(name, folder=STUDY, columns=None):
    """The rows of a table, none if it is not there."""
    path, columns = os.path.join(folder, name), columns or COLUMNS[name]
    if not os.path.exists(path):
        return []
    with open(path, newline="") as f:
        table = list(csv.reader(f))
    if not table or any(len(row) != len(columns) for row in table) or table[0] != columns:
        raise ValueError(f"{path}: expected the columns {','.join(columns)}, and a cell of each in every row")
    return [dict(zip(table[0], row)) for row in table[1:]]


def write(name, folder, table):
    path, columns = os.path.join(folder, name), COLUMNS[name]
    with open(path + ".part", "w", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows([columns] + [[row[c] for c in columns] for row in table])
    os.replace(path + ".part", path)


def append(name, fresh):
    """Adds rows to a table of the study; one that is there already is not added again."""
    os.makedirs(STUDY, exist_ok=True)
    have = read(name)
    write(name, STUDY, have + [row for row in ({c: str(cell) for c, cell in row.items()} for row in fresh)
                               if row not in have])


def restore(number, seed, out):
    """OUT/classify.csv of a machine that is gone, from the rows that it left, and what no generator has a part in from
    those of another one: dagan_lab measures none of them again."""
    have = [row for row in read("dagan_classify.csv") if row["key"] and row["seed"] == seed and
            (row["split"] == number or row["split"].split()[0] == number.split()[0] and row["made"] == "0")]
    have = list({row["key"]: row for row in have}.values())
    if have and not os.path.exists(os.path.join(out, "classify.csv")):
        write("classify.csv", out, have)


def rows(number, seed, out):
    of = {"split": number, "seed": seed}
    append("dagan_classify.csv", [{**of, **row} for row in read("classify.csv", out)])
    path = os.path.join(out, "match.json")
    if not os.path.exists(path):
        return
    with open(path) as f:
        match = json.load(f)
    append("dagan_match.csv", [
        {**of, "matcher": m["matcher"], "way": a["way"], "shot": a["shot"], "accuracy": a["mean"],
         "error": a.get("standard_error", ""), "without": a.get("without", ""), "gain": a.get("gain", ""),
         "gain_error": a.get("gain_standard_error", ""), "weight": a.get("weight", "")}
        for m in match.get("matchers", []) for a in m["accuracy"]])
    append("dagan_quality.csv", [
        {**of, "kept": q["kept"], "diversity": q["diversity"], "copy": q["copy"], "recognised": q["recognisability"],
         "real_recognised": q["real_recognisability"]} for key, q in match.items() if key.startswith("quality")])
    if "pixels" in match:
        pixels = {"episodes": match["test_episodes"], **match["pixels"]}
        append("dagan_pixels.csv", [{**of, **{c: pixels.get(c, "") for c in COLUMNS["dagan_pixels.csv"][2:]}}])


def named_set(name, out):
    table = read("classify.csv", out)
    if not table:
        sys.exit(f"study_dagan.py: {os.path.join(out, 'classify.csv')}: has no rows, or is not there")
    append("dagan_sets.csv", [{"data": name, **{c: row[c] for c in MEASURED}} for row in table])


def judged(how, part, path):
    found = read(path, "", COLUMNS["dagan_scale.csv"])
    if len(found) != 1:
        raise ValueError(f"{path}: expected one row, of made_quality with a PART")
    append("dagan_judged.csv", [{**{c: found[0][c] for c in COLUMNS["dagan_judged.csv"][2:]}, "generator": how,
                                 "part": part}])


LENGTHS = MEASURED[-3:]
ARMS = ("none", "standard", "classic", "DAGAN", "screened", "classic + screened")
PAIRS = (("DAGAN", "none"), ("DAGAN", "standard"), ("DAGAN", "classic"), ("screened", "none"),
         ("classic + screened", "classic"))


def accuracy(row):
    """In %, after all steps."""
    return 100 * float(row[LENGTHS[-1]])


def mean_error(values, digits=1):
    """Mean and its standard error, which takes two values or more."""
    mean = sum(values) / len(values)
    shown = f"{round(mean, digits) + 0.0:.{digits}f}"       # and never -0.0
    if len(values) < 2:
        return shown
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return f"{shown} +- {error:.{digits}f}"


def table(header, lines):
    return "\n".join(["| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header)] + lines]) + "\n"


def accuracies(measured, key):
    """Accuracy by arm and run of what `key` selects."""
    found = {}
    for r in measured:
        if key(r):
            found.setdefault(r["arm"], {})[(r.get("split", ""), r.get("seed", ""), r["run"])] = accuracy(r)
    return found


def differences(found, arm, other):
    return {run: found[arm][run] - found[other][run] for run in found.get(arm, {}) if run in found.get(other, {})}


def gain(measured, key, arm, other):
    """Paired, with its standard error; the arm is the other one where the validation classes chose no made images."""
    shares = {float(r["share"]) for r in measured if key(r) and r["arm"] == arm}
    if shares == {0}:
        return "0: none were chosen"
    paired = differences(accuracies(measured, key), arm, other)
    return mean_error(list(paired.values())) if paired else ""


def arms_table(measured, name, groups):
    """Groups of rows, (what they are called, which they are): the arms, and what made images give, paired."""
    lines = []
    for group, key in groups:
        found = accuracies(measured, key)
        if not found:
            continue
        lines.append([group] + [mean_error(list(found[a].values())) if a in found else "" for a in ARMS] +
                     [gain(measured, key, *pair) for pair in PAIRS])
    return table([name] + list(ARMS) + [f"{a} - {b}" for a, b in PAIRS], lines)


def how_of(row):
    """How the generator was trained: behind the number of the split."""
    return row["split"].partition(" ")[2]


def over_splits(measured, samples, how):
    """What made images give at so many samples: the mean of the splits' means, with the standard error over splits."""
    found = accuracies(measured, lambda r: r["set"] == "target" and r["samples"] == samples and how_of(r) == how)
    cells = []
    for pair in PAIRS:
        by_split = {}
        for (split_number, _, _), value in differences(found, *pair).items():
            by_split.setdefault(split_number, []).append(value)
        cells.append(mean_error([sum(v) / len(v) for v in by_split.values()]) + f" ({len(by_split)})" if by_split
                     else "")
    return cells


def classify_tables():
    measured = read("dagan_classify.csv")
    target = [r for r in measured if r["set"] == "target"]
    groups = sorted({(int(r["samples"]), r["split"]) for r in target}, key=lambda g: (g[0], g[1].split()[::-1]))
    text = arms_table(target, "samples, split",
                      [(f"{n}, {k}", lambda r, n=n, k=k: r["samples"] == str(n) and r["split"] == k)
                       for n, k in groups])
    text += "\nOver splits (their number), +- standard error over splits:\n\n"
    text += table(["samples, generator"] + [f"{a} - {b}" for a, b in PAIRS],
                  [[f"{n}, {how}"] + over_splits(measured, str(n), how)
                   for n, how in sorted({(int(r["samples"]), how_of(r)) for r in target})])
    text += "\nSteps of each arm on the target characters, made images a real one, share kept, share of a batch:\n\n"
    lines = []
    for n, k in groups:
        cells = []
        for arm in ARMS:
            r = [r for r in target if r["arm"] == arm and r["samples"] == str(n) and r["split"] == k]
            how = "" if not r or r[0]["made"] == "0" else f"; {r[0]['made']}, {r[0]['kept']}, {r[0]['share']}"
            cells.append(r[0]["steps"] + how if r else "")
        lines.append([f"{n}, {k}"] + cells)
    text += table(["samples, split"] + list(ARMS), lines)
    text += "\nChosen by, on the validation characters: accuracy after a quarter, half and all of the steps:\n\n"
    lines = []
    for r in sorted((r for r in measured if r["set"] == "validation"),
                    key=lambda r: (int(r["samples"]), r["split"], ARMS.index(r["arm"]))):
        how = "" if r["made"] == "0" else f" ({r['made']}, {r['kept']}, {r['share']})"
        lines.append([f"{r['samples']}, {r['split']}", r["arm"] + how] +
                     [f"{100 * float(r[k]):.1f}" if r[k] else "" for k in LENGTHS])
    return text + table(["samples, split", "arm", "quarter", "half", "all"], lines)


def quality_tables():
    lines = [[q["split"], q["kept"]] + [f"{float(q[k]):.3f}" for k in ("diversity", "copy", "recognised",
                                                                        "real_recognised")]
             for q in read("dagan_quality.csv")]
    text = table(["split", "kept", "diversity", "copy ratio", "recognised", "real ones"], lines)
    lines = []
    for how in generators_of("dagan_quality.csv"):
        of = [q for q in read("dagan_quality.csv") if how_of(q) == how]
        for kept in dict.fromkeys(q["kept"] for q in of):
            lines.append([how, kept] + [mean_error([float(q[c]) for q in of if q["kept"] == kept], 3) for c in
                                        ("diversity", "recognised", "real_recognised")] +
                         [str(sum(q["kept"] == kept for q in of))])
    return text + "\nMeans over splits, +- standard error over splits:\n\n" + table(
        ["generator", "kept", "diversity", "recognised", "real ones", "splits"], lines)


def scale_table():
    measured = ("recognised", "diversity", "real_recognised")
    return table(["z times", "kept", "recognised", "diversity", "real ones"],
                 [[q["z_scale"], q["kept"]] + [f"{float(q[k]):.3f}" for k in measured] for q in read("dagan_scale.csv")])


def judged_table():
    """A line of each generator, and of real images, by one judge."""
    measured = read("dagan_judged.csv")
    parts = ("source", "validation", "target")
    lines = []
    for how in dict.fromkeys(q["generator"] for q in measured):
        by_part = {q["part"]: q for q in measured if q["generator"] == how}
        lines.append([how] + [f"{float(by_part[p]['recognised']):.3f}" if p in by_part else "" for p in parts] +
                     [f"{float(by_part['target']['diversity']):.3f}" if "target" in by_part else ""])
    real = {q["part"]: q["real_recognised"] for q in measured}
    lines.append(["real ones"] + [f"{float(real[p]):.3f}" if p in real else "" for p in parts] + ["1"])
    return table(["generator"] + [f"{p} characters" for p in parts] + ["diversity of target ones"], lines)


EPISODES = (("5", "1"), ("5", "5"), ("20", "1"), ("20", "5"))


def generators_of(name):
    return sorted({how_of(row) for row in read(name)})


def gain_over_splits(how, way, shot):
    """In points; none where weight 0 was chosen."""
    gains = [100 * float(m["gain"] or 0) for m in read("dagan_match.csv")
             if how_of(m) == how and (m["way"], m["shot"]) == (way, shot) and m["weight"]]
    return f"{mean_error(gains, 2)} ({len(gains)})" if gains else ""


def match_tables():
    lines = []
    for m in read("dagan_match.csv"):
        error = f" +- {100 * float(m['error']):.2f}" if m["error"] else ""
        gain = ""
        if m["weight"] and float(m["weight"]) == 0:
            gain = "none: weight 0 was chosen"
        elif m["gain"]:
            gain = f"{100 * float(m['gain']):.2f} +- {100 * float(m['gain_error']):.2f} by weight {m['weight']}"
        lines.append([m["split"], m["matcher"], f"{m['way']}, {m['shot']}", f"{100 * float(m['accuracy']):.2f}{error}",
                      gain])
    text = table(["split", "support set", "way, shot", "accuracy, %", "gain over none, same network"], lines)
    text += "\nGain by weighted made images over splits (their number), +- standard error over splits:\n\n"
    text += table(["generator"] + [f"{way}-way {shot}-shot" for way, shot in EPISODES],
                  [[how] + [gain_over_splits(how, *episode) for episode in EPISODES]
                   for how in generators_of("dagan_match.csv")])
    lines = []
    for p in read("dagan_pixels.csv"):
        cells = [p["split"], p["way"]]
        for share in (float(p[c]) if p[c] else None for c in ("real", "with_made", "with_100_made")):
            cells.append(f"{100 * share:.1f} +- {100 * math.sqrt(share * (1 - share) / int(p['episodes'])):.1f}"
                         if share is not None else "")
        lines.append(cells)
    return text + "\nNearest neighbour by pixels, 1-shot, %:\n\n" + table(
        ["split", "way", "real images alone", "with 10 made ones", "with 100"], lines)


def set_table(*names):
    measured = [r for r in read("dagan_sets.csv") if r["data"] in names]
    groups = sorted({(names.index(r["data"]), int(r["samples"])) for r in measured})
    return arms_table(measured, "set, samples a class",
                      [(f"{names[i]}, {n}", lambda r, i=i, n=n: r["data"] == names[i] and r["samples"] == str(n))
                       for i, n in groups])


PARTS = {"classify": classify_tables, "quality": quality_tables, "scale": scale_table, "judged": judged_table,
         "match": match_tables, "characters": lambda: set_table("characters"),
         "paper": lambda: set_table("paper's training, split 1"),
         "fixed": lambda: set_table("split 3, a quarter kept"),
         "sets": lambda: set_table("MNIST", "Fashion-MNIST", "Olivetti faces"),
         "tried": lambda: set_table("validation 1", "validation 1, made first", "validation 1, soft labels")}


PAGE = os.path.join(HERE, "STUDY-DAGAN.md")


def tables(page=PAGE):
    """Puts each part between its marks, <!-- name --> and <!-- end -->."""
    with open(PAGE) as f:
        text = f.read()
    for name, part in PARTS.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        if mark:
            text = before + mark + "\n" + part() + "\n<!-- end -->" + rest.partition("<!-- end -->")[2]
    with open(page, "w") as f:
        f.write(text)


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
    commands = {"split": lambda n, path: write_split(int(n), path), "run": run, "rows": rows, "set": named_set,
                "judged": judged, "tables": tables, "sheet": sheet}
    command = commands.get(sys.argv[1]) if len(sys.argv) > 1 else None
    try:
        inspect.signature(command).bind(*sys.argv[2:])
    except TypeError:                           # no such command, or not so many arguments
        sys.exit(__doc__)
    try:
        command(*sys.argv[2:])
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"study_dagan.py: {type(error).__name__}: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
