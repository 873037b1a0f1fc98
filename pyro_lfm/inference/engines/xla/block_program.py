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


class Kind(NamedTuple):
    """What the program depends on: P of the rates, and whether a weight decay acts on parameters and on gradients."""

    columns: int
    kept: bool
    decays: bool


class Rates(NamedTuple):
    """Adam's numbers of S steps, (S, P), and of all steps, (P,). P is the number of parameters, or 1 where these are alike.

    Attributes:
        sizes: the learning rate over the first bias correction, (S, P).
        roots: one over the square root of the second bias correction, (S, P).
        kept: what a decoupled weight decay leaves of a parameter in a step, (S, P); None where there is none.
        betas, betas2: (2, P), the factor of the moment, and that of the gradient.
        epsilons: (P,).
        decays: those that the gradient takes, (P,); None where there are none.
    """

    sizes: Array
    roots: Array
    kept: Array | None
    betas: Array
    betas2: Array
    epsilons: Array
    decays: Array | None

    @property
    def kind(self) -> Kind:
        return Kind(self.sizes.shape[1], self.kept is not None, self.decays is not None)


class Result(NamedTuple):
    """What a block gives: the state after it, the loss (S,) and the parts of the bound (S, 4)."""

    moments: Moments
    losses: jax.Array
    parts: jax.Array


class BlockProgram:
    """n ≤ S steps in one call.

    Args:
        translated: the step. Its inputs are B rows of every name, their numbers, the weights of the objective, and other
            tensors. Its outputs are the loss, whether it is finite, the parts of the bound and the gradients.
        places: for each of the other tensors the number of the trained parameter that it is, or None.
    """

    def __init__(self, translated: Translated, places: Sequence[int | None]):
        self._step, self._places = translated.function, places
        # By the number of threads, as XLA has one pool of them for the process, and by what the rates hold.
        self._compiled: dict[tuple[bool, Kind], Any] = {}

    def __call__(self, n: np.int32, moments: Moments, rates: Rates, *others: Arrays) -> Result:
        """See ``_run``. Compiles where the rates are the first of their kind; other arrays have the same shapes always."""
        arguments = n, moments, rates, *others
        one_thread = torch.get_num_threads() == 1
        key = one_thread, rates.kind
        with jax.enable_x64(True):
            if (compiled := self._compiled.get(key)) is None:
                # Wide vectors made a step 4 to 6% shorter on AMD's Zen 5; without AVX-512 the option changes nothing.
                options: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}
                if one_thread:
                    options["xla_cpu_multi_thread_eigen"] = False
                compiled = jax.jit(self._run).lower(*arguments).compile(compiler_options=options)
                self._compiled[key] = compiled
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
        return Result(*lax.fori_loop(0, n, one, start))


def _adam(moments: Moments, gradients: Sequence[jax.Array], rates: Rates, k: jax.Array) -> Moments:
    """Step k. Source: Kingma and Ba (2015), algorithm 1; Loshchilov and Hutter (2019) for decoupled weight decay."""
    alike = rates.epsilons.shape[0] == 1
    values, means, squares = [], [], []
    for number, (value, mean, square, gradient) in enumerate(zip(*moments, gradients, strict=True)):
        p = 0 if alike else number
        if rates.decays is not None:
            gradient = gradient + rates.decays[p] * value
        mean = rates.betas[0, p] * mean + rates.betas[1, p] * gradient
        square = rates.betas2[0, p] * square + rates.betas2[1, p] * gradient * gradient
        means.append(mean)
        squares.append(square)
        kept = value if rates.kept is None else rates.kept[k, p] * value
        values.append(
            kept - rates.sizes[k, p] * mean / (jnp.sqrt(square) * rates.roots[k, p] + rates.epsilons[p])
        )
    return Moments(values, means, squares)
