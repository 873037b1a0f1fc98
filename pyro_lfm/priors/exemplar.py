"""The ExemplarPrior, computed from the guide: a Parzen mixture over the codes of training rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pyro_lfm.distributions.parzen_mixture import ParzenMixture
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Conditional, Encoder, MadeOfGuide, PriorOfGuide, key_of, name_of
from pyro_lfm.factors.conditional import Rows
from pyro_lfm.factors.variables import Variable
from pyro_lfm.priors.standard import StandardNormal
from pyro_lfm.probes import probing
from pyro_lfm.shapes import whole


class ExemplarPrior(PriorOfGuide):
    """p(z) = 1/M Σ_m N(z; μ(x_m), σ² I): a Gaussian around the code of each of M training rows, the exemplars.

    μ is the mean of the guide's q(z | x), and σ is learned. In training the mixture for a row leaves out the row's own code,
    so that the prior does not attract each code to itself, and uses only the codes nearest to z. Nearest codes are searched
    among codes that are computed once per epoch, and encoded again, with gradients, in the step. This mixture is a lower
    bound of the density. After training the mixture has all codes. The exemplars are buffers, saved with the weights. Before
    a fit they are rows drawn from the model.

    Args:
        dim: K.
        exemplars: M, the number of rows, a random subset of the training data, by default all of them.
        neighbours: the number of nearest exemplars in a training step.

    Raises:
        DeclarationError: the prior is used in a model that is bound to no guide, or the guide's distribution of this latent
            reads other variables than observed ones, or has no mean in closed form.

    Use it where new rows should resemble single training rows, and for retrieval of nearest rows.

    KL: Monte Carlo.

    Limits: the fit keeps the exemplars. Its file therefore contains training rows.

    Source: Norouzi, Fleet and Norouzi (2020), "Exemplar VAE: linking generative models, nearest neighbor retrieval, and data
    augmentation", equations 4 to 8.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.ExemplarPrior(2, neighbours=5), x=lfm.Gaussian(4, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> done = lfm.fit(model, torch.randn(50, 4), lfm.SVI(guide, epochs=2), seed=0, progress=False)
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


# The number of exemplars before a fit, if the declaration does not give one.
_BEFORE_A_FIT = 100


class CodesOfExemplars(MadeOfGuide):
    """The mixture around the codes of exemplars. Buffers hold the exemplars and their indices among the training rows."""

    # The encoder that gave the stored codes is set by every epoch.
    not_identity = (*MadeOfGuide.not_identity, "encoded_by", "weights", "checked")
    declaration: ExemplarPrior
    codes_of_exemplars: Tensor
    places: Tensor

    def __init__(self, declaration: ExemplarPrior, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("codes_of_exemplars", torch.zeros(0, self.dim))
        self.register_buffer("places", torch.zeros(0, dtype=torch.long))
        self.exemplars = _Rows()
        # The encoder of the stored codes with a digest of its weights, and the encoder that was checked to have a mean.
        self.encoded_by: Encoder | None = None
        self.weights = b""
        self.checked: Encoder | None = None

    def stand_in(self) -> Conditional:
        return StandardNormal(self.dim).build(self.variable, []).to(self.log_scale)

    def observe(self, observed: Mapping[str, Variable], rows: Callable[[int], Mapping[str, Tensor]]) -> None:
        count = self.declaration.exemplars or _BEFORE_A_FIT
        drawn = rows(count)
        for name in observed:
            self.exemplars.register_buffer(key_of(name), drawn[name].to(self.log_scale.dtype))
        # They are not rows of the training data, so that no row of a batch is one of them.
        self.places = torch.full((count,), -1, device=self.log_scale.device)

    @property
    def takes_weights(self) -> bool:
        return False

    def take_rows(self, rows: Rows) -> None:
        """Stores the exemplars, a subset of the training rows."""
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
        # They have the shape of those that a checkpoint holds.
        self.codes_of_exemplars = self.log_scale.detach().new_zeros(len(chosen), self.dim)
        self.encoded_by = None

    def refresh(self, encoder: Encoder) -> None:
        """Computes the codes of all exemplars, unless the encoder is unchanged."""
        weights = _digest(encoder)
        if self._has_codes_of(encoder) and self.weights == weights:
            return
        with torch.no_grad():
            indices = torch.arange(len(self.places), device=self.places.device)
            codes = torch.cat([self._encode(encoder, block) for block in indices.split(1000)])
        if self._has_codes_of(encoder) and codes.shape == self.codes_of_exemplars.shape:
            self.codes_of_exemplars.copy_(codes)  # in place: a compiled step holds the buffer
        else:
            self.codes_of_exemplars = codes
        self.encoded_by, self.weights = encoder, weights

    def keep_codes(self, encoder: Encoder) -> None:
        self.encoded_by, self.weights = encoder, b""

    def _has_codes_of(self, encoder: Encoder) -> bool:
        return self.encoded_by is not None and self.encoded_by.factor is encoder.factor

    def bind(self, encoder: Encoder | None) -> None:
        super().bind(encoder)
        # A view gets its own buffer of codes.
        self._buffers = dict(self._buffers)

    def _encode(self, encoder: Encoder, indices: Tensor) -> Tensor:
        """The means of q(z | x) of some exemplars, (..., K)."""
        rows = {p.name: self.exemplars[key_of(p.name)][indices] for p in encoder.parents}
        return encoder(rows, indices).mean

    def check(self, encoder: Encoder | None) -> None:
        if encoder is None or not encoder.parents or encoder.factor.tables or not self._has_mean(encoder):
            this = "" if encoder is None else f"; this one is {encoder.factor.describe()}"
            raise DeclarationError(
                f"{self.variable}: an ExemplarPrior needs a guide that computes the distribution of its latent from "
                "observed rows alone and has a mean in closed form, as lfm.Gaussian(network=lfm.MLP(200)) in an lfm.Guide "
                f"has{this}"
            )

    def _has_mean(self, encoder: Encoder) -> bool:
        if self.checked is not None and self.checked.factor is encoder.factor:
            return True
        with probing(encoder.factor):
            rows = {p.name: self.exemplars[key_of(p.name)][:2] for p in encoder.parents}
            distribution = encoder(rows, torch.zeros(2, dtype=torch.long, device=self.places.device))
            estimated = isinstance(distribution, Pushforward) and not distribution.is_reshape
            has_mean = not estimated and bool(distribution.mean.isfinite().all())
        self.checked = encoder if has_mean else None
        return has_mean

    def required_encoder(self) -> Encoder:
        # The encoder was checked when it was bound.
        return self.encoder or super().required_encoder()

    def at(
        self, parents: Sequence[Tensor], index: Tensor, drawn: Mapping[str, Tensor] | None = None
    ) -> Distribution:
        return self(index=index if self.training else None)

    def forward(self, index: Tensor | None = None) -> Distribution:
        """The mixture. For rows of the training data, given by index, it leaves out the row's own code."""
        encoder = self.required_encoder()
        if index is None or not self._has_codes_of(encoder):
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

    def __getstate__(self) -> dict[str, object]:
        # A copy computes the codes of its own guide.
        return {**super().__getstate__(), "encoded_by": None, "checked": None}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        self.encoded_by = None
        for name in ("codes_of_exemplars", "places"):
            if prefix + name in state_dict:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name]).to(self._buffers[name])
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[arg-type]


def _digest(encoder: Encoder) -> bytes:
    """A digest of the weights of an encoder. Fused optimizers change weights without a change of the tensors' versions."""
    digest = hashlib.blake2b(digest_size=16)
    for parameter in encoder.factor.parameters():
        digest.update(parameter.detach().cpu().double().numpy().tobytes())
    return digest.digest()


class _Rows(nn.Module):
    """Rows of variables as buffers, by key. Loading a state sets the number of rows."""

    def __getitem__(self, key: str) -> Tensor:
        return self.get_buffer(key)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name, held in self._buffers.items():
            if held is not None and prefix + name in state_dict:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name]).to(held)
        super()._load_from_state_dict(state_dict, prefix, *rest)  # type: ignore[arg-type]
