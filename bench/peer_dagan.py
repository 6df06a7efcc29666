"""PyTorch's side of bench_dagan.c; for each line that it reads it works and prints a line of numbers.

peer_dagan.py conv N CHANNELS SIZE SECONDS: GFLOP/s of a 3x3 convolution, of its gradient by the input and by the weight.
peer_dagan.py wgan SECONDS: images/s of a critic step and of a generator step, peak resident megabytes.

Of both memory formats, and for wgan of threads that wait actively and passively, the better one is found first and works
then.

Equal to DAGAN_COMPACT of dagan.h on 28 x 28 x 1, batch 32: every convolution's place, stride and channels, bias, leaky
ReLU 0.2 before the norm, batch norm in the generator with scale and shift from z (FiLM), layer norm over each image in
the critic with gain and bias a channel, skip connections, the critic's hidden layer over pooled features, tanh; loss of
WGAN-GP with penalty 10 by double backward, real and made pairs as one batch, the generator's pass for the critic
without gradient, Adam with beta 0 and 0.9. dagan.h's share of mismatched pairs is turned off there.
"""
import os
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


def median(call, seconds):
    call()
    times, begun = [], time.perf_counter()
    while not times or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def turns(work):
    for _ in sys.stdin:
        print(*work(), flush=True)


def conv(n, channels, size, seconds):
    flops = 2e-9 * n * size * size * channels * channels * 9

    def calls(layout):
        x = torch.randn(n, channels, size, size).contiguous(memory_format=layout)
        w = torch.randn(channels, channels, 3, 3).contiguous(memory_format=layout)
        g = torch.randn(n, channels, size, size).contiguous(memory_format=layout)

        def backward(mask):
            return torch.ops.aten.convolution_backward(g, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)

        return (lambda: F.conv2d(x, w, padding=1), lambda: backward([True, False, False]),
                lambda: backward([False, True, False]))

    with torch.no_grad():
        both = zip(calls(torch.contiguous_format), calls(torch.channels_last))
        best = [min(pair, key=lambda call: median(call, seconds)) for pair in both]
        turns(lambda: [flops / median(call, seconds) for call in best])


class Layer(nn.Module):
    """3x3 convolution, leaky ReLU, norm; norm is "image", "batch" or "film"."""

    def __init__(self, inputs, outputs, stride, norm, noise=32):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.film = None
        if norm == "image":
            self.norm = nn.GroupNorm(1, outputs)
        else:
            self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01, affine=norm == "batch")
        if norm == "film":
            self.film = nn.Linear(noise, 2 * outputs, bias=False)
            self.gain = nn.Parameter(torch.ones(outputs))
            self.shift = nn.Parameter(torch.zeros(outputs))

    def forward(self, x, z=None):
        x = self.norm(F.leaky_relu(self.conv(x), 0.2))
        if self.film is None:
            return x
        gain, shift = self.film(z).chunk(2, 1)
        return x * (gain + self.gain)[:, :, None, None] + (shift + self.shift)[:, :, None, None]


class Encoder(nn.Module):
    def __init__(self, inputs, norm):
        super().__init__()
        self.down0 = Layer(inputs, 16, 2, norm)
        self.conv1 = Layer(16, 32, 1, norm)
        self.down1 = Layer(48, 32, 2, norm)
        self.conv2 = Layer(32, 48, 1, norm)
        self.down2 = Layer(48, 48, 2, norm)

    def forward(self, x):
        a = self.down0(x)
        b = self.down1(torch.cat((self.conv1(a), a), 1))
        return a, b, self.down2(self.conv2(b))


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder(1, "batch")
        sizes = ((48, 48), (48, 48), (80, 32), (32, 32), (48, 16), (16, 8), (9, 8))
        self.layers = nn.ModuleList(Layer(i, o, 1, "film") for i, o in sizes)
        self.image = nn.Conv2d(8, 1, 3, 1, 1)

    def forward(self, x, z):
        a, b, c = self.encoder(x)
        for block, skip in enumerate((b, a, x)):
            c = self.layers[2 * block](c, z)
            c = self.layers[2 * block + 1](F.interpolate(c, size=skip.shape[2:], mode="nearest"), z)
            c = torch.cat((c, skip), 1)
        return torch.tanh(self.image(self.layers[6](c, z)))


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder(2, "image")
        self.hidden = nn.Linear(48, 384)
        self.score = nn.Linear(384 + 48 * 16, 1)

    def forward(self, candidate, condition):
        last = self.encoder(torch.cat((candidate, condition), 1))[2]
        hidden = F.leaky_relu(self.hidden(last.mean((2, 3))), 0.2)
        return self.score(torch.cat((hidden, last.flatten(1)), 1))[:, 0]


def wgan(seconds, layout):
    generator, critic = Generator().to(memory_format=layout), Critic().to(memory_format=layout)
    adam_g = torch.optim.Adam(generator.parameters(), 5e-4, (0.0, 0.9))
    adam_d = torch.optim.Adam(critic.parameters(), 5e-4, (0.0, 0.9))
    x = torch.randn(32, 1, 28, 28).clamp(-1, 1).contiguous(memory_format=layout)
    partner = torch.randn(32, 1, 28, 28).clamp(-1, 1).contiguous(memory_format=layout)

    def critic_step():
        with torch.no_grad():
            made = generator(x, torch.randn(32, 32))
        adam_d.zero_grad(set_to_none=True)
        scores = critic(torch.cat((partner, made)), torch.cat((x, x)))
        loss = scores[32:].mean() - scores[:32].mean()
        between = (partner + torch.rand(32, 1, 1, 1) * (made - partner)).requires_grad_()
        slope, = torch.autograd.grad(critic(between, x).sum(), between, create_graph=True)
        penalty = ((slope.square().sum((1, 2, 3)) + 1e-12).sqrt() - 1).square().mean()
        (loss + 10 * penalty).backward()
        adam_d.step()

    def generator_step():
        for p in critic.parameters():
            p.requires_grad_(False)
        adam_g.zero_grad(set_to_none=True)
        (-critic(generator(x, torch.randn(32, 32)), x).mean()).backward()
        adam_g.step()
        for p in critic.parameters():
            p.requires_grad_(True)

    turns(lambda: (32 / median(critic_step, seconds), 32 / median(generator_step, seconds),
                   resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


if sys.argv[1] == "conv":
    conv(*map(int, sys.argv[2:5]), float(sys.argv[5]))
elif len(sys.argv) == 4:
    wgan(float(sys.argv[2]), getattr(torch, sys.argv[3]))
else:
    def rate(choice):
        layout, policy = choice
        turn = subprocess.run([sys.executable, *sys.argv, layout], env={**os.environ, "OMP_WAIT_POLICY": policy},
                              check=True, input="\n", capture_output=True, text=True).stdout.split()
        return float(turn[0])

    policies = ("PASSIVE", "ACTIVE") if torch.get_num_threads() > 1 else ("PASSIVE",)
    layout, policy = max(((x, y) for x in ("contiguous_format", "channels_last") for y in policies), key=rate)
    os.execve(sys.executable, [sys.executable, *sys.argv, layout], {**os.environ, "OMP_WAIT_POLICY": policy})
