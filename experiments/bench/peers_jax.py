#!/usr/bin/env python3
"""The workloads of `bench --serve` in JAX (jit, CPU), over the same protocol (see protocol.py).

    echo "W1 2" | taskset -c 0,1 python3 peers_jax.py

JAX takes the processors it is allowed to run on; `taskset` says which.
"""
import itertools
import math
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import jax.numpy as jnp
import numpy as np
from jax import nn, random

from protocol import SAMPLES, serve

numbers = np.random.default_rng(0)


def single(x):
    return jnp.asarray(x, jnp.float32)


def linear(i, o):
    bound = i**-0.5
    return {"weight": single(numbers.uniform(-bound, bound, (i, o))), "bias": single(numbers.uniform(-bound, bound, o))}


def affine(layer, x):
    return x @ layer["weight"] + layer["bias"]


def mlp(layers, x):
    for layer in layers[:-1]:
        x = nn.relu(affine(layer, x))
    return affine(layers[-1], x)


def adam(params, gradients, state, weight_decay=0.0, rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8):
    count, first, second = state
    count = count + 1
    first = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, first, gradients)
    second = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g**2, second, gradients)
    root, scale = jnp.sqrt(1 - beta2**count), rate / (1 - beta1**count)
    params = jax.tree.map(
        lambda p, m, v: (1 - rate * weight_decay) * p - scale * m / (jnp.sqrt(v) / root + epsilon), params, first, second
    )
    return params, (count, first, second)


def adam_state(params):
    return jnp.float32(0), jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)


def training(params, loss_of, batches, weight_decay=0.0):
    """A function that makes one step: `loss_of(params, key, *batch)`, batch number i is `batches(i)`."""

    def update(params, state, key, *batch):
        key, noise = random.split(key)
        loss, gradients = jax.value_and_grad(loss_of)(params, noise, *batch)
        return *adam(params, gradients, state, weight_decay), key, loss

    update = jax.jit(update, donate_argnums=(0, 1, 2))
    now, steps = [params, adam_state(params), random.key(0)], itertools.count()

    def step():
        *now[:], loss = update(*now, *batches(next(steps)))
        return float(loss)

    return step


def images(size):
    pool = (numbers.random((10_000, 784)) < 0.13).astype(np.float32)
    return lambda i: (pool[i % (10_000 // size) * size :][:size],)


def log_likelihood(pixels, x):
    return jnp.sum(x * pixels - nn.softplus(pixels), -1)


def categorical_vae():
    def loss_of(params, key, x):
        logits = mlp(params["encoder"], x).reshape(-1, 30, 10)
        z = nn.softmax(logits + random.gumbel(key, logits.shape), -1)
        log_q = nn.log_softmax(logits, -1)
        divergence = jnp.sum(jnp.exp(log_q) * (log_q + math.log(10)))
        pixels = mlp(params["decoder"], z.reshape(len(x), 300))
        return (divergence - jnp.sum(log_likelihood(pixels, x))) / len(x)

    params = {
        "encoder": [linear(784, 512), linear(512, 256), linear(256, 300)],
        "decoder": [linear(300, 256), linear(256, 512), linear(512, 784)],
    }
    return params, loss_of


def binary_concrete(posterior=2 / 3, prior=0.5, samples=5):
    def log_density(logits, tau, v):
        d = logits - tau * v
        return jnp.sum(math.log(tau) + d - 2 * nn.softplus(d), -1)

    def loss_of(params, key, x):
        logits = affine(params["encoder"], x)
        v = (logits + random.logistic(key, (samples, *logits.shape))) / posterior
        log_ratio = log_density(params["prior"], prior, v) - log_density(logits, posterior, v)
        pixels = affine(params["decoder"], 2 * nn.sigmoid(v) - 1)
        log_w = log_likelihood(pixels, x) + log_ratio
        return -jnp.mean(nn.logsumexp(log_w, 0) - math.log(samples))

    return {"encoder": linear(784, 200), "decoder": linear(200, 784), "prior": jnp.zeros(200)}, loss_of


WORDS, WIDTH, HEADS, LENGTH, SENTENCES = 10_000, 256, 4, 128, 16


def language_model():
    def norm(layer, x):
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * layer["scale"] + layer["shift"]

    def attention(block, x):
        parts = affine(block["attention_in"], x).reshape(-1, LENGTH, 3, HEADS, WIDTH // HEADS)
        query, key, value = (parts[:, :, i] for i in range(3))
        scores = jnp.einsum("bihd,bjhd->bhij", query, key) * (WIDTH // HEADS) ** -0.5
        weights = nn.softmax(jnp.where(jnp.tri(LENGTH, dtype=bool), scores, -jnp.inf), -1)
        return affine(block["attention_out"], jnp.einsum("bhij,bjhd->bihd", weights, value).reshape(x.shape))

    def loss_of(params, key, words, targets):
        x = params["words"][words] + params["positions"]
        for block in params["blocks"]:
            x = x + attention(block, norm(block["norm_1"], x))
            hidden = nn.gelu(affine(block["wide"], norm(block["norm_2"], x)), approximate=True)
            x = x + affine(block["narrow"], hidden)
        logits = norm(params["norm"], x) @ params["head"]
        right = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
        return jnp.mean(nn.logsumexp(logits, -1) - right)

    def normal(*shape):
        return single(0.02 * numbers.standard_normal(shape))

    def unit():
        return {"scale": jnp.ones(WIDTH), "shift": jnp.zeros(WIDTH)}

    def block():
        layers = {"attention_in": (1, 3), "attention_out": (1, 1), "wide": (1, 4), "narrow": (4, 1)}
        layers = {name: linear(i * WIDTH, o * WIDTH) for name, (i, o) in layers.items()}
        return layers | {"norm_1": unit(), "norm_2": unit()}

    params = {"words": normal(WORDS, WIDTH), "positions": normal(LENGTH, WIDTH), "head": normal(WIDTH, WORDS)}
    return params | {"norm": unit(), "blocks": [block() for _ in range(4)]}, loss_of


def sentences(count=50):
    pool = numbers.integers(WORDS, size=(count, SENTENCES, LENGTH + 1), dtype=np.int32)
    return lambda i: (pool[i % count, :, :-1].copy(), pool[i % count, :, 1:].copy())


def repeated(function, state):
    """A function that replaces the state by `function(state)` and waits for the outcome."""
    function, now = jax.jit(function, donate_argnums=0), [state]

    def step():
        now[0], outcome = function(now[0])
        jax.block_until_ready((now, outcome))
        return 0.0

    return step


def sample(shape, hard):
    logits, gradient = single(numbers.standard_normal(shape)), single(numbers.standard_normal(shape))

    def relaxed(logits, key):
        y = nn.softmax(logits + random.gumbel(key, shape), -1)
        return y + jax.lax.stop_gradient(nn.one_hot(y.argmax(-1), shape[-1]) - y) if hard else y

    @jax.jit
    def function(logits, gradient, key):
        key, noise = random.split(key)
        y, backward = jax.vjp(lambda logits: relaxed(logits, noise), logits)
        return key, y, backward(gradient)

    now = [random.key(0)]

    def step():
        now[0], *outcome = function(logits, gradient, now[0])
        jax.block_until_ready(outcome)
        return 0.0

    return step


def update():
    params, _ = categorical_vae()
    gradients = jax.tree.map(lambda p: single(numbers.standard_normal(p.shape)), params)
    return repeated(lambda now: (adam(now[0], gradients, now[1]), ()), (params, adam_state(params)))


def noise(draw):
    def function(key):
        key, now = random.split(key)
        return key, draw(now, (1 << 22,))

    return repeated(function, random.key(0))


WORKLOADS = {
    "W1": lambda: training(*categorical_vae(), images(100)),
    "W2": lambda: training(*binary_concrete(), images(64)),
    "W4": lambda: training(*language_model(), sentences(), weight_decay=0.01),
    "ADAM": update,
    "RNG": lambda: noise(random.uniform),
    "GUMBEL": lambda: noise(random.gumbel),
}
for name, shape in SAMPLES.items():
    WORKLOADS[name] = lambda shape=shape: sample(shape, hard=False)
    WORKLOADS[name + "h"] = lambda shape=shape: sample(shape, hard=True)

serve(f"JAX {jax.__version__} jit, {len(os.sched_getaffinity(0))} threads", WORKLOADS)
