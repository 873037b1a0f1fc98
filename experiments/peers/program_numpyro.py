"""The autoencoder in NumPyro, an epoch as one program of XLA."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from jax import lax, random
from numpyro.infer import SVI, TraceMeanField_ELBO
from rivals.configuration import LEARNING_RATE, Configuration
from rivals.taking_part import Turn, take_part


def layers(key: jax.Array, *sizes: int) -> list[tuple[jax.Array, jax.Array]]:
    pairs = zip(random.split(key, len(sizes)), sizes[:-1], sizes[1:], strict=False)
    return [(random.uniform(k, (a, b), minval=-(a**-0.5), maxval=a**-0.5), jnp.zeros(b)) for k, a, b in pairs]


def network(weights: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    (first, bias), (last, shift) = weights
    return jax.nn.relu(x @ first + bias) @ last + shift


def train(c: Configuration, x: np.ndarray, turn: Turn) -> None:
    rows, (of_decoder, of_encoder, key) = jnp.asarray(x), random.split(random.key(c.seed), 3)
    decoder = layers(of_decoder, c.latent, c.hidden, c.columns)
    encoder = layers(of_encoder, c.columns, c.hidden, 2 * c.latent)

    def model(x: jax.Array) -> None:
        weights = numpyro.param("decoder", decoder)
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(c.latent), 1.0).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=network(weights, z)).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        mean, raw = jnp.split(network(numpyro.param("encoder", encoder), x), 2, -1)
        with numpyro.plate("rows", len(x)):
            numpyro.sample("z", dist.Normal(mean, jax.nn.softplus(raw) + 1e-3).to_event(1))

    svi = SVI(model, guide, optax.adam(LEARNING_RATE), TraceMeanField_ELBO())

    @partial(jax.jit, donate_argnums=0)
    def epoch(state, key: jax.Array, rows: jax.Array):
        order = random.permutation(key, len(rows)).reshape(c.steps, c.batch)

        def step(i, carry):
            state, total = carry
            state, loss = svi.update(state, rows[order[i]])
            return state, total + loss

        return lax.fori_loop(0, c.steps, step, (state, 0.0))

    state, over = svi.init(key, rows[: c.batch]), False
    while not over:
        key, of_order = random.split(key)
        state, total = epoch(state, of_order, rows)
        over = turn(-float(total) / len(rows))


if __name__ == "__main__":
    take_part({"NumPyro": train}, *sys.argv[1:])
