"""A transformer of GPT-2's form in PyTorch, for bench_lm:
  python3 bench/peer_lm.py WORK LAYERS WIDTH HEADS CONTEXT VOCABULARY BATCH SECONDS
trains it (WORK train), scores tokens (score) or generates with a cache of keys and values (generate). For each line that
it reads it works for SECONDS and prints the median tokens a second and the peak of resident memory in bytes."""
import math, os, sys, time
import torch
from torch import nn
from torch.nn import functional as F

work = sys.argv[1]
layers, width, heads, context, vocabulary, batch = map(int, sys.argv[2:8])
seconds = float(sys.argv[8])
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
torch.manual_seed(1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.register_buffer("mask", torch.full((context, context), -math.inf).triu(1), persistent=False)

    def forward(self, x, cache=None):
        n, t, dim = x.size(0), x.size(1), width // heads
        q, k, v = (y.view(n, t, heads, dim).transpose(1, 2) for y in self.attn(self.ln_1(x)).split(width, 2))
        if cache is not None:
            cache[0][:, :, cache[2]:cache[2] + t], cache[1][:, :, cache[2]:cache[2] + t] = k, v
            cache[2] += t
            k, v = cache[0][:, :, :cache[2]], cache[1][:, :, :cache[2]]
        if t == 1:
            a = torch.matmul(q, k.transpose(2, 3)) * (1 / math.sqrt(dim))
        else:
            a = torch.baddbmm(self.mask[:t, :t], q.reshape(-1, t, dim), k.reshape(-1, t, dim).transpose(1, 2),
                              alpha=1 / math.sqrt(dim)).view(n, heads, t, t)
        y = torch.matmul(F.softmax(a, 3), v).transpose(1, 2).reshape(n, t, width)
        x = x + self.proj(y)
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, caches=None, start=0):
        x = self.wte(ids) + self.wpe.weight[start:start + ids.size(1)]
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i])
        return F.linear(self.ln_f(x), self.wte.weight)


def serve(call, tokens):
    call()
    for _ in sys.stdin:
        times, begun = [], time.perf_counter()
        while not times or (time.perf_counter() - begun < seconds and len(times) < 99):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        with open("/proc/self/status") as status:
            peak = [int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")][0]
        print(tokens / sorted(times)[len(times) // 2], peak, flush=True)


model = Model()
ids = torch.randint(0, vocabulary, (batch, context + 1))
if work == "train":
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW([{"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
                                   {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}],
                                  lr=3e-4, betas=(0.9, 0.95))

    def call():
        loss = F.cross_entropy(model(ids[:, :-1]).view(-1, vocabulary), ids[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    serve(call, batch * context)
elif work == "score":
    def call():
        with torch.inference_mode():
            logits = model(ids[:, :-1]).view(-1, vocabulary)
            (-F.cross_entropy(logits, ids[:, 1:].reshape(-1), reduction="none")).numpy()
    serve(call, batch * context)
else:
    made = context - 1

    def call():
        with torch.inference_mode():
            caches = [[torch.zeros(1, heads, context, width // heads), torch.zeros(1, heads, context, width // heads),
                       0] for _ in range(layers)]
            token = ids[:1, :1]
            for i in range(made):
                probabilities = F.softmax(model(token, caches, i)[:, -1], 1)
                token = torch.multinomial(probabilities, 1)
    serve(call, made)
