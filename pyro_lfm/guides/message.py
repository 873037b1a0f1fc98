"""Guides that start from the prior: q(z | x, ·) ∝ p(z | ·) × a message about z."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.product import product
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Factors
from pyro_lfm.factors.variables import Variable
from pyro_lfm.factors.wiring import distribution_of
from pyro_lfm.probes import probing
from pyro_lfm.programs.program import view


class Priors(nn.Module):
    """The model's very own priors of some latents, which messages multiply, and whatever is computed on the way to them.

    They are parts of the guide too, so that whoever holds the guide's parameters holds theirs.

    Args:
        model: a declared model.
        names: the latents.
    """

    def __init__(self, model: Any, names: Iterable[str]):
        super().__init__()
        self.names = tuple(names)
        self.known = frozenset(getattr(model, "covariates", ()))
        self.factors = Factors()
        self.given: dict[str, tuple[str, ...]] = {}
        # What each prior reads, as variables of the model.
        self.reads: dict[str, tuple[str, ...]] = {}
        for name in self.names:
            if name not in getattr(model, "given", ()):
                raise DeclarationError(
                    f"{name}: a message multiplies the prior of a declared factor: use lfm.Gaussian"
                )
            self.reads[name] = model.wiring[name]
            self._hold(model, name)

    def _hold(self, model: Any, name: str) -> None:
        self.factors[name], self.given[name] = model.factors[name], model.given[name]
        for parent in model.given[name]:
            if model.factors[parent].computed:
                self._hold(model, parent)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def with_priors_of(self, model: Any) -> Priors:
        """These priors as they are in a model; itself where they are that model's already."""
        held = getattr(model, "factors", {})
        other = {n: held[n] for n, factor in self.factors.items() if n in held and held[n] is not factor}
        if not other:
            return self
        factors = view(self.factors)
        for name, factor in other.items():
            factors[name] = factor
        return view(self, factors=factors)

    def times(
        self, name: str, message: Any, read: Mapping[str, torch.Tensor], batch: Batch, observed: Iterable[str]
    ) -> Any:
        """The distribution ∝ prior × message; the prior where a row has nothing to say.

        Args:
            read: the values of what the prior reads, at least.
            observed: the observed variables that the message reads.
        """
        masks = [batch.mask(other) for other in observed if other not in self.known]
        gappy = [mask.flatten(1).any(1) for mask in masks if mask is not None]
        has_message = torch.stack(gappy).any(0) if gappy and len(gappy) == len(masks) else None
        return product(self._distribution(name, read, batch.index), message, has_message)

    def _distribution(self, name: str, read: Mapping[str, torch.Tensor], index: torch.Tensor) -> Any:
        return distribution_of(self.factors, self.given, name, read, index)

    def check(self, name: str, known: Mapping[str, Variable], dtype: torch.dtype) -> None:
        """Whether the prior is one that a message can multiply, from its distribution on zeros."""
        zeros = {p: torch.zeros(*(2,) * v.per_row, *v.shape, dtype=dtype) for p, v in known.items()}
        with probing(self):
            distribution = self._distribution(name, zeros, torch.zeros(2, dtype=torch.long))
            try:
                product(distribution, distribution)
            except DeclarationError as error:
                raise DeclarationError(f"{name}: {error}") from None
