"""A prior made of the guide: a Parzen mixture over the codes of the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pyro_lfm.distributions.parzen_mixture import ParzenMixture
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Conditional, Encoder, MadeOfGuide, PriorOfGuide, key_of, name_of
from pyro_lfm.factors.conditional import Rows
from pyro_lfm.factors.variables import Variable
from pyro_lfm.priors.standard import StandardNormal
from pyro_lfm.shapes import whole


class ExemplarPrior(PriorOfGuide):
    """p(z) = 1/M Σ_m N(z; μ(x_m), σ² I): a Gaussian about the code of each of M training rows, the exemplars.

    μ is the mean of the guide's q(z | x), and σ is learned. While a row is trained its own code is left out, so that the
    prior does not pull every code towards itself, and of the others those nearest to z count. Exemplars are found by their
    codes, which are computed anew for every epoch; those that count are encoded in every step, with gradients. What trains is
    then a bound from below. Fits keep the exemplars in buffers. After a fit all codes count, and none is left out.

    Args:
        dim: K.
        exemplars: M, how many rows, taken at random from the data that are fitted; by default all.
        neighbours: how many of the nearest count in a step of the training.

    Raises:
        DeclarationError: at a model that is bound to no guide, or was not fitted, when its prior is asked for; at a guide
            whose distribution of this latent is not a Gaussian that observed rows alone determine.

    Source: Norouzi, Fleet and Norouzi (2020), "Exemplar VAE: linking generative models, nearest neighbor retrieval, and data
    augmentation", equations 4 to 8.

    >>> from pyro_lfm import SVI, Gaussian, Guide, Model, MLP, fit
    >>> model = Model(z=ExemplarPrior(2, neighbours=5), x=Gaussian(4, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> done = fit(model, torch.randn(50, 4), SVI(guide, epochs=2), seed=0, progress=False)
    >>> done.model.factors["z"]().centres.shape, done.model.sample(3, seed=0)["x"].shape
    (torch.Size([50, 2]), torch.Size([3, 4]))
    """

    def __init__(self, dim: int, exemplars: int | None = None, neighbours: int = 10):
        super().__init__(whole("dim of ExemplarPrior", dim))
        self.exemplars = None if exemplars is None else whole("exemplars", exemplars, least=2)
        self.neighbours = whole("neighbours", neighbours)

    def build(self, name: str, parents: Sequence[Variable]) -> CodesOfExemplars:
        return CodesOfExemplars(self, name, parents)

    def trial_variables(self) -> Mapping[str, Variable]:
        return {"x": Variable("x", torch.Size((3,)), constraints.independent(constraints.real, 1))}

    def describe(self) -> str:
        return f"ExemplarPrior({self.exemplars or 'all rows'}, {self.neighbours} neighbours)"


class CodesOfExemplars(MadeOfGuide):
    """The mixture about the codes of exemplars, which are held in buffers with their places among the fitted rows."""

    declaration: ExemplarPrior
    codes_of_exemplars: Tensor
    places: Tensor

    def __init__(self, declaration: ExemplarPrior, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("codes_of_exemplars", torch.zeros(0, self.dim))
        self.register_buffer("places", torch.zeros(0, dtype=torch.long))
        self.exemplars = _Rows()

    def stand_in(self) -> Conditional:
        return StandardNormal(self.dim).build(self.variable, []).to(self.log_scale)

    def observe(self, observed: Mapping[str, Variable], rows: Callable[[int], Mapping[str, Tensor]]) -> None:
        for name, variable in observed.items():
            self.exemplars.register_buffer(key_of(name), torch.zeros(0, *variable.shape))

    def take_rows(self, rows: Rows) -> None:
        """Keeps the exemplars among the rows that are to be fitted."""
        most = self.declaration.exemplars
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        chosen = order[:most].sort().values
        values = rows.take(chosen, self.log_scale.dtype, self.log_scale.device)
        for key in list(self.exemplars._buffers):
            name = name_of(key)
            if bool(values[name].isnan().any()):
                raise DeclarationError(
                    f"{self.variable}: exemplars are complete rows; {name} has missing entries"
                )
            self.exemplars._buffers[key] = values[name]
        self.places = chosen.to(self.log_scale.device)
        self.codes_of_exemplars = self.codes_of_exemplars.new_zeros(0, self.dim)

    def refresh(self, encoder: Encoder) -> None:
        """Computes the codes of all exemplars."""
        self.check(encoder)
        with torch.no_grad():
            indices = torch.arange(len(self.places), device=self.places.device)
            codes = torch.cat([self._encode(encoder, block) for block in indices.split(1000)])
            if codes.shape == self.codes_of_exemplars.shape:
                self.codes_of_exemplars.copy_(codes)  # in place: a compiled step holds the buffer
            else:
                self.codes_of_exemplars = codes

    def bind(self, encoder: Encoder | None) -> None:
        super().bind(encoder)
        if encoder is not None and len(self.places):
            # A view has codes of its own.
            self._buffers = {
                **self._buffers,
                "codes_of_exemplars": self.codes_of_exemplars.new_zeros(0, self.dim),
            }
            self.refresh(encoder)

    def _encode(self, encoder: Encoder, indices: Tensor) -> Tensor:
        """The means of q(z | x) of some exemplars, (..., K)."""
        rows = {p.name: self.exemplars[key_of(p.name)][indices] for p in encoder.parents}
        return encoder(rows, indices).mean

    def check(self, encoder: Encoder | None) -> None:
        if encoder is None or not encoder.parents or encoder.factor.tables:
            this = "" if encoder is None else f"; this one is {encoder.factor.describe()}"
            raise DeclarationError(
                f"{self.variable}: an ExemplarPrior needs a guide that computes a Gaussian of its latent from observed rows "
                f"alone, as lfm.Gaussian(network=lfm.MLP(200)) in a lfm.Guide does{this}"
            )

    def at(
        self, parents: Sequence[Tensor], index: Tensor, drawn: Mapping[str, Tensor] | None = None
    ) -> Distribution:
        return self(index=index if self.training else None)

    def forward(self, index: Tensor | None = None) -> Distribution:
        """The mixture, without a row's own code where rows of the training are named."""
        encoder = self.required_encoder()
        if not len(self.places):
            raise DeclarationError(
                f"{self.variable}: the exemplars of an ExemplarPrior are rows of the data, which lfm.fit takes: fit the model "
                "first"
            )
        if not len(self.codes_of_exemplars):
            self.refresh(encoder)
        if index is None:
            return ParzenMixture(self.codes_of_exemplars, self.log_scale)
        own = index.unsqueeze(-1) == self.places
        return ParzenMixture(
            self.codes_of_exemplars,
            self.log_scale,
            self.declaration.neighbours,
            own,
            lambda near: self._encode(encoder, near),
        )

    def of(self, encoder: Encoder) -> Distribution:
        return self.forward()

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name in ("codes_of_exemplars", "places"):
            if prefix + name in state_dict:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name]).to(self._buffers[name])
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[arg-type]


class _Rows(nn.Module):
    """Rows of variables as buffers, by key. They have as many rows as the state that is loaded."""

    def __getitem__(self, key: str) -> Tensor:
        return self.get_buffer(key)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name, held in self._buffers.items():
            if held is not None and prefix + name in state_dict:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name]).to(held)
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[arg-type]
