"""The declared guide: named factors from data to latents. ``SVI`` and objectives take it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from copy import copy, deepcopy
from functools import partial
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.runtime import InferDict
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_lfm.data.batch import Batch
from pyro_lfm.declarations import importable, written
from pyro_lfm.distributions.discrete_values import sum_out_hint
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.scaled_distribution import ScaledDistribution
from pyro_lfm.distributions.supports import from_reals, is_real, plain
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors import Conditional, Encoder, Factor, Factors, MadeOfGuide, Seen
from pyro_lfm.factors.variables import Variable
from pyro_lfm.factors.views import view
from pyro_lfm.factors.wiring import in_order
from pyro_lfm.guides.any_guide import AnyGuide, PyroGuide
from pyro_lfm.guides.automatic import JointGuide, joint_guide, prototype
from pyro_lfm.guides.counted import Counted
from pyro_lfm.guides.declared import check_factors, for_latent, parents_of
from pyro_lfm.guides.defaults import at_known_values, of_parameter
from pyro_lfm.guides.support import check_event, check_support, check_variables
from pyro_lfm.probes import probing
from pyro_lfm.programs.first_weights import Held, drawing
from pyro_lfm.programs.model import AnyModel, as_model
from pyro_lfm.programs.pyro_model import ModelLike
from pyro_lfm.programs.redrawing import redraw, with_reset_modules
from pyro_lfm.programs.statements import row_plate, sample
from pyro_lfm.runtime import isolated
from pyro_lfm.sources.applied import promote


class Guide(AnyGuide):
    """q(latents | observed): one factor for each latent of a model.

    A factor reads every observed variable unless ``given=`` names other parents, observed or latent. A family over the
    reals is transformed onto a constrained support by ``biject_to``. A discrete family must have the support of the latent.
    A parameter with a prior may be left out. Its factor is then a learned Gaussian with diagonal covariance. For another
    factor, name it as in ``Guide(model, z=..., **{"x.weight": ...})``. For one joint distribution of all latents that rows
    share, use ``shared``.

    Data may give values of a per-row latent, such as labels, in some rows or all. There q is a point mass.

    Args:
        model: the model, which is not changed. If its program masks or scales latents, q has the same weights of rows. In a
            run they are those of the model of the run.
        shared: a class of ``pyro.infer.autoguide`` such as ``AutoMultivariateNormal``, or a function model -> AutoGuide.
            It is the joint distribution of all latents that rows share and that have no factor.
        factors: latent name=factor, without the event size.

    Raises:
        DeclarationError: a latent without a factor or a factor without a latent, an unknown name in ``given``, a cycle.
        ShapeError: a network whose sizes do not fit.

    Use it for every declared model, and for Pyro programs of your own: it finds their latents by itself.

    Limits: the bound lies below log p(x) by the KL from q to the posterior. See ``lfm.evaluate.gaps`` for its size.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> guide.factors["z"](torch.zeros(3, 5)).mean.shape
    torch.Size([3, 2])
    """

    def __init__(self, model: ModelLike, /, *, shared: JointGuide | Factor | None = None, **factors: Factor):
        super().__init__()
        if isinstance(shared, Factor):  # a latent is called "shared"
            factors, shared = {"shared": shared, **factors}, None
        model = as_model(model)
        sites = model.sites
        self.declared, self.shared = dict(factors), shared
        # The latents of the joint distribution ``shared``.
        self.jointly = [n for n, v in sites.latents.items() if shared and not v.per_row and n not in factors]
        for name in sites.latents:
            point = model.point(name)
            if point is not None and name not in (*factors, *self.jointly):
                factors[name] = of_parameter(sites.latents[name], point)
        apart = {n: v for n, v in sites.latents.items() if n not in self.jointly}
        check_factors(apart, sites.observed, factors, has_joint=shared is not None)
        self.observed, self.latents = dict(sites.observed), dict(sites.latents)
        self._counted = Counted.of(model)
        # The parents that the networks of each factor read.
        self.given = {n: () if n in self.jointly else parents_of(n, factors[n], sites) for n in self.latents}
        self.factors = Factors()
        # Whether the distribution of a factor is transformed from the reals onto the support of its latent.
        self.carried: dict[str, bool] = {}
        # The ``infer`` options of each sample statement, which allow sums over discrete values.
        self._infer: dict[str, InferDict] = {}
        self._build(model, factors)
        if shared is not None:
            self._build_joint(model, shared)
        self.check_serves(model)
        self.remember_first_weights()

    def _build(self, model: AnyModel, factors: Mapping[str, Factor]) -> None:
        variables = model.sites.all
        built: dict[str, Conditional] = {}
        own = {name: self.given[name] for name in self.latents if name not in self.jointly}
        for name in in_order({n: tuple(p for p in given if p in own) for n, given in own.items()}):
            factor = for_latent(name, factors[name], self.latents[name])
            parents = [variables[parent] for parent in self.given[name]]
            built[name] = factor.build_in_guide(name, parents, model)
            if built[name].drawn:
                raise DeclarationError(
                    f"{name}: the parameters of a guide are learned; a prior belongs into the model"
                )
        # The parents of each latent: those that networks read, and those of a prior that is a part of the factor.
        self.wiring = {n: built[n].parents if n in built else () for n in self.latents}
        order = in_order({n: tuple(p for p in read if p in self.latents) for n, read in self.wiring.items()})
        self.order = [name for name in order if name in built]
        self.factors.update({name: built[name] for name in self.order})
        own_parts = nn.ModuleList([factor.own_part() for factor in built.values()])
        promote(own_parts)
        own_parts.to(model.dtype)
        for name in self.order:
            self.carried[name] = self._is_carried(name, [variables[p] for p in self.wiring[name]])

    def _build_joint(self, model: AnyModel, shared: JointGuide) -> None:
        self.joint = PyroGuide(joint_guide(shared, model, self.jointly))
        with isolated():
            self.joint.settle(prototype(model))
        self.joint.to(model.dtype)

    def _is_carried(self, name: str, parents: list[Variable]) -> bool:
        """Whether the distribution of a factor, computed on zeros, is over the reals while its latent is constrained."""
        factor, variable = self.factors[name], self.latents[name]
        with probing(factor):
            zeros = [
                torch.zeros(*(2,) * parent.per_row, *parent.shape, dtype=self.dtype) for parent in parents
            ]
            distribution = factor.at(zeros, torch.zeros(2, dtype=torch.long))
        carried = (
            not variable.support.is_discrete
            and is_real(distribution.support)
            and not is_real(variable.support)
        )
        if carried and from_reals(variable.support) is None:
            raise DeclarationError(
                f"{name}: no map from the reals onto {variable.support} is known: give a guide with that support"
            )
        check_event(name, distribution, factor.shape if carried else variable.shape)
        check_support(name, type(factor.declaration).__name__, distribution, variable, carried)
        self._infer[name] = sum_out_hint(distribution) if variable.summable else {}
        return carried

    @property
    def made_of_priors(self) -> list[str]:
        return [name for name, factor in self.factors.items() if factor.own_part() is not factor]

    @property
    def encoders(self) -> Mapping[str, Encoder]:
        return {
            name: Encoder(self.factors[name], tuple(self.observed[parent] for parent in self.wiring[name]))
            for name in self.order
            if set(self.wiring[name]) <= self.observed.keys()
        }

    def bound_to(self, model: ModelLike) -> Guide:
        factors = {name: factor.bound_to(model) for name, factor in self.factors.items()}
        others = {name: factor for name, factor in factors.items() if factor is not self.factors[name]}
        counted = self._counted.in_model(model)
        if not others and counted is self._counted:
            return self
        held = view(self.factors)
        for name, factor in others.items():
            held[name] = factor
        bound = view(self, factors=held)
        bound._counted = counted
        return bound

    def check_serves(self, model: ModelLike) -> None:
        check_variables(self.latents, [self.observed[name] for name in sorted(self.needs)], model)
        priors: Mapping[str, MadeOfGuide] = getattr(model, "priors_of_guide", {})
        for name, prior in priors.items():
            if read := [parent for parent in self.given[name] if parent in self.latents]:
                raise DeclarationError(
                    f"the prior of {name} is made of its guide, which must read observed variables alone; it reads "
                    f"{', '.join(read)}"
                )
            prior.check(self.encoders.get(name))

    def redrawn(self, model: ModelLike, seed: int) -> Guide:
        """A new guide of a model with the same declaration and initial weights from a seed (see ``Model.redrawn``)."""
        with drawing(seed, "guide"):
            guide = self._declared_anew(model, with_reset_modules(self.declared))
        return guide.to(device=self.device)

    def _declared_anew(self, model: ModelLike, factors: Mapping[str, Factor]) -> Guide:
        guide = object.__new__(type(self))
        jointly: dict[str, Any] = {} if "shared" in factors else {"shared": copy(self.shared)}
        Guide.__init__(guide, model, **jointly, **factors)
        return guide

    def draw_first_weights(self, model: ModelLike, seed: int) -> None:
        redraw(self, self.declared, partial(self._declared_anew, model), seed, "guide")

    def own_tensors(self) -> Iterator[Held]:
        borrowed = {
            id(module)
            for factor in self.factors.values()
            for module in set(factor.modules()) - {factor, *factor.own_part().modules()}
        }
        return (held for held in super().own_tensors() if id(held[1]) not in borrowed)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "shared": importable(self.shared)}

    def __deepcopy__(self, memo: dict[int, Any]) -> Guide:
        guide = memo[id(self)] = type(self).__new__(type(self))
        guide.__setstate__(deepcopy(super().__getstate__(), memo))
        return guide

    def __repr__(self) -> str:
        joint = {} if self.shared is None else {"shared": self.shared}
        words = [f"{name}={written(part)}" for name, part in {**joint, **self.declared}.items()]
        return f"Guide({', '.join(words)})"

    @property
    def summable(self) -> bool:
        """Whether a latent can be summed out."""
        return any(self._infer.values())

    @property
    def needs(self) -> set[str]:
        """The observed variables that some factor requires."""
        required = (set(self.given[n]) - self.factors[n].optional_parents for n in self.order)
        return set(itertools.chain.from_iterable(required)) & set(self.observed)

    def known_marginals(self, batch: Batch) -> dict[str, Distribution]:
        return self.joint.known_marginals(batch) if self.jointly else {}

    def latent_descendants(self, name: str) -> set[str] | None:
        descendants: set[str] = set()
        for other in self.order:
            if (descendants | {name}) & set(self.wiring[other]):
                descendants.add(other)
        return descendants

    def latent_parents(self, name: str) -> set[str]:
        return set(self.wiring[name]) & set(self.latents)

    def distribution(self, name: str, values: Mapping[str, Tensor], batch: Batch) -> Distribution:
        """q(name | its parents) on the support of the latent."""
        factor = self.factors[name]
        seen = {
            parent: Seen(values[parent])
            if parent in self.latents
            else self._seen(parent, batch, parent in factor.optional_parents)
            for parent in self.wiring[name]
        }
        distribution = factor.of_rows(seen, batch.index)
        if self.carried[name]:
            support = plain(self.latents[name].support)
            distribution = Pushforward(distribution, [from_reals(support)], onto=support)
        return at_known_values(distribution, name, batch) if name in batch.names else distribution

    def _seen(self, name: str, batch: Batch, may_be_absent: bool) -> Seen:
        """The rows of an observed variable with their mask, which is all False if the batch does not hold the variable.

        Missing entries are NaN if networks can recognise them, else 0.
        """
        if batch[name] is not None:
            value = batch.with_gaps(name) if self.observed[name].shows_gaps else batch[name]
            return Seen(value, batch.mask(name))
        if not may_be_absent:
            raise DeclarationError(f"the guide reads {name}, which this batch does not hold")
        rows = torch.zeros(batch.size, *self.observed[name].shape, dtype=self.dtype, device=self.device)
        return Seen(rows, torch.zeros_like(rows, dtype=torch.bool))

    @property
    def statements(self) -> list[str] | None:
        as_declared = type(self).forward is Guide.forward and not self.jointly and not self._counted.names
        return list(self.order) if as_declared else None

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The Pyro guide: one sample statement per latent. Those of per-row latents are inside the plate over rows."""
        values: dict[str, torch.Tensor] = dict(self.joint(batch)) if self.jointly else {}
        counted = self._counted.of_batch(batch)
        shared = [name for name in self.order if not self.latents[name].per_row]
        encoders = self.encoders
        for name in shared:
            values[name] = self._sample(name, values, batch, counted.get(name), None)
        with row_plate(batch):
            for name in itertools.filterfalse(shared.__contains__, self.order):
                values[name] = self._sample(name, values, batch, counted.get(name), encoders.get(name))
        return values

    def _sample(
        self,
        name: str,
        values: dict[str, Tensor],
        batch: Batch,
        counting: ScaledDistribution | None,
        encoder: Encoder | None,
    ) -> Tensor:
        """The sample statement of a latent, with the weights of rows in the model.

        It carries the encoder. A model that replays the trace computes its ``VampPrior`` or the like from it.
        """
        distribution = self.distribution(name, values, batch)
        infer: Any = {**self._infer[name], **({} if encoder is None else {"encoder": encoder})}
        if counting is None:
            return sample(name, distribution, infer=infer)
        distribution = counting.with_distribution(distribution, name).distribution
        mask: Any = True if counting.mask is None else counting.mask
        with poutine.mask(mask=mask), poutine.scale(scale=counting.scale):
            return sample(name, distribution, infer=infer)
