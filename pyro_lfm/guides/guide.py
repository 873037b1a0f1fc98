"""Guides: named factors wired from data to latents, or a Pyro guide written by hand."""

from __future__ import annotations

import itertools
from copy import copy
from typing import Any

import pyro
import torch
from torch.distributions import constraints

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.covariances import Diagonal
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.sources import Learned
from pyro_lfm.distributions.supports import from_reals, is_real, plain
from pyro_lfm.distributions.values import summable
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors import Factor, Factors
from pyro_lfm.families import Gaussian
from pyro_lfm.guides.automatic import automatic_laws, check_shared, is_automatic, joint_guide, prototype
from pyro_lfm.model import as_model
from pyro_lfm.networks import promote
from pyro_lfm.programs import HandWritten, Program, in_order
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.variables import Variable
from pyro_lfm.wiring import with_named


class AnyGuide(Program):
    """What declared and hand-written guides have in common."""

    def latent_descendants(self, name: str) -> set[str] | None:
        """The latents drawn with knowledge of a latent; None where that is not declared."""
        return None

    def latent_parents(self, name: str) -> set[str] | None:
        """The latents that the law of a latent reads; None where that is not declared."""
        return None

    @property
    def needs(self) -> set[str] | None:
        """The observed variables that rows must come with; None where that is not declared: all of them."""
        return None

    def known_marginals(self, batch: Batch) -> dict[str, Any]:
        """The law of each latent given the rows alone, batch shape (B,), of those for which it is closed form."""
        return {}

    def describe(self) -> str:
        """What it is, in words."""
        return f"a Pyro program, {type(self).__name__}"


class PyroGuide(HandWritten, AnyGuide):
    """A Pyro guide written by hand: subclass it and write ``forward(self, batch)``, or wrap a module or function.

    Its sample statements are the model's latents, by the same names and inside ``with batch.plate():``.

    >>> import pyro.distributions as dist
    >>> class Point(PyroGuide):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.net = torch.nn.Linear(5, 2)
    ...     def forward(self, batch):
    ...         with batch.plate():
    ...             pyro.sample("z", dist.Normal(self.net(batch["x"]), 0.1).to_event(1))
    >>> len(list(Point().parameters()))
    2

    One of Pyro's automatic guides, such as ``AutoMultivariateNormal(model)``, serves latents that all rows share; its
    parameters are made when it first meets data. With latents of rows too see ``shared`` of ``Guide``.
    """

    def settle(self, batch: Batch) -> None:
        super().settle(batch)
        check_shared(getattr(self, "program", None))

    def known_marginals(self, batch: Batch) -> dict[str, Any]:
        return automatic_laws(getattr(self, "program", None))

    def describe(self) -> str:
        program = getattr(self, "program", None)
        return (
            f"pyro.infer.autoguide.{type(program).__name__}" if is_automatic(program) else super().describe()
        )


def as_guide(guide: Any) -> AnyGuide:
    """A guide as it is; any other module or function, wrapped."""
    if isinstance(guide, AnyGuide):
        return guide
    if guide is None or isinstance(guide, Program):
        what = "nothing" if guide is None else f"the model {type(guide).__name__}"
        raise DeclarationError(
            f"expected a guide, as in lfm.Guide(model, z=lfm.Gaussian(network=...)); got {what}"
        )
    return PyroGuide(guide)


class Guide(AnyGuide):
    """q(latents | observed): one factor for each latent of a model.

    Each is drawn in the model's order and, unless ``given=`` names other parents (observed or latent), reads
    every observed variable. A family over the reals is carried onto a constrained latent's support by
    ``biject_to``; one over labels, counts and the like must have the latent's own support. A parameter with a prior
    may be left out: it gets a learned Gaussian with a variance for each entry. To give it another factor, name it as
    in ``Guide(model, z=..., **{"x.weight": ...})``; to give all that rows share one joint law, use ``shared``.

    Args:
        model: the model; it is looked into, not kept.
        shared: a class of ``pyro.infer.autoguide`` such as ``AutoMultivariateNormal``, or a function model -> AutoGuide,
            for all latents without a factor that rows share, jointly.
        factors: latent name=factor, the event size left out.

    Raises:
        DeclarationError: a latent without a factor or a factor without a latent, an unknown name in ``given``, a cycle.
        ShapeError: a network whose sizes do not fit.

    >>> from pyro_lfm.families import Gaussian
    >>> from pyro_lfm.model import Model
    >>> from pyro_lfm.networks import MLP
    >>> from pyro_lfm.priors import StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> guide.factors["z"](torch.zeros(3, 5)).mean.shape
    torch.Size([3, 2])
    """

    def __init__(self, model: Any, *, shared: Any = None, **factors: Factor):
        super().__init__()
        if isinstance(shared, Factor):  # of a latent that is called so
            factors, shared = {"shared": shared, **factors}, None
        sites = as_model(model).sites
        # What the joint law serves.
        self.jointly = [n for n, v in sites.latents.items() if shared and not v.per_row and n not in factors]
        for name, variable in sites.latents.items():
            point = as_model(model).point(name)
            if point is not None and name not in (*factors, *self.jointly):
                factors[name] = _of_parameter(variable, point)
        self._check(
            {n: v for n, v in sites.latents.items() if n not in self.jointly}, sites.observed, factors
        )
        self.observed = dict(sites.observed)
        self.latents = {name: sites.latents[name] for name in sites.latents}
        given = {n: () if n in self.jointly else self._given(n, factors[n]) for n in self.latents}
        self.order = in_order({n: tuple(p for p in g if p in self.latents) for n, g in given.items()})
        self.order = [name for name in self.order if name not in self.jointly]
        self.given = given
        self.factors = Factors()
        # Which factors are carried from the reals onto the support of their latent.
        self.carried: dict[str, bool] = {}
        # What each sample statement says of being summed out.
        self._infer: dict[str, Any] = {}
        variables = sites.all
        for name in self.order:
            factor = factors[name].copy()
            self._adopt(name, factor)
            parents = [variables[parent] for parent in given[name]]
            self.factors[name] = factor.build(name, parents)
            if factor.drawn:
                raise DeclarationError(
                    f"{name}: the parameters of a guide are learned; a prior belongs into the model"
                )
            self.carried[name] = self._is_carried(name, parents)
        promote(self)
        if shared is not None:
            self.joint = PyroGuide(joint_guide(shared, as_model(model), self.jointly))
            with isolated(Stream(0)):
                self.joint.settle(prototype(as_model(model)))
        self.to(as_model(model).dtype)

    @staticmethod
    def _check(latents: dict[str, Variable], observed: dict[str, Variable], factors: dict[str, Any]) -> None:
        for name, factor in factors.items():
            if name not in latents:
                what = "is no variable of the model"
                if name in observed:
                    what = "is observed (a factor that names its parents and that no given= names is)"
                raise DeclarationError(
                    f"a guide serves latents: {name} {what}; the latents are {', '.join(latents)}"
                )
            if not isinstance(factor, Factor):
                raise DeclarationError(
                    f"{name} must be a factor such as Gaussian; got {type(factor).__name__}"
                )
        missing = [name for name in latents if name not in factors]
        if missing:
            raise DeclarationError(f"the guide has no factor for the latent {', '.join(missing)}")

    def _given(self, name: str, factor: Factor) -> tuple[str, ...]:
        known = {**self.latents, **self.observed}
        for parent in with_named(factor.given or (), factor):
            if parent not in known or parent == name:
                raise DeclarationError(
                    f"{name}: given={parent!r} must be one of {', '.join(set(known) - {name})}"
                )
        if not self.latents[name].per_row:
            given = with_named(factor.given or (), factor)
            if (factor.reads and not given) or any(
                p in self.observed or self.latents[p].per_row for p in given
            ):
                raise DeclarationError(
                    f"{name} stands outside the plate over rows: its guide cannot read rows: use Learned(), or name "
                    "shared latents in given="
                )
            return given
        default = tuple(self.observed) if factor.reads else ()
        return with_named(default if factor.given is None else factor.given, factor)

    def _adopt(self, name: str, factor: Factor) -> None:
        """Gives a factor its event: that of the latent, or of its unconstrained space."""
        variable, declared = self.latents[name], factor.event_shape
        carry = None if variable.support.is_discrete else from_reals(variable.support)
        if carry is not None:
            inner = torch.Size(carry.inverse_shape(variable.shape))
            variable = Variable(name, inner, constraints.independent(constraints.real, len(inner)))
        factor.adopt(variable)
        if declared is not None and declared != factor.event_shape:
            raise ShapeError(
                f"{name}: the guide's event shape must be {tuple(factor.shape)}; got {tuple(declared)}: leave it out"
            )

    def _is_carried(self, name: str, parents: list[Variable]) -> bool:
        """Whether a factor lives on the reals and its latent does not, from one law on zeros."""
        factor, variable = self.factors[name], self.latents[name]
        with isolated(Stream(0)), torch.no_grad():
            zeros = [torch.zeros(2, *parent.shape) for parent in parents]
            law = factor.at(zeros, torch.zeros(2, dtype=torch.long))
        carried = not variable.support.is_discrete and is_real(law.support) and not is_real(variable.support)
        if carried and from_reals(variable.support) is None:
            raise DeclarationError(
                f"{name}: no map from the reals onto {variable.support} is known: give a guide with that support"
            )
        wanted = factor.shape if carried else variable.shape
        if law.event_shape != wanted:
            raise ShapeError(
                f"{name}: the guide's distribution must have event shape {tuple(wanted)}; got {tuple(law.event_shape)}"
            )
        if variable.support.is_discrete and not law.support.is_discrete:
            raise DeclarationError(
                f"{name} takes discrete values; its guide must be discrete too, such as Categorical or Bernoulli"
            )
        self._infer[name] = summable(law) if variable.summable else {}
        return carried

    @property
    def summable(self) -> bool:
        """Whether some latent may be summed out."""
        return any(self._infer.values())

    @property
    def needs(self) -> set[str]:
        """The observed variables that some factor reads and cannot do without."""
        strict = [self.given[name] for name in self.order if not self.factors[name].reads_masks]
        return set(itertools.chain.from_iterable(strict)) & set(self.observed)

    def known_marginals(self, batch: Batch) -> dict[str, Any]:
        return self.joint.known_marginals(batch) if self.jointly else {}

    def latent_descendants(self, name: str) -> set[str] | None:
        found: set[str] = set()
        for other in self.order:
            if (found | {name}) & set(self.given[other]):
                found.add(other)
        return found

    def latent_parents(self, name: str) -> set[str]:
        return set(self.given[name]) & set(self.latents)

    def law(self, name: str, values: dict[str, torch.Tensor], batch: Batch) -> Any:
        """q(name | its parents) on the support of the latent."""
        factor, given = self.factors[name], self.given[name]
        if factor.reads_masks:
            found = [(values[p], None) if p in self.latents else self._view(p, batch) for p in given]
            law = factor(*[value for value, _ in found], masks=[mask for _, mask in found])
        else:
            parents = [values[p] if p in self.latents else _seen(p, batch) for p in given]
            law = factor.at(parents, batch.index)
        if not self.carried[name]:
            return law
        support = plain(self.latents[name].support)
        return Pushforward(law, [from_reals(support)], onto=support)

    def _view(self, name: str, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The rows of an observed variable and where they were observed: nowhere, if the batch does not hold it."""
        if batch[name] is not None:
            return batch[name], batch.mask(name)
        rows = torch.zeros(batch.size, *self.observed[name].shape, dtype=self.dtype, device=self.device)
        return rows, torch.zeros_like(rows, dtype=torch.bool)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The Pyro guide: one sample statement per latent, those of rows inside the plate over rows."""
        values: dict[str, torch.Tensor] = dict(self.joint(batch)) if self.jointly else {}
        shared = [name for name in self.order if not self.latents[name].per_row]
        for name in shared:
            values[name] = pyro.sample(name, self.law(name, values, batch), infer=copy(self._infer[name]))
        with batch.plate():
            for name in itertools.filterfalse(shared.__contains__, self.order):
                values[name] = pyro.sample(name, self.law(name, values, batch), infer=copy(self._infer[name]))
        return values


def _of_parameter(variable: Variable, point: torch.Tensor) -> Factor:
    """q of a parameter with a prior: a learned Gaussian in its unconstrained space, narrow around its point."""
    carry = from_reals(variable.support)
    mean = point if carry is None else carry.inv(point)
    return Gaussian(mean=Learned(mean), covariance=Diagonal(Learned(0.01)))


def _seen(name: str, batch: Batch) -> torch.Tensor:
    value = batch[name]
    if value is None:
        raise DeclarationError(f"the guide reads {name}, which this batch does not hold")
    return value
