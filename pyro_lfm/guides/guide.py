"""Declared guides: named factors wired from data to latents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from copy import copy, deepcopy
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.discrete_values import sum_out_hint
from pyro_lfm.distributions.pushforward import Pushforward
from pyro_lfm.distributions.scaled_distribution import ScaledDistribution
from pyro_lfm.distributions.supports import from_reals, is_real, plain
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.factors import Encoder, Factor, Factors
from pyro_lfm.factors.pickling import findable
from pyro_lfm.factors.variables import Variable
from pyro_lfm.factors.wiring import in_order
from pyro_lfm.guides.any_guide import AnyGuide, PyroGuide
from pyro_lfm.guides.automatic import joint_guide, prototype
from pyro_lfm.guides.declared import check_factors, give_event, parents_of
from pyro_lfm.guides.defaults import of_parameter, pinned
from pyro_lfm.guides.message import Priors
from pyro_lfm.guides.support import check_support, check_variables
from pyro_lfm.probes import probing
from pyro_lfm.programs.first_weights import Held, drawing
from pyro_lfm.programs.model import AnyModel, as_model
from pyro_lfm.programs.program import view
from pyro_lfm.programs.redrawing import redraw, undrawn
from pyro_lfm.programs.sites import countings
from pyro_lfm.runtime import isolated
from pyro_lfm.sources.networks import promote


class Guide(AnyGuide):
    """q(latents | observed): one factor for each latent of a model.

    Each is drawn in the model's order and, unless ``given=`` names other parents (observed or latent), reads
    every observed variable. A family over the reals is carried onto a constrained latent's support by
    ``biject_to``; one over labels, counts and the like must have the latent's own support. A parameter with a prior
    may be left out: it gets a learned Gaussian with a variance for each entry. To give it another factor, name it as
    in ``Guide(model, z=..., **{"x.weight": ...})``; to give all that rows share one joint distribution, use ``shared``.

    Data may hold values of a row's latent too, in some rows or all, such as labels: q is then a point there.

    Args:
        model: the model; it is looked into. Where its program masks or scales latents, those rows of q count that count
            in the model, which the program says of each batch: under ``fit`` and objectives that of the model of the run.
        shared: a class of ``pyro.infer.autoguide`` such as ``AutoMultivariateNormal``, or a function model -> AutoGuide,
            for all latents without a factor that rows share, jointly.
        factors: latent name=factor, the event size left out.

    Raises:
        DeclarationError: a latent without a factor or a factor without a latent, an unknown name in ``given``, a cycle.
        ShapeError: a network whose sizes do not fit.

    >>> from pyro_lfm.families import Gaussian
    >>> from pyro_lfm.programs.model import Model
    >>> from pyro_lfm.sources.networks import MLP
    >>> from pyro_lfm.priors import StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> guide = Guide(model, z=Gaussian(network=MLP(8)))
    >>> guide.factors["z"](torch.zeros(3, 5)).mean.shape
    torch.Size([3, 2])
    """

    def __init__(self, model: Any, /, *, shared: Any = None, **factors: Factor):
        super().__init__()
        if isinstance(shared, Factor):  # of a latent that is called so
            factors, shared = {"shared": shared, **factors}, None
        # In a tuple, which nn.Module does not look into: what was declared, to declare it once more.
        self._declaration = (shared, dict(factors))
        sites = as_model(model).sites
        # What the joint distribution serves.
        self.jointly = [n for n, v in sites.latents.items() if shared and not v.per_row and n not in factors]
        for name, variable in sites.latents.items():
            point = as_model(model).point(name)
            if point is not None and name not in (*factors, *self.jointly):
                factors[name] = of_parameter(variable, point)
        check_factors(
            {n: v for n, v in sites.latents.items() if n not in self.jointly}, sites.observed, factors
        )
        self.observed = dict(sites.observed)
        # Of a model that masks or scales latents its program, which says what; in a tuple, where nn.Module does not look.
        self._counted = _counted(as_model(model), None)
        self.latents = {name: sites.latents[name] for name in sites.latents}
        given = {n: () if n in self.jointly else parents_of(n, factors[n], sites) for n in self.latents}
        self.given = given
        self.priors = Priors(
            as_model(model), [name for name, factor in factors.items() if factor.times_prior]
        )
        # What the distribution of each latent reads: its factor's parents, and those of the prior that a message multiplies.
        self.wiring = {n: tuple(dict.fromkeys((*g, *self.priors.reads.get(n, ())))) for n, g in given.items()}
        order = in_order({n: tuple(p for p in g if p in self.latents) for n, g in self.wiring.items()})
        self.order = [name for name in order if name not in self.jointly]
        self.factors = Factors()
        # Which factors are carried from the reals onto the support of their latent.
        self.carried: dict[str, bool] = {}
        # What each sample statement says of being summed out.
        self._infer: dict[str, Any] = {}
        variables = sites.all
        for name in self.order:
            factor = factors[name].copy()
            give_event(name, factor, self.latents[name])
            parents = [variables[parent] for parent in given[name]]
            self.factors[name] = factor.build(name, parents)
            if factor.drawn:
                raise DeclarationError(
                    f"{name}: the parameters of a guide are learned; a prior belongs into the model"
                )
            self.carried[name] = self._is_carried(name, parents)
        promote(self.factors)
        self.factors.to(as_model(model).dtype)
        if shared is not None:
            self.joint = PyroGuide(joint_guide(shared, as_model(model), self.jointly))
            with isolated():
                self.joint.settle(prototype(as_model(model)))
            self.joint.to(as_model(model).dtype)
        for name in self.priors:
            self.priors.check(name, {p: variables[p] for p in self.wiring[name]}, self.dtype)
        self.check_serves(as_model(model))
        self.remember_first_weights()

    def _is_carried(self, name: str, parents: list[Variable]) -> bool:
        """Whether a factor lives on the reals and its latent does not, from one distribution on zeros."""
        factor, variable = self.factors[name], self.latents[name]
        with probing(factor):
            zeros = [torch.zeros(2, *parent.shape) for parent in parents]
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
        wanted = factor.shape if carried else variable.shape
        if distribution.event_shape != wanted:
            raise ShapeError(
                f"{name}: the guide's distribution must have event shape {tuple(wanted)}; got {tuple(distribution.event_shape)}"
            )
        check_support(name, type(factor).__name__, distribution, variable, carried)
        self._infer[name] = sum_out_hint(distribution) if variable.summable else {}
        return carried

    @property
    def encoders(self) -> Mapping[str, Encoder]:
        return {
            name: Encoder(self.factors[name], tuple(self.observed[parent] for parent in self.given[name]))
            for name in self.order
            if set(self.given[name]) <= self.observed.keys()
        }

    def bound_to(self, model: Any) -> Guide:
        priors, counted = self.priors.with_priors_of(model), _counted(model, self._counted)
        if priors is self.priors and counted is self._counted:
            return self
        bound = view(self, priors=priors)
        bound._counted = counted
        return bound

    def check_serves(self, model: Any) -> None:
        check_variables(self.latents, [self.observed[name] for name in sorted(self.needs)], model)
        for name in getattr(model, "made_of_guide", ()):
            if read := [parent for parent in self.given[name] if parent in self.latents]:
                raise DeclarationError(
                    f"the prior of {name} is made of its guide, which must read observed variables alone; it reads "
                    f"{', '.join(read)}"
                )
            model.factors[name].check(self.encoders.get(name))

    def redrawn(self, model: Any, seed: int) -> Guide:
        """The same declaration once more, for a model, with weights that start anew (see ``Model.redrawn``)."""
        with drawing(seed, "guide"):
            made = self._declared_anew(model, undrawn(self._declaration[1]))
        return made.to(device=self.device)

    def _declared_anew(self, model: Any, factors: Mapping[str, Factor]) -> Guide:
        made = object.__new__(type(self))
        # A latent may be called "shared".
        jointly = {} if "shared" in factors else {"shared": copy(self._declaration[0])}
        Guide.__init__(made, model, **jointly, **factors)
        return made

    def draw_first_weights(self, model: Any, seed: int) -> None:
        redraw(self, self._declaration[1], partial(self._declared_anew, model), seed, "guide")

    def own_tensors(self) -> Iterator[Held]:
        # Priors that messages multiply are the model's.
        return (held for held in super().own_tensors() if not held[0].startswith("priors."))

    def __getstate__(self) -> dict[str, Any]:
        shared, factors = self._declaration
        return {**super().__getstate__(), "_declaration": (findable(shared), factors)}

    def __deepcopy__(self, memo: dict[int, Any]) -> Guide:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__setstate__(deepcopy(super().__getstate__(), memo))
        return made

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
            if (found | {name}) & set(self.wiring[other]):
                found.add(other)
        return found

    def latent_parents(self, name: str) -> set[str]:
        return set(self.wiring[name]) & set(self.latents)

    def distribution(self, name: str, values: dict[str, torch.Tensor], batch: Batch) -> Any:
        """q(name | its parents) on the support of the latent."""
        factor = self.factors[name]
        seen = {
            parent: (values[parent], None)
            if parent in self.latents
            else self._seen(parent, batch, factor.reads_masks)
            for parent in self.wiring[name]
        }
        read = [seen[parent] for parent in self.given[name]]
        if factor.reads_masks:
            distribution = factor(*[value for value, _ in read], masks=[mask for _, mask in read])
        else:
            distribution = factor.at([value for value, _ in read], batch.index)
        if name in self.priors:
            of_prior = {parent: value for parent, (value, _) in seen.items()}
            observed = [parent for parent in self.given[name] if parent in self.observed]
            distribution = self.priors.times(name, distribution, of_prior, batch, observed)
        elif self.carried[name]:
            support = plain(self.latents[name].support)
            distribution = Pushforward(distribution, [from_reals(support)], onto=support)
        return pinned(distribution, name, batch) if name in batch.names else distribution

    def _seen(self, name: str, batch: Batch, may_be_absent: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The rows of an observed variable and where they were observed: nowhere, if the batch does not hold it.

        Missing entries are gaps where networks are shown them, else 0.
        """
        if batch[name] is not None:
            value = batch.with_gaps(name) if self.observed[name].shows_gaps else batch[name]
            return value, batch.mask(name)
        if not may_be_absent:
            raise DeclarationError(f"the guide reads {name}, which this batch does not hold")
        rows = torch.zeros(batch.size, *self.observed[name].shape, dtype=self.dtype, device=self.device)
        return rows, torch.zeros_like(rows, dtype=torch.bool)

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The Pyro guide: one sample statement per latent, those of rows inside the plate over rows."""
        values: dict[str, torch.Tensor] = dict(self.joint(batch)) if self.jointly else {}
        counted = countings(self._counted[0], batch, self._counted[1]) if self._counted else {}
        shared = [name for name in self.order if not self.latents[name].per_row]
        encoders = self.encoders
        for name in shared:
            values[name] = self._sample(name, values, batch, counted.get(name), None)
        with batch.plate():
            for name in itertools.filterfalse(shared.__contains__, self.order):
                values[name] = self._sample(name, values, batch, counted.get(name), encoders.get(name))
        return values

    def _sample(
        self,
        name: str,
        values: dict[str, torch.Tensor],
        batch: Batch,
        counting: ScaledDistribution | None,
        encoder: Encoder | None,
    ) -> torch.Tensor:
        """The sample statement of a latent, of which the rows count that count in the model.

        A model that replays the run makes its prior of the encoder, where it is made of one.
        """
        distribution = self.distribution(name, values, batch)
        infer: Any = {**self._infer[name], **({} if encoder is None else {"encoder": encoder})}
        if counting is None:
            return pyro.sample(name, distribution, infer=infer)
        distribution = counting.with_distribution(distribution, name).distribution
        mask: Any = True if counting.mask is None else counting.mask
        with poutine.mask(mask=mask), poutine.scale(scale=counting.scale):
            return pyro.sample(name, distribution, infer=infer)


def _counted(model: Any, before: tuple[AnyModel, tuple[str, ...]] | None) -> Any:
    """A model with the latents that its program masks or scales, None where there are none; as before for the same model.

    A plain function says nothing of itself: what was known before holds.
    """
    if not isinstance(model, AnyModel) or (before is not None and before[0] is model):
        return before
    names = tuple(sorted(model.sites.counted))
    return (model, names) if names else None
