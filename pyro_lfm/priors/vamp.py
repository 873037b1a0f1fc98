"""The VampPrior, computed from the guide: the average of q(z | u) over a few learned rows u."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from pyro_lfm.distributions.draw_mixture import DrawMixture
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors import Conditional, Encoder, MadeOfGuide, PriorOfGuide, key_of, name_of
from pyro_lfm.factors.variables import Variable
from pyro_lfm.priors.standard import StandardNormal
from pyro_lfm.shapes import whole


class VampPrior(PriorOfGuide):
    """p(z) = 1/C Σ_c q(z | u_c): the guide's own distribution, averaged over C learned pseudo-inputs u_c.

    The prior that maximises the ELBO is the aggregate posterior, 1/N Σₙ q(z | xₙ). This is an approximation at a lower cost.
    Its KL is estimated by Monte Carlo. The pseudo-inputs are parameters of the model and exist from its declaration on. In a
    fit, an objective or plain ``pyro.infer.SVI`` the guide is that of the run. ``fit.model`` is bound to its guide, and
    ``model.bound_to(guide)`` is the model with any guide. Declaring a guide binds nothing.

    Args:
        dim: K.
        components: C. More components give a better prior and slower steps, as every step encodes them all.
        pseudo_inputs: the start of u: C rows of the model's only observed variable, ``(C, *event)``, or {name: rows} of
            those that the guide reads. By default they are drawn from the untrained model with N(0, I) for p(z). Rows of the
            data are a better start. Entries stay in the range of the variable. Labels, which have no gradient, stay fixed.

    Raises:
        DeclarationError: the prior is used in a model that is bound to no guide, or the guide's distribution of this latent
            cannot be computed for pseudo-inputs: it is ``PerRow``, reads latents, nothing, or a variable without
            pseudo-inputs, or is written by hand.
        ShapeError: pseudo-inputs of another shape than the data.

    Use it where draws from a standard normal decode badly because the aggregate posterior is no Gaussian.

    Limits: it needs a guide with networks of the observed variables. It can overfit few rows: compare held-out bounds.

    Source: Tomczak and Welling (2018), "VAE with a VampPrior", equation 9.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.VampPrior(2, components=5), x=lfm.Bernoulli(8, logits=lfm.MLP(16)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(16)))
    >>> prior = model.bound_to(guide).factors["z"]()
    >>> prior.distribution.batch_shape, prior.log_prob(torch.zeros(3, 2)).shape
    (torch.Size([5]), torch.Size([3]))
    """

    def __init__(
        self,
        dim: int,
        components: int | None = None,
        pseudo_inputs: ArrayLike | Tensor | Mapping[str, ArrayLike | Tensor] | None = None,
    ):
        super().__init__(whole("dim of VampPrior", dim))
        self.pseudo_inputs = pseudo_inputs
        rows = pseudo_inputs.values() if isinstance(pseudo_inputs, Mapping) else [pseudo_inputs]
        lengths = {len(value) for value in rows if value is not None}  # type: ignore[arg-type]
        if len(lengths) > 1:
            raise ShapeError(f"pseudo_inputs must have as many rows under every name; got {sorted(lengths)}")
        length = lengths.pop() if lengths else None
        self.components = whole("components", (length or 500) if components is None else components)
        if length not in (None, self.components):
            raise ShapeError(
                f"pseudo_inputs must have {self.components} rows, one per component; got {length}"
            )

    def build(self, name: str, parents: Sequence[Variable]) -> PosteriorsOfPseudoInputs:
        return PosteriorsOfPseudoInputs(self, name, parents)

    def trial_variables(self) -> Mapping[str, Variable]:
        starts = self.pseudo_inputs if isinstance(self.pseudo_inputs, Mapping) else {"x": self.pseudo_inputs}
        shapes = {n: (3,) if s is None else torch.as_tensor(s).shape[1:] for n, s in starts.items()}
        return {
            n: Variable(n, torch.Size(s), constraints.independent(constraints.real, len(s)))
            for n, s in shapes.items()
        }

    def describe(self) -> str:
        return f"VampPrior({self.components} pseudo-inputs)"


class PosteriorsOfPseudoInputs(MadeOfGuide):
    """The mixture of the guide's distributions given the pseudo-inputs, which are its parameters."""

    declaration: VampPrior
    loc: Tensor

    def __init__(self, declaration: VampPrior, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        # Holds device and floating type until the pseudo-inputs exist.
        self.register_buffer("loc", torch.zeros(self.dim))
        self.pseudo_inputs = nn.ParameterDict()

    def stand_in(self) -> Conditional:
        return StandardNormal(self.dim).build(self.variable, []).to(self.loc)

    def observe(self, observed: Mapping[str, Variable], rows: Callable[[int], Mapping[str, Tensor]]) -> None:
        for name, start in self._first_rows(observed, rows).items():
            start = torch.as_tensor(start, dtype=self.loc.dtype, device=self.loc.device)
            expected = (self.declaration.components, *observed[name].shape)
            if start.shape != expected:
                raise ShapeError(f"pseudo_inputs of {name} must be {expected}; got {tuple(start.shape)}")
            if not bool(start.isfinite().all()):
                raise DeclarationError(
                    f"pseudo_inputs of {name} must be finite: take rows without missing entries"
                )
            trained = observed[name].categories is None
            self.pseudo_inputs[key_of(name)] = nn.Parameter(start.clone(), requires_grad=trained)

    def _first_rows(
        self, observed: Mapping[str, Variable], rows: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, ArrayLike | Tensor]:
        """The rows ``(C, *event)`` of each variable from which its pseudo-inputs start."""
        starts = self.declaration.pseudo_inputs
        if starts is None:
            drawn = rows(self.declaration.components)
            return {name: drawn[name] for name in observed}
        names = ", ".join(observed)
        if not isinstance(starts, Mapping):
            if len(observed) > 1:
                raise DeclarationError(
                    f"the model observes {names}: give pseudo_inputs as {{name: rows}}, of those that the guide reads"
                )
            return dict.fromkeys(observed, starts)
        if unknown := [name for name in starts if name not in observed]:
            raise DeclarationError(
                f"pseudo_inputs must have rows of {names}, which the model observes; got {', '.join(map(str, unknown))}"
            )
        return starts

    def check(self, encoder: Encoder | None) -> None:
        if encoder is None or not encoder.parents or encoder.factor.tables:
            this = "" if encoder is None else f"; this one is {encoder.factor.describe()}"
            raise DeclarationError(
                f"{self.variable}: a VampPrior needs a guide that computes the distribution of its latent from observed "
                f"rows alone, as lfm.Gaussian(network=lfm.MLP(200)) in an lfm.Guide does{this}"
            )
        if absent := [p.name for p in encoder.parents if key_of(p.name) not in self.pseudo_inputs]:
            raise DeclarationError(
                f"{self.variable}: pseudo_inputs must have rows of {', '.join(absent)}, which the guide reads; they are "
                f"of {', '.join(map(name_of, self.pseudo_inputs))}"
            )

    def of(self, encoder: Encoder) -> Distribution:
        rows = {p.name: _within(self.pseudo_inputs[key_of(p.name)], p) for p in encoder.parents}
        return DrawMixture(encoder(rows, torch.arange(self.declaration.components, device=self.loc.device)))


def _within(value: Tensor, variable: Variable) -> Tensor:
    """Numbers clamped to the range of a variable. For a discrete variable they may lie between two values."""
    support = entrywise(variable.support)
    if isinstance(support, type(constraints.boolean)):
        return value.clamp(0.0, 1.0)
    low, high = (getattr(support, f"{side}_bound", None) for side in ("lower", "upper"))
    if variable.categories is not None:
        return value
    # Two calls, because a bound may be a number or a tensor.
    value = value if low is None else value.clamp_min(low)
    return value if high is None else value.clamp_max(high)
