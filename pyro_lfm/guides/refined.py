"""Semi-amortized inference: a guide whose proposal is refined by gradient steps for each row."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pyro_lfm import shapes
from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Encoder
from pyro_lfm.factors.views import view
from pyro_lfm.guides.any_guide import AnyGuide
from pyro_lfm.guides.guide import Guide
from pyro_lfm.programs.pyro_model import ModelLike
from pyro_lfm.sources.per_row import PerRowTable


class Refined(AnyGuide):
    """q(z | x) whose parameters λ(x), proposed by a guide, are refined by gradient steps on the bound of each row.

    The refined parameters are λ(x) + δ. δ starts at zero and takes ``steps`` steps of Adam with the model fixed. A row whose
    bound, estimated with 16 draws of the same noise, has not risen keeps the proposal. This reduces the amortization gap.

    Refinement takes place after a fit: in ``posterior``, ``sample_posterior``, ``reconstruct`` and ``bound`` of a ``Fit``
    and in ``lfm.evaluate.log_likelihood``. Training, validation and the Pyro program use the proposal.

    Args:
        guide: a ``Guide`` whose factors have sources. Latents that all rows share are not refined.
        steps: the number of steps. 0 gives the proposal.
        learning_rate: of Adam, for unconstrained parameters. It decays to zero along a half cosine.

    Raises:
        DeclarationError: another kind of guide, a guide with ``PerRow`` tables, or a factor without sources.

    Use it for better posteriors of few rows, where the encoder is the weak part (see ``lfm.evaluate.gaps``).

    Limits: each query takes ``steps`` gradient steps for its rows.

    Source: Kim et al. (2018), "Semi-amortized variational autoencoders"; Cremer, Li and Duvenaud (2018), "Inference
    suboptimality in variational autoencoders", for the gap.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    >>> guide = lfm.Refined(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8))), steps=20)
    >>> done = lfm.fit(model, torch.randn(50, 4), lfm.SVI(guide, epochs=2), seed=0, progress=False)
    >>> done.posterior(torch.zeros(3, 4)).mean.shape
    torch.Size([3, 2])
    """

    def __init__(self, guide: Guide, steps: int = 20, learning_rate: float = 0.05):
        super().__init__()
        if not isinstance(guide, Guide):
            raise DeclarationError(
                f"Refined takes an lfm.Guide, because it optimises the sources of the factors; got {type(guide).__name__}"
            )
        if guide.tables:
            raise DeclarationError("a guide with PerRow tables is already optimised for each row")
        self.proposal = guide
        for name in self.names:
            if not guide.factors[name].own_part().parts:
                kind = type(guide.factors[name].declaration).__name__
                raise DeclarationError(f"{name}: a {kind} has no sources to refine")
        self.steps = shapes.whole("steps of Refined", steps, least=0)
        self.learning_rate = shapes.number("learning_rate of Refined", learning_rate, least=0.0, above=True)

    @property
    def names(self) -> list[str]:
        """The latents whose distributions are refined."""
        return [name for name, latent in self.proposal.latents.items() if latent.per_row]

    def opened(self, rows: int) -> Guide:
        """A copy of the proposal that adds to the raw parameters of each of N rows a table of offsets, initially zero."""
        guide = copy.deepcopy(self.proposal)
        guide.__class__ = _Opened
        for name in self.names:
            factor = guide.factors[name].own_part()
            for parameter, part in factor.parts.items():
                factor.parts[parameter] = _Offset(
                    part, factor.part_shape(parameter), rows, self.learning_rate
                )
        return guide.to(device=self.device, dtype=self.dtype)

    def bound_to(self, model: ModelLike) -> Refined:
        proposal = self.proposal.bound_to(model)
        return self if proposal is self.proposal else view(self, proposal=proposal)

    @property
    def made_of_priors(self) -> list[str]:
        return self.proposal.made_of_priors

    @property
    def encoders(self) -> Mapping[str, Encoder]:
        return self.proposal.encoders

    @property
    def is_as_declared(self) -> bool:
        return self.proposal.is_as_declared

    def remember_first_weights(self) -> None:
        self.proposal.remember_first_weights()

    def draw_first_weights(self, model: ModelLike, seed: int) -> None:
        self.proposal.draw_first_weights(model, seed)

    def check_serves(self, model: ModelLike) -> None:
        self.proposal.check_serves(model)

    @property
    def summable(self) -> bool:
        return self.proposal.summable

    @property
    def needs(self) -> set[str]:
        return self.proposal.needs

    def latent_descendants(self, name: str) -> set[str] | None:
        return self.proposal.latent_descendants(name)

    def latent_parents(self, name: str) -> set[str]:
        return self.proposal.latent_parents(name)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The Pyro guide: the proposal."""
        return self.proposal.forward(batch)

    def __repr__(self) -> str:
        return f"Refined({self.proposal!r}, steps={self.steps}, learning_rate={self.learning_rate})"

    def describe(self) -> str:
        return f"refined for each row by {self.steps} steps of Adam"


class _Opened(Guide):
    """A proposal with offsets for each row. The proposal was checked against the model, so that it needs no check."""

    def check_serves(self, model: ModelLike) -> None:
        pass


class _Offset(nn.Module):
    """The raw values of a source plus an offset for each row."""

    def __init__(self, part: nn.Module, shape: torch.Size, rows: int, learning_rate: float):
        super().__init__()
        self.part, self.offset = part, PerRowTable(torch.zeros(shape), rows, learning_rate)

    def forward(self, context: Tensor | None, index: Tensor | None = None) -> Tensor:
        raw: Tensor = self.part(context, index) + self.offset(context, index)
        return raw
