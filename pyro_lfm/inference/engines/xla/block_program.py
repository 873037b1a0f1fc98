"""``BlockProgram``: many optimisation steps as one program of XLA, Adam's update included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from pyro_lfm.inference.engines.xla.translation import Translated

# An array of JAX, or one of NumPy that becomes one.
Array = jax.Array | np.ndarray
Arrays = list[jax.Array]


class Moments(NamedTuple):
    """The trained parameters and Adam's moments of their gradients, one array each for every parameter."""

    values: Arrays
    means: Arrays
    squares: Arrays


class Rates(NamedTuple):
    """Adam's numbers: of S steps and P parameters, (S, P), or of each parameter, (P,).

    Attributes:
        sizes: the learning rate over the first bias correction, (S, P).
        roots: the square root of the second bias correction, (S, P).
        kept: what a decoupled weight decay leaves of a parameter in a step, (S, P).
        betas, betas2, epsilons, decays: (P,); ``decays`` are those that the gradient takes.
    """

    sizes: Array
    roots: Array
    kept: Array
    betas: Array
    betas2: Array
    epsilons: Array
    decays: Array


class Result(NamedTuple):
    """What a block gives: the state after it, the loss (S,) and the parts of the bound (S, 4), and whether all is finite."""

    moments: Moments
    losses: jax.Array
    parts: jax.Array
    healthy: jax.Array


class BlockProgram:
    """n ≤ S steps in one call.

    Args:
        translated: the step. Its inputs are B rows of every name, their numbers, the weights of the objective, and other
            tensors. Its outputs are the loss, whether it is finite, the parts of the bound and the gradients.
        places: for each of the other tensors the number of the trained parameter that it is, or None.
    """

    def __init__(self, translated: Translated, places: Sequence[int | None]):
        self._step, self._places = translated.function, places
        # By whether one thread is to do it all: XLA has one pool of threads for the process.
        self._compiled: dict[bool, Any] = {}

    def __call__(self, *arguments: Any) -> Result:
        """See ``_run``. The first call compiles; later ones take arrays of the same shapes."""
        with jax.enable_x64(True):
            one_thread = torch.get_num_threads() == 1
            if (compiled := self._compiled.get(one_thread)) is None:
                options: dict[str, str | bool] | None = (
                    {"xla_cpu_multi_thread_eigen": False} if one_thread else None
                )
                compiled = jax.jit(self._run).lower(*arguments).compile(compiler_options=options)
                self._compiled[one_thread] = compiled
            return jax.block_until_ready(compiled(*arguments))  # type: ignore[no-any-return]

    def _run(
        self,
        n: jax.Array,
        moments: Moments,
        rates: Rates,
        varying: Arrays,
        drawn: Arrays,
        fixed: Arrays,
    ) -> Result:
        """n steps.

        Args:
            varying: the inputs that differ from step to step, (S, ...) each.
            drawn: random numbers, (S, ...) each.
            fixed: the tensors that are no trained parameters, in their order.
        """
        steps = rates.sizes.shape[0]

        def one(k: jax.Array, carry: tuple[Moments, jax.Array, jax.Array]) -> tuple[Any, ...]:
            moments, losses, parts = carry
            others = iter(fixed)
            held = [next(others) if place is None else moments.values[place] for place in self._places]
            loss, _, part, *gradients = self._step(
                [*(value[k] for value in varying), *held], [value[k] for value in drawn]
            )
            return _adam(moments, gradients, rates, k), losses.at[k].set(loss), parts.at[k].set(part)

        dtype = moments.values[0].dtype
        start = moments, jnp.zeros(steps, dtype), jnp.zeros((steps, 4), dtype)
        moments, losses, parts = lax.fori_loop(0, n, one, start)
        # A moment keeps whatever was not finite in a gradient, so that one look at the end sees all steps.
        total = losses.sum() + sum(value.sum() for value in (*moments.squares, *moments.values))
        return Result(moments, losses, parts, jnp.isfinite(total))


def _adam(moments: Moments, gradients: Sequence[jax.Array], rates: Rates, k: jax.Array) -> Moments:
    """Step k. Source: Kingma and Ba (2015), algorithm 1; Loshchilov and Hutter (2019) for decoupled weight decay."""
    sizes, roots, kept = rates.sizes[k], rates.roots[k], rates.kept[k]
    values, means, squares = [], [], []
    for p, (value, mean, square, gradient) in enumerate(zip(*moments, gradients, strict=True)):
        gradient = gradient + rates.decays[p] * value
        mean = rates.betas[p] * mean + (1 - rates.betas[p]) * gradient
        square = rates.betas2[p] * square + (1 - rates.betas2[p]) * gradient * gradient
        means.append(mean)
        squares.append(square)
        values.append(kept[p] * value - sizes[p] * mean / (jnp.sqrt(square) / roots[p] + rates.epsilons[p]))
    return Moments(values, means, squares)
