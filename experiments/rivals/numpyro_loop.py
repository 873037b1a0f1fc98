"""The same autoencoder in NumPyro, a whole epoch as one program of XLA, run by a Python that has NumPyro.

``SVI.update`` stands in a ``lax.fori_loop`` over the steps of an epoch, which also shuffles and gathers the rows. The state
is donated, so that XLA updates it in place, and a single number leaves the program at the end of the epoch.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from jax import lax, random
from numpyro.distributions.kl import kl_divergence
from numpyro.infer import SVI, RenyiELBO, TraceMeanField_ELBO

from rivals import jax_networks
from rivals.configuration import FLOOR, LEARNING_RATE, PIXEL_FLOOR, Configuration
from rivals.taking_part import Turn, take_part


@kl_divergence.register(dist.MultivariateNormal, dist.Independent)
def _to_standard_normal(q: dist.MultivariateNormal, p: dist.Independent) -> jax.Array:
    """KL(N(m, LLᵀ) ‖ N(0, I)), which NumPyro does not know. The only prior here is the standard normal."""
    diagonal = jnp.diagonal(q.scale_tril, axis1=-2, axis2=-1)
    squares = jnp.square(q.loc).sum(-1) + jnp.square(q.scale_tril).sum((-2, -1))
    return (squares - q.event_shape[0]) / 2 - jnp.log(diagonal).sum(-1)


class Programs:
    """Model and guide for a batch x, (B, *event), as NumPyro's examples write them."""

    def __init__(self, c: Configuration, key: jax.Array):
        self.c = c
        self.below = np.tril_indices(c.latent, -1)
        full = c.covariance == "full"
        of_encoder, *of_decoders = random.split(key, 2 + (c.likelihood == "Gaussian"))
        outputs = 2 * c.latent + full * len(self.below[0])
        self.encoder = jax_networks.encoder(c, of_encoder, outputs)
        self.decoders = [jax_networks.decoder(c, k) for k in of_decoders]

    def model(self, x: jax.Array) -> None:
        networks = [
            partial(network, numpyro.param(f"decoder {i}", weights))
            for i, (weights, network) in enumerate(self.decoders)
        ]
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(self.c.latent), 1.0).to_event(1))
            means, *spreads = (network(z) for network in networks)
            if spreads:
                p = dist.Normal(means, PIXEL_FLOOR + jax.nn.softplus(spreads[0]))
            else:
                p = dist.Bernoulli(logits=means)
            numpyro.sample("x", p.to_event(len(self.c.event)), obs=x)

    def guide(self, x: jax.Array) -> None:
        weights, network = self.encoder
        raw, latent = network(numpyro.param("encoder", weights), x), self.c.latent
        mean, scale = raw[:, :latent], FLOOR + jax.nn.softplus(raw[:, latent : 2 * latent])
        q = dist.Normal(mean, scale).to_event(1)
        if self.c.covariance == "full":
            unit = jnp.broadcast_to(jnp.eye(latent), (len(x), latent, latent))
            unit = unit.at[:, self.below[0], self.below[1]].set(raw[:, 2 * latent :])
            q = dist.MultivariateNormal(mean, scale_tril=scale[:, :, None] * unit)
        with numpyro.plate("rows", len(x)):
            numpyro.sample("z", q)


def train(c: Configuration, x: np.ndarray, turn: Turn) -> None:
    rows = jnp.asarray(x)
    of_weights, of_state, key = random.split(random.key(c.seed), 3)
    programs = Programs(c, of_weights)
    loss = RenyiELBO(num_particles=c.particles) if c.particles > 1 else TraceMeanField_ELBO()
    svi = SVI(programs.model, programs.guide, optax.adam(LEARNING_RATE), loss)

    @partial(jax.jit, donate_argnums=0)
    def epoch(state, key: jax.Array, rows: jax.Array):
        order = random.permutation(key, len(rows)).reshape(c.steps, c.batch)

        def step(i, carry):
            state, total = carry
            batch = rows.at[order[i]].get(mode="promise_in_bounds", unique_indices=True)
            state, loss = svi.update(state, batch)
            return state, total + loss

        return lax.fori_loop(0, c.steps, step, (state, 0.0))

    state, over = svi.init(of_state, rows[: c.batch]), False
    while not over:
        key, of_order = random.split(key)
        state, total = epoch(state, of_order, rows)
        over = turn(-float(total) / len(rows))


CONTESTANTS = {"NumPyro, an epoch in lax.fori_loop": train}

if __name__ == "__main__":
    take_part(CONTESTANTS, *sys.argv[1:])
