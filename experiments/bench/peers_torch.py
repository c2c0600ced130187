#!/usr/bin/env python3
"""The workloads of `bench --serve` in PyTorch, over the same protocol (see protocol.py).

    echo "W1 2" | python3 peers_torch.py --mode compile --threads 2

Modes: `eager`; `fused`, which is eager with the fused Adam; `compile`, which is fused with torch.compile on the loss;
`graphs`, on CUDA: a whole step of `compile`, its update included, captured once and replayed.
"""
import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn

from protocol import SAMPLES, serve

arguments = argparse.ArgumentParser()
arguments.add_argument("--mode", default="eager", choices=["eager", "fused", "compile", "graphs"])
arguments.add_argument("--device", default="cpu", help="cpu or cuda")
arguments.add_argument("--threads", type=int)
arguments.add_argument("--bf16", action="store_true", help="allow bf16 inside f32 matrix products")
options = arguments.parse_args()
if options.threads:
    torch.set_num_threads(options.threads)
cuda = options.device.startswith("cuda")
if options.mode == "graphs" and not cuda:
    arguments.error("--mode graphs is for --device cuda")
if options.bf16 and not cuda:
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
if cuda:
    torch.cuda.set_device(options.device if ":" in options.device else 0)
autocast = torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=options.bf16 and cuda)
compiled = torch.compile if options.mode in ("compile", "graphs") else lambda function: function


def done():
    """No loss; on a GPU a step has ended when its kernels have."""
    if cuda:
        torch.cuda.synchronize()
    return 0.0


def optimizer(parameters, weight_decay=None):
    kind, settings = torch.optim.Adam, {"lr": 1e-3, "fused": options.mode != "eager"}
    if options.mode == "graphs":
        settings["capturable"] = True
    if weight_decay is not None:
        kind, settings["weight_decay"] = torch.optim.AdamW, weight_decay
    return kind(parameters, **settings)


def training(model, batches, weight_decay=None):
    """A function that makes one step: `model` maps a batch to its loss, batch number i is `batches(i)`."""
    adam, loss_of, steps = optimizer(model.parameters(), weight_decay), compiled(model), iter(range(1 << 62))

    def descend(batch):
        adam.zero_grad(set_to_none=True)
        with autocast:
            loss = loss_of(*batch)
        loss.backward()
        adam.step()
        return loss

    if options.mode == "graphs":
        return captured(descend, batches, steps)
    return lambda: descend(batches(next(steps))).item()


def captured(descend, batches, steps):
    """The same from a CUDA graph of one step, whose batch is copied to where the graph reads it."""
    batch = [tensor.clone() for tensor in batches(0)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            descend(batch)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = descend(batch)

    def step():
        for to, tensor in zip(batch, batches(next(steps))):
            to.copy_(tensor)
        graph.replay()
        return loss.item()

    step.alive = descend  # with it the optimiser, whose state the graph writes to
    return step


def images(size):
    """Batches of binary images, of whose pixels 13 % are 1: windows that walk over 10,000 images."""
    pool = (torch.rand(10_000, 784) < 0.13).float()
    windows = pool[: 10_000 // size * size].view(-1, size, 784)
    return lambda i: (windows[i % len(windows)],)


def log_likelihood(pixels, x):
    losses = F.binary_cross_entropy_with_logits(pixels, x.expand_as(pixels), reduction="none")
    return -losses.sum(-1)


def mlp(*sizes):
    layers = [nn.Linear(sizes[0], sizes[1])]
    for i, o in zip(sizes[1:], sizes[2:]):
        layers += [nn.ReLU(), nn.Linear(i, o)]
    return nn.Sequential(*layers)


class CategoricalVae(nn.Module):
    """W1: 30 latents of 10 values, soft Gumbel-Softmax samples, closed-form divergence from a uniform prior."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = mlp(784, 512, 256, 300), mlp(300, 256, 512, 784)

    def forward(self, x):
        logits = self.encoder(x).view(-1, 30, 10)
        z = F.gumbel_softmax(logits, tau=1.0)
        log_q = F.log_softmax(logits, -1)
        divergence = (log_q.exp() * (log_q + math.log(10))).sum()
        pixels = self.decoder(z.flatten(1))
        error = F.binary_cross_entropy_with_logits(pixels, x, reduction="sum")
        return (error + divergence) / len(x)


class BinaryConcrete(nn.Module):
    """W2: 200 relaxed bits, five samples, multi-sample bound with densities in logit coordinates."""

    POSTERIOR, PRIOR, SAMPLES = 2 / 3, 0.5, 5

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(784, 200), nn.Linear(200, 784)
        self.prior = nn.Parameter(torch.zeros(200))

    @staticmethod
    def log_density(logits, tau, v):
        d = logits - tau * v
        return (math.log(tau) + d - 2 * F.softplus(d)).sum(-1)

    def forward(self, x):
        logits = self.encoder(x)
        u = torch.rand(self.SAMPLES, *logits.shape, device=logits.device).clamp_(1e-7, 1 - 1e-7)
        v = (logits + u.log() - torch.log1p(-u)) / self.POSTERIOR
        log_p = self.log_density(self.prior, self.PRIOR, v)
        log_q = self.log_density(logits, self.POSTERIOR, v)
        pixels = self.decoder(2 * torch.sigmoid(v) - 1)
        log_w = log_likelihood(pixels, x) + log_p - log_q
        return -(torch.logsumexp(log_w, 0) - math.log(self.SAMPLES)).mean()


class Block(nn.Module):
    """A layer of the language model: causal attention, then two linear layers, each on normalised input."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention_in, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.attention_in(self.norms[0](x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.narrow(F.gelu(self.wide(self.norms[1](x)), approximate="tanh"))


class LanguageModel(nn.Module):
    """W4: a transformer with 4 layers of 4 heads, width 256, 128 positions, 10,000 words."""

    WORDS, WIDTH, LENGTH = 10_000, 256, 128

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(self.WORDS, self.WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(self.LENGTH, self.WIDTH))
        self.blocks = nn.Sequential(*[Block(self.WIDTH, heads=4) for _ in range(4)])
        self.norm, self.head = nn.LayerNorm(self.WIDTH), nn.Linear(self.WIDTH, self.WORDS, bias=False)
        for weight in (self.words.weight, self.head.weight):
            nn.init.normal_(weight, std=0.02)

    def forward(self, words, targets):
        x = self.blocks(self.words(words) + self.positions)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def sentences(size=16, count=50):
    pool = torch.randint(LanguageModel.WORDS, (count, size, LanguageModel.LENGTH + 1))
    return lambda i: (pool[i % count, :, :-1].contiguous(), pool[i % count, :, 1:].contiguous())


def sample(shape, hard):
    """W3: a Gumbel-Softmax sample of each row, and the gradient of the logits for a given one of the sample."""
    logits, gradient = torch.randn(shape, requires_grad=True), torch.randn(shape)
    function = compiled(lambda x: F.gumbel_softmax(x, tau=1.0, hard=hard))

    def step():
        logits.grad = None
        function(logits).backward(gradient)
        return done()

    return step


def update():
    """Adam over the parameters of W1, with a gradient that stays the same."""
    parameters = list(CategoricalVae().parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    adam = optimizer(parameters)

    def step():
        adam.step()
        return done()

    return step


def noise(draw):
    """Draws 2²² numbers."""
    numbers = torch.empty(1 << 22)

    def step():
        draw(numbers)
        return done()

    return step


WORKLOADS = {
    "W1": lambda: training(CategoricalVae(), images(100)),
    "W2": lambda: training(BinaryConcrete(), images(64)),
    "W4": lambda: training(LanguageModel(), sentences(), weight_decay=0.01),
    "ADAM": update,
    "RNG": lambda: noise(torch.Tensor.uniform_),
    "GUMBEL": lambda: noise(compiled(lambda x: -torch.empty_like(x).exponential_().log())),
}
for name, shape in SAMPLES.items():
    WORKLOADS[name] = lambda shape=shape: sample(shape, hard=False)
    WORKLOADS[name + "h"] = lambda shape=shape: sample(shape, hard=True)


def on_device(make):
    """The workload, with everything that it makes for itself on the device."""

    def made():
        with torch.device(options.device):
            return make()

    return made


# A graph is of a whole training step; for parts of one it would be another measurement.
names = [name for name in WORKLOADS if options.mode != "graphs" or name in ("W1", "W2", "W4")]
WORKLOADS = {name: on_device(WORKLOADS[name]) for name in names}
precision = ", bf16 products" if options.bf16 else ""
serve(f"PyTorch {torch.__version__} {options.mode}{precision}, {options.device}, {torch.get_num_threads()} threads", WORKLOADS)
