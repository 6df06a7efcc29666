"""Losses of mixtures and the minimum over mixtures in numpy, on a table that bench_mixture wrote:
  python3 bench/peer_mixture.py
reads build/bench_mixture_{p,w}.npy, probabilities [experts, tokens] in float32 and weights [mixtures, experts], and for
each line on its input prints the nanoseconds a token and mixture of the losses of all mixtures, by float32 products in chunks of tokens and
their logarithms (the best of some chunk sizes), and the seconds in which exponentiated gradient comes within 1e-6 nats
of the minimum, by the same certificate as mdemix's."""
import sys, time
import numpy as np

p = np.load("build/bench_mixture_p.npy")
w = np.load("build/bench_mixture_w.npy").astype(np.float32)
experts, tokens = p.shape


def losses(chunk):
    total = np.zeros(len(w))
    for at in range(0, tokens, chunk):
        total += np.log(w @ p[:, at:at + chunk]).sum(axis=1, dtype=np.float64)
    return -total / tokens


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def minimize():
    weights, rate, last, gap, steps = np.full(experts, 1 / experts), 1.0, np.inf, np.inf, 0
    while gap > 1e-6 and steps < 1000:
        mixed = weights.astype(np.float32) @ p
        loss = -np.log(mixed).mean(dtype=np.float64)
        rate = rate * 1.2 if loss < last else rate / 2
        last, steps = loss, steps + 1
        gradient = -(p @ (1 / mixed)) / tokens
        gap = (weights * gradient).sum() - gradient.min()
        weights = weights * np.exp(-rate * (gradient - gradient.min()))
        weights /= weights.sum()
    return gap


chunk = min((64, 256, 1024, 4096), key=lambda chunk: timed(lambda: losses(chunk)))
print(f"# numpy: exponentiated gradient stops at a gap of {minimize():.1e}", file=sys.stderr)
for _ in sys.stdin:
    print(timed(lambda: losses(chunk)) * 1e9 / tokens / len(w), timed(minimize), flush=True)
