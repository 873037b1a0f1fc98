"""The networks of the variational autoencoder in JAX, with the sizes and first weights of those in PyTorch, for NumPyro."""

from collections.abc import Callable
from math import prod

import jax
import jax.numpy as jnp
from jax import lax, random

from rivals.configuration import Configuration

Weights = list[tuple[jax.Array, jax.Array]]
Network = Callable[[Weights, jax.Array], jax.Array]


def _layer(key: jax.Array, shape: tuple[int, ...], inputs: int) -> tuple[jax.Array, jax.Array]:
    """Weights and biases within ±1/√inputs, as PyTorch draws them."""
    of_weights, of_biases = random.split(key)
    bound = inputs**-0.5
    weights = random.uniform(of_weights, shape, minval=-bound, maxval=bound)
    return weights, random.uniform(of_biases, shape[-1:], minval=-bound, maxval=bound)


def _dense(key: jax.Array, inputs: int, outputs: int) -> tuple[jax.Array, jax.Array]:
    return _layer(key, (inputs, outputs), inputs)


def _perceptron(weights: Weights, x: jax.Array) -> jax.Array:
    (first, biases), (last, shift) = weights
    return jax.nn.relu(x @ first + biases) @ last + shift


# Convolutions are written as matrix products: inside a loop XLA takes nine times as long for its own on a CPU.


def _downwards(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution of 3 × 3 with a stride of 2, of images (B, side, side, channels)."""
    end = x.shape[1]  # of the slices: side / 2 entries each
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = [padded[:, i : i + end : 2, j : j + end : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(patches, -1) @ kernel.reshape(-1, kernel.shape[-1])


def _upwards(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Its transpose, which doubles the side: entry (a, b) adds to the nine entries around (2a, 2b)."""
    inputs, outputs = kernel.shape[2:]
    parts = x @ kernel.transpose(2, 0, 1, 3).reshape(inputs, 9 * outputs)
    parts = parts.reshape(*x.shape[:3], 9, outputs)
    zero, total = jnp.zeros((), x.dtype), 0.0
    for i in range(3):
        for j in range(3):
            edges = ((0, 0, 0), (1 - i, i, 1), (1 - j, j, 1), (0, 0, 0))
            total = total + lax.pad(parts[..., 3 * i + j, :], zero, edges)
    return total


def encoder(c: Configuration, key: jax.Array, outputs: int) -> tuple[Weights, Network]:
    """First weights, and the network from rows (B, *event) to (B, outputs)."""
    if not c.channels:
        first, last = random.split(key)
        return [_dense(first, c.columns, c.hidden), _dense(last, c.hidden, outputs)], _perceptron
    depths, side = (1, *c.channels), c.event[1] // 2 ** len(c.channels)
    keys = random.split(key, len(depths))
    weights = [
        _layer(k, (3, 3, before, after), 9 * before)
        for k, before, after in zip(keys, depths, depths[1:], strict=False)
    ]
    weights.append(_dense(keys[-1], depths[-1] * side**2, outputs))

    def network(weights: Weights, x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, 1, -1)
        for kernel, biases in weights[:-1]:
            x = jax.nn.relu(_downwards(x, kernel) + biases)
        last, shift = weights[-1]
        return x.reshape(len(x), -1) @ last + shift

    return weights, network


def decoder(c: Configuration, key: jax.Array) -> tuple[Weights, Network]:
    """First weights, and the network from z (B, latent) to (B, *event)."""
    if not c.channels:
        first, last = random.split(key)
        return [_dense(first, c.latent, c.hidden), _dense(last, c.hidden, c.columns)], _perceptron
    depths, side = (*c.channels[::-1], 1), c.event[1] // 2 ** len(c.channels)
    keys = random.split(key, len(depths))
    # PyTorch counts the inputs of a transposed convolution by its second axis, that of the outputs.
    weights = [_dense(keys[0], c.latent, prod((side, side, depths[0])))]
    weights += [
        _layer(k, (3, 3, before, after), 9 * after)
        for k, before, after in zip(keys[1:], depths, depths[1:], strict=False)
    ]

    def network(weights: Weights, z: jax.Array) -> jax.Array:
        first, biases = weights[0]
        x = (z @ first + biases).reshape(len(z), side, side, depths[0])
        for kernel, shift in weights[1:]:
            x = _upwards(jax.nn.relu(x), kernel) + shift
        return jnp.moveaxis(x, -1, 1)

    return weights, network
