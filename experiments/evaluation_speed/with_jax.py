"""The queries in JAX, compiled, with densities by NumPyro: a ``lax.map`` over blocks of rows. Annealing is left out."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import lax, random

from evaluation_speed.setting import Query, Weights

NUMBERS, ROWS = 2**18, 1024


def encode(weights: tuple, x: jax.Array, floor: float) -> dist.Distribution:
    first, bias, last, shift = weights
    mean, raw = jnp.split(jax.nn.relu(x @ first + bias) @ last + shift, 2, -1)
    return dist.Normal(mean, jax.nn.softplus(raw) + floor).to_event(1)


def decode(weights: tuple, z: jax.Array) -> jax.Array:
    first, bias, last, shift = weights
    return jax.nn.relu(z @ first + bias) @ last + shift


def likelihood(query: Query, weights: Weights, z: jax.Array) -> dist.Distribution:
    decoded = decode(weights.decoder, z)
    if query.likelihood == "Bernoulli":
        return dist.Bernoulli(logits=decoded).to_event(1)
    return dist.Normal(decoded, weights.scale).to_event(1)


def importance(query: Query, weights: Weights, rows: int, key: jax.Array, x: jax.Array) -> jax.Array:
    most = max(1, NUMBERS // (rows * query.columns))
    rounds = -(-query.draws // most)
    q = encode(weights.encoder, x, weights.floor)
    prior = dist.Normal(0.0, 1.0).expand([query.latent]).to_event(1)

    def one_round(total: jax.Array, at: tuple) -> tuple[jax.Array, None]:
        number, key = at
        z = q.sample(key, (most,))
        log_w = likelihood(query, weights, z).log_prob(x) + prior.log_prob(z) - q.log_prob(z)
        kept = (jnp.arange(most) + number * most < query.draws)[:, None]
        log_w = jnp.where(kept, log_w, -jnp.inf)
        return jnp.logaddexp(total, jax.nn.logsumexp(log_w, 0)), None

    start = jnp.full(x.shape[:1], -jnp.inf)
    total, _ = lax.scan(one_round, start, (jnp.arange(rounds), random.split(key, rounds)))
    return total - jnp.log(query.draws)


def posterior(query: Query, weights: Weights, rows: int, key: jax.Array, x: jax.Array) -> jax.Array:
    q = encode(weights.encoder, x, weights.floor).base_dist
    return jnp.stack([q.loc, q.scale], 1)


def reconstruct(query: Query, weights: Weights, rows: int, key: jax.Array, x: jax.Array) -> jax.Array:
    q = encode(weights.encoder, x, weights.floor)

    def one_draw(total: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        return total + likelihood(query, weights, q.sample(key)).mean, None

    total, _ = lax.scan(one_draw, jnp.zeros_like(x), random.split(key, query.draws))
    return total / query.draws


TASKS = {"importance": importance, "posterior": posterior, "reconstruct": reconstruct}


class Compiled:
    """A task as a compiled function of rows (N, D)."""

    def __init__(self, query: Query, weights: Weights):
        task = partial(TASKS[query.task], query, weights)
        most = max(1, min(64, NUMBERS // query.columns)) if query.task == "importance" else ROWS

        @jax.jit
        def run(x: jax.Array) -> jax.Array:
            rows = min(most, len(x))
            blocks = -(-len(x) // rows)
            padded = jnp.pad(x, ((0, blocks * rows - len(x)), (0, 0))).reshape(blocks, rows, -1)
            keys = random.split(random.key(0), blocks)
            return lax.map(lambda at: task(rows, *at), (keys, padded))

        self.run = run


def prepared(query: Query, weights: Weights) -> Compiled:
    return Compiled(query, weights)


def answer(query: Query, compiled: Compiled, x: np.ndarray) -> float:
    result = np.asarray(compiled.run(jnp.asarray(x)))
    result = result.reshape(-1, *result.shape[2:])[: len(x)]
    return float((result[:, 0] if query.task == "posterior" else result).mean(dtype=np.float64))
