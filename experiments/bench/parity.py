#!/usr/bin/env python3
"""Our losses beside PyTorch's, from equal weights, data and noise.

    bench --dump DIR && python3 experiments/bench/parity.py DIR

Prints for each workload our loss and gradient norm, PyTorch's, and the relative difference; ends with an error if
one is above 1e-4. Needs torch and safetensors. The values of PyTorch stand in workloads/example.rs, for a test.
"""
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

TOLERANCE = 1e-4


def layers(t, name, x):
    """A multi-layer perceptron with rectified hidden units, of the parameters `name.0.weight`, `name.0.bias`, …"""
    count = sum(key.startswith(name + ".") and key.endswith(".weight") for key in t)
    for i in range(count):
        x = F.linear(x if i == 0 else F.relu(x), t[f"{name}.{i}.weight"], t[f"{name}.{i}.bias"])
    return x


def w1(t):
    x, gumbel = t["x"], t["gumbel"]
    logits = layers(t, "encoder", x).view(len(x), 30, 10)
    z = F.softmax(logits + gumbel[0], -1)
    pixels = layers(t, "decoder", z.flatten(1))
    log_q = F.log_softmax(logits, -1)
    divergence = (log_q.exp() * (log_q + math.log(10))).sum()
    return (F.binary_cross_entropy_with_logits(pixels, x, reduction="sum") + divergence) / len(x)


def w2(t):
    x, logistic, prior = t["x"], t["logistic"], t["prior.logits"]
    tau_q, tau_p = 2 / 3, 0.5
    logits = layers(t, "encoder", x)
    y = (logits + logistic) / tau_q

    def log_density(a, tau):
        d = a - tau * y
        return (math.log(tau) + d - 2 * F.softplus(d)).sum(-1)

    pixels = layers(t, "decoder", 2 * torch.sigmoid(y) - 1)
    log_px = -F.binary_cross_entropy_with_logits(pixels, x.expand_as(pixels), reduction="none").sum(-1)
    log_w = log_px + log_density(prior, tau_p) - log_density(logits, tau_q)
    return -(torch.logsumexp(log_w, 0) - math.log(len(log_w))).mean()


def w4(t):
    heads, layers = 4, 4
    words = t["words"].long()

    def linear(name, x):
        return F.linear(x, t[name + ".weight"], t[name + ".bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], t[name + ".scale"], t[name + ".shift"])

    x = F.embedding(words, t["symbols.weight"]) + t["positions.weight"]
    for i in range(layers):
        attention, hidden = f"blocks.{i}.attention", f"blocks.{i}.hidden"
        qkv = linear(attention + ".qkv", norm(attention + ".norm", x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + linear(attention + ".output", y)
        y = F.gelu(linear(hidden + ".expand", norm(hidden + ".norm", x)), approximate="tanh")
        x = x + linear(hidden + ".contract", y)
    logits = norm("norm", x) @ t["output.weight"].T
    return F.cross_entropy(logits.flatten(0, 1), t["targets"].long().flatten())


def main():
    directory = Path(sys.argv[1])
    worst = 0
    print(f"PyTorch {torch.__version__}")
    for name, ours in json.loads((directory / "losses.json").read_text()).items():
        tensors = load_file(directory / f"{name}.safetensors")
        weights = [key for key in tensors if "." in key]  # data and noise have no dot in their names
        for key in weights:
            tensors[key].requires_grad_()
        loss = globals()[name.lower()](tensors)
        loss.backward()
        norm = math.sqrt(sum(tensors[key].grad.double().square().sum().item() for key in weights))
        for what, peer in [("loss", loss.item()), ("gradient_norm", norm)]:
            difference = abs(ours[what] / peer - 1)
            worst = max(worst, difference)
            print(f"{name} {what:14s} ours {ours[what]:.6f}  PyTorch {peer:.6f}  relative difference {difference:.1e}")
    sys.exit(worst > TOLERANCE)


main()
