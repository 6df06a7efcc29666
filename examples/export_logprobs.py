#!/usr/bin/env python3
"""Writes log-probabilities of Hugging Face causal language models in the layout that mde_experts_open (and mix) reads:
OUT/<text>/<expert>.npy, float32 [tokens], with doc.npy (document of each token) and bytes.npy (bytes of each token).

  python3 export_logprobs.py logprobs --expert code=runs/code web=runs/web --text wiki=wiki.txt news=news.jsonl
  build/mix logprobs

A text is UTF-8 with blank lines between its documents or, if the file ends with .jsonl, the field "text" of each line.
All experts must share one tokenizer, as their probabilities are averaged token by token. Nothing is put in front of a
document, so its first token is not scored, and a document of one token is left out."""
import argparse, json, os, re
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

def pair(text):
    name, _, path = text.partition("=")
    if not name or not path or "/" in name or name in ("doc", "bytes"):
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=PATH, the name without / and not doc or bytes")
    return name, path

def read_documents(path):
    text = open(path, encoding="utf-8").read()
    if path.endswith(".jsonl"):
        return [json.loads(line)["text"] for line in text.split("\n") if line.strip()]
    return [part for part in re.split(r"\n[ \t]*\n\s*", text) if part.strip()]

def tokenize(tokenizer, text):
    """Ids, and UTF-8 bytes of each token, from the end of the one before to its own end: so they add up to the text
    even where offsets leave spaces out, and where several tokens share a character its bytes count once."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = np.maximum.accumulate([0] + [end for _, end in found["offset_mapping"]])
    ends[1:][-1:] = len(text)
    bytes_before = np.cumsum([0] + [len(letter.encode()) for letter in text])
    return found["input_ids"], np.diff(bytes_before[ends])

@torch.no_grad()
def score(model, ids, context):
    """Of every token but the first. A long document is cut into windows that share a token, which is scored once."""
    scores = []
    for start in range(0, len(ids) - 1, context - 1):
        window = torch.tensor([ids[start:start + context]], device=model.device)
        logp = model(window).logits[0, :-1].float().log_softmax(-1)
        scores.append(logp.gather(1, window[0, 1:, None])[:, 0].clamp(max=0).cpu().numpy())
    return np.concatenate(scores)

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("out", help="folder to write")
p.add_argument("--expert", required=True, nargs="+", type=pair, metavar="NAME=MODEL", help="a folder, or a hub's name")
p.add_argument("--text", required=True, nargs="+", type=pair, metavar="NAME=FILE", help="a validation text")
p.add_argument("--context", type=int, default=0, help="tokens a window (default: the model's, at most 2048)")
args = p.parse_args()
texts = {name: read_documents(path) for name, path in args.text}
vocabulary, ids, sizes = None, {}, {}
for expert, path in args.expert:
    tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True)
    tokens = {name: [tokenize(tokenizer, document) for document in texts[name]] for name in texts}
    if vocabulary is None:
        vocabulary = tokenizer.get_vocab()
        for name in texts:
            ids[name], sizes[name] = [found[0] for found in tokens[name]], [found[1] for found in tokens[name]]
    if tokenizer.get_vocab() != vocabulary or any(ids[name] != [found[0] for found in tokens[name]] for name in texts):
        raise SystemExit(f"{path}: its tokenizer is not that of {args.expert[0][1]}; all must judge the same tokens")
for expert, path in args.expert:
    model = AutoModelForCausalLM.from_pretrained(path).to("cuda" if torch.cuda.is_available() else "cpu").eval()
    context = args.context or min(getattr(model.config, "max_position_embeddings", None) or 1024, 2048)
    for name in texts:
        folder, scored = os.path.join(args.out, name), [n for n, found in enumerate(ids[name]) if len(found) > 1]
        if not scored or context < 2:
            raise SystemExit(f"{name}: has no document of two tokens, or the context is below 2")
        logp = np.concatenate([score(model, ids[name][n], context) for n in scored]).astype(np.float32)
        os.makedirs(folder, exist_ok=True)
        np.save(os.path.join(folder, expert), logp)
        np.save(os.path.join(folder, "doc"), np.concatenate([np.full(len(ids[name][n]) - 1, n) for n in scored]))
        np.save(os.path.join(folder, "bytes"), np.concatenate([sizes[name][n][1:] for n in scored]))
        print(f"{name}/{expert}: {len(logp)} tokens, {-logp.mean(dtype=float):.4f} nats a token", flush=True)
