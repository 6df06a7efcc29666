#!/usr/bin/env python3
"""Log-probabilities that other programs wrote, of one text by several experts, in the layout that mde_experts_open (and
mix) reads: OUT/<expert>.npy, float32 [tokens], where OUT is the text's folder.

  llama-perplexity -m code.gguf -f wiki.txt --kl-divergence-base code.kld       # and so for each expert
  python3 convert_logprobs.py logprobs/wiki code=code.kld web=web.kld

Of llama.cpp's files, the tokens are those that its perplexity scores, the second half of each window. They know only 16
nats below the best token of the vocabulary: of those at that floor, which may be less probable, the share is printed.
Of lm-evaluation-harness, samples_*.jsonl (--log_samples) are read if a response holds a list of numbers, one a token;
the usual ones hold a sum, of which no mixture can be made: they are refused. Score such texts by export_logprobs.py."""
import argparse, json, os
import numpy as np

def read_llama(path):
    """The tokens, their windows and log-probabilities, and how many stand at the floor."""
    with open(path, "rb") as file:
        start = file.read(20)
        header = [int.from_bytes(start[at:at + 4], "little", signed=True) for at in (8, 12, 16)]
        if min(header) < 1:
            raise SystemExit(f"{path}: its header says {header}; expected window, vocabulary and windows")
        window, vocabulary, windows = header
        first, width = window // 2, 2 * ((vocabulary + 1) // 2) + 4
        rows = window - 1 - first
        size = 20 + windows * (4 * window + 2 * rows * width)
        if rows < 1 or os.path.getsize(path) != size:
            raise SystemExit(f"{path}: has {os.path.getsize(path)} bytes; expected {size} of {windows} windows of "
                             f"{window} tokens with a vocabulary of {vocabulary}: was it written to its end?")
        tokens = np.frombuffer(file.read(4 * windows * window), "<i4").reshape(windows, window)[:, first + 1:]
        if tokens.min() < 0 or tokens.max() >= vocabulary:
            raise SystemExit(f"{path}: has a token outside of its vocabulary of {vocabulary}")
        logp, floor = np.empty((windows, rows), np.float32), 0
        for i in range(windows):
            block = np.frombuffer(file.read(2 * rows * width), "<u2").reshape(rows, width)
            scale, lowest = block[:, :4].copy().view("<f4").T
            level = block[np.arange(rows), 4 + tokens[i]]
            logp[i] = scale * level + lowest
            floor += np.count_nonzero((level == 0) & (scale * 65535 > 15.999))     # cut off there
    if not np.isfinite(logp).all() or logp.max() > 1e-3:
        raise SystemExit(f"{path}: holds numbers that are no log-probabilities")
    return tokens.ravel(), None, np.minimum(logp, 0).ravel(), floor

def read_harness(path):
    """Documents in order of their numbers, which stand for the tokens, since the files do not name these."""
    documents = {}
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        try:
            record = json.loads(line)
            answers = [request[0] for request in record["resps"]]
            document = documents.setdefault(int(record["doc_id"]), [])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise SystemExit(f"{path}: line {number} is no record of a sample: {error!r}")
        for answer in answers:
            tokens = answer[0] if isinstance(answer, list) and answer and isinstance(answer[0], list) else answer
            if not isinstance(tokens, list) or any(type(value) not in (int, float) for value in tokens):
                raise SystemExit(f"{path}: line {number} has the response {json.dumps(answer)[:60]}, a sum or a text; "
                                 "a mixture needs that of each token: score the text by export_logprobs.py")
            document.extend(tokens)
    doc = np.repeat(sorted(documents), [len(documents[key]) for key in sorted(documents)]).astype(np.int64)
    logp = np.asarray([value for key in sorted(documents) for value in documents[key]], np.float32)
    if not len(logp) or not np.isfinite(logp).all() or logp.max() > 0:
        raise SystemExit(f"{path}: holds no log-probabilities, which are 0 or less")
    return doc, doc, logp, 0

def pair(text):
    name, _, path = text.partition("=")
    if not name or not path or "/" in name or name in ("doc", "bytes"):
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=FILE, the name without / and not doc or bytes")
    return name, path

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("out", help="folder to write, of one text")
p.add_argument("expert", nargs="+", type=pair, metavar="NAME=FILE", help="what an expert said of it")
args = p.parse_args()
found = {}
for name, path in args.expert:
    with open(path, "rb") as file:
        llama = file.read(8) == b"_logits_"
    if not llama and not path.endswith(".jsonl"):
        raise SystemExit(f"{path}: neither a file of llama.cpp's --kl-divergence-base nor samples_*.jsonl")
    found[name] = read_llama(path) if llama else read_harness(path)
    if not np.array_equal(found[name][0], found[args.expert[0][0]][0]):
        raise SystemExit(f"{path}: its tokens are not those of {args.expert[0][1]}; all must judge the same ones")
os.makedirs(args.out, exist_ok=True)
for name, (_, doc, logp, floor) in found.items():
    np.save(os.path.join(args.out, name), logp)
    if doc is not None:
        np.save(os.path.join(args.out, "doc"), doc)
    print(f"{args.out}/{name}: {len(logp)} tokens, {-logp.mean(dtype=float):.4f} nats a token, "
          f"{100 * floor / len(logp):.3g} % of them at the floor of 16 nats")
