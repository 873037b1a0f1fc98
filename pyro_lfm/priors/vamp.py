"""A prior made of the guide: the posterior, averaged over a few learned rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import constraints

from pyro_lfm.distributions.mixture import DrawMixture
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors import Factor, Prior, key_of
from pyro_lfm.shapes import whole
from pyro_lfm.variables import Variable


class VampPrior(Prior):
    """p(z) = 1/C Σ_c q(z | u_c): the guide's own law, averaged over C learned pseudo-inputs u_c.

    Among all priors the one that raises the ELBO most is the aggregate of the posterior, 1/N Σₙ q(z | xₙ); this is its
    affordable form. A ``Guide`` that is declared for the model hands its factor of this latent to the prior, and so does
    every run of the two together: the prior looks at it and does not own it, so that its weights stay the guide's. Until
    a guide has been declared, p(z) is N(0, I). Its KL is Monte Carlo.

    Args:
        dim: K.
        components: C; the more the better, and the slower: every step encodes them all.
        pseudo_inputs: where u starts: C rows of data, (C, *event), or {name: rows} where the guide reads several observed
            variables; by default rows that the model generates before it has been trained. Rows of the data are better.
            Entries stay in the range of the variable; labels, which have no gradient, stay where they start.

    Raises:
        DeclarationError: at a guide whose law of this latent cannot be had for such rows: it is ``PerRow``, reads other
            latents or nothing at all, or is written by hand. ShapeError: pseudo-inputs of another shape than the data.

    Source: Tomczak and Welling (2018), "VAE with a VampPrior", equation 9.

    >>> from pyro_lfm import Bernoulli, Gaussian, Guide, MLP, Model
    >>> model = Model(z=VampPrior(2, components=5), x=Bernoulli(8, logits=MLP(16)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(16)))
    >>> model.factors["z"]().law.batch_shape, model.factors["z"]().log_prob(torch.zeros(3, 2)).shape
    (torch.Size([5]), torch.Size([3]))
    """

    loc: torch.Tensor
    scale: torch.Tensor
    reads_guide = True

    def __init__(self, dim: int, components: int | None = None, pseudo_inputs: Any = None):
        super().__init__(whole("dim of VampPrior", dim))
        self._starts = pseudo_inputs
        rows = pseudo_inputs.values() if isinstance(pseudo_inputs, Mapping) else [pseudo_inputs]
        lengths = {len(value) for value in rows if value is not None}
        if len(lengths) > 1:
            raise ShapeError(f"pseudo_inputs must have as many rows under every name; got {sorted(lengths)}")
        length = lengths.pop() if lengths else None
        self.components = whole("components", (length or 500) if components is None else components)
        if length not in (None, self.components):
            raise ShapeError(
                f"pseudo_inputs must have {self.components} rows, one per component; got {length}"
            )
        self.register_buffer("loc", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.pseudo_inputs = nn.ParameterDict()
        # In a tuple, which nn.Module does not look into: the encoder stays the guide's.
        self._encoder: tuple[Factor, Sequence[Variable]] | None = None

    def meet(self, encoder: Factor, parents: Sequence[Variable], rows: Any) -> None:
        if self._encoder is not None and self._encoder[0] is encoder:
            return
        if not parents or encoder.tables:
            raise DeclarationError(
                "a VampPrior needs a guide that computes the law of its latent from observed rows, as "
                f"lfm.Gaussian(network=lfm.MLP(200)) does; this one is {encoder.describe()}"
            )
        if {key_of(p.name) for p in parents} != set(self.pseudo_inputs):
            self.pseudo_inputs = nn.ParameterDict()
            for parent in parents:
                start = self._start(parent, len(parents), rows)
                self.pseudo_inputs[key_of(parent.name)] = nn.Parameter(
                    start.clone(), requires_grad=parent.categories is None
                )
        self._encoder = encoder, tuple(parents)

    def _start(self, parent: Variable, parents: int, rows: Any) -> torch.Tensor:
        """The rows (C, *event) of a variable from which its pseudo-inputs start."""
        starts = self._starts
        if isinstance(starts, Mapping) and parent.name not in starts:
            raise DeclarationError(f"pseudo_inputs must have rows of {parent.name}, which the guide reads")
        if starts is None:
            found = rows(self.components)[parent.name]
        elif isinstance(starts, Mapping) or parents == 1:
            found = starts[parent.name] if isinstance(starts, Mapping) else starts
        else:
            raise DeclarationError("the guide reads several variables: give pseudo_inputs as {name: rows}")
        found = torch.as_tensor(found, dtype=self.loc.dtype, device=self.loc.device)
        if found.shape != (self.components, *parent.shape):
            expected = (self.components, *parent.shape)
            raise ShapeError(f"pseudo_inputs of {parent.name} must be {expected}; got {tuple(found.shape)}")
        if not bool(found.isfinite().all()):
            raise DeclarationError(
                f"pseudo_inputs of {parent.name} must be finite: take rows without missing entries"
            )
        return found

    def forward(self) -> Any:
        if self._encoder is None:
            return dist.Normal(self.loc, self.scale, validate_args=False).to_event(1)
        encoder, parents = self._encoder
        values = [_within(self.pseudo_inputs[key_of(parent.name)], parent) for parent in parents]
        return DrawMixture(encoder.at(values, torch.arange(self.components, device=self.loc.device)))

    def describe(self) -> str:
        return f"VampPrior({self.components} pseudo-inputs)"


def _within(value: torch.Tensor, variable: Variable) -> torch.Tensor:
    """Numbers kept in the range of a variable's entries; those between two values of a discrete one are let be."""
    support = entrywise(variable.support)
    if isinstance(support, type(constraints.boolean)):
        return value.clamp(0.0, 1.0)
    low, high = (getattr(support, f"{side}_bound", None) for side in ("lower", "upper"))
    if variable.categories is not None:
        return value
    # One at a time: a bound may be a number or a tensor.
    value = value if low is None else value.clamp_min(low)
    return value if high is None else value.clamp_max(high)
