"""Models: named factors wired into one Pyro program, or a Pyro program written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any

import pyro
import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import read
from pyro_lfm.data.validation import validate
from pyro_lfm.distributions.masking import filled, observed_part
from pyro_lfm.distributions.parameter_priors import Drawn
from pyro_lfm.distributions.values import is_law, summable
from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.factors import Covariate, Factor, Factors, undrawn
from pyro_lfm.networks import promote
from pyro_lfm.programs import HandWritten, Program, check_names, in_order
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.shapes import check_rows
from pyro_lfm.sites import Sites, discover
from pyro_lfm.variables import Variable
from pyro_lfm.wiring import law_of, reads_of, wire


class AnyModel(Program):
    """What declared and hand-written models have in common: they can be looked into and sampled from."""

    @property
    def sites(self) -> Sites:
        raise NotImplementedError

    @property
    def latents(self) -> dict[str, Variable]:
        """The latent variables by name, in the order in which the model draws them."""
        return self.sites.latents

    @property
    def observed(self) -> dict[str, Variable]:
        """The observed variables by name."""
        return self.sites.observed

    def latent_parents(self, name: str) -> set[str] | None:
        """The latents that the prior of a latent reads; None where that is not declared."""
        return None

    def point(self, name: str) -> torch.Tensor | None:
        """The value of a parameter with a prior, where guides start; None for all other latents."""
        return None

    @property
    def covariates(self) -> list[str]:
        """The observed variables that are not modelled."""
        return []

    @property
    def may_be_known(self) -> list[str]:
        """The latents whose values data may hold, in some rows or all."""
        return []

    def sample(
        self, n: int, seed: int | None = None, given: Mapping[str, torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """Rows drawn from the model.

        Args:
            n: how many rows.
            seed: of a stream of its own, so that the process's random state is left alone; by default one drawn
                from torch.
            given: {name: (n, *event)}, values to be set: of covariates (one left out has the value that its declaration
                says) and of a row's latents, such as attributes. What a latent depends on is drawn as ever.

        Returns:
            {name: (n, *event)} for every latent and observed variable.

        Raises:
            DeclarationError, ShapeError, DataError: what given= sets is no such variable, or cannot have such values.
        """
        latents = [name for name, latent in self.latents.items() if latent.per_row]
        for name in given or ():
            if name not in (*self.covariates, *latents):
                known = ", ".join([*self.covariates, *latents])
                raise DeclarationError(f"given= names covariates and latents of a row: {known}; got {name!r}")
        values = {
            name: torch.as_tensor(v, dtype=self.dtype).to(self.device) for name, v in (given or {}).items()
        }
        batch = Batch(values, size=n)
        if len(batch) != n:
            raise ShapeError(f"given= must have one row for each of the n={n} to be drawn; got {len(batch)}")
        if values:
            # By the same boundary as rows to fit, and complete.
            expected = {name: (self.sites.all[name].shape, self.sites.all[name].support) for name in values}
            for name, (shape, _) in expected.items():
                check_rows(name, values[name], shape)
            validate(read(values, list(values)), expected, self.dtype, self.device, complete=True)
        batch.index = batch.index.to(self.device)
        with isolated(Stream(seed, self.device), self.device), torch.no_grad():
            program = poutine.condition(self, data={n: v for n, v in values.items() if n in latents})
            trace: Any = poutine.trace(program).get_trace(batch)
        return {name: trace.nodes[name]["value"] for name in self.sites.all}


class PyroModel(HandWritten, AnyModel):
    """A Pyro program over one batch of rows: subclass it and write ``forward(self, batch)``, or wrap one.

    Sample statements of row variables stand inside ``with batch.plate():``. ``batch["x"]`` is None when the
    model generates; the names that the program asks its batch for are its observed ones.

    Args:
        program: an ``nn.Module``, a ``PyroModule`` or a function of a batch to be wrapped; none when subclassed.

    >>> import pyro, pyro.distributions as dist
    >>> class Scale(PyroModel):
    ...     def forward(self, batch):
    ...         with batch.plate():
    ...             r = pyro.sample("r", dist.Gamma(2.0, 1.0))
    ...             pyro.sample("x", dist.Normal(torch.zeros(3), r.unsqueeze(-1)).to_event(1), obs=batch["x"])
    >>> list(Scale().latents), Scale().sample(4, seed=0)["x"].shape
    (['r'], torch.Size([4, 3]))
    """

    @property
    def sites(self) -> Sites:
        if self.__dict__.get("_sites") is None:
            try:
                self.__dict__["_sites"] = discover(self)
            except AttributeError as error:  # nn.Module would take it for a missing property
                raise DeclarationError(f"{type(self).__name__} cannot generate two rows: {error}") from error
        return self.__dict__["_sites"]


def as_model(model: Any) -> AnyModel:
    """A model as it is; any other module, wrapped."""
    if isinstance(model, AnyModel):
        return model
    if isinstance(model, Program):
        raise DeclarationError(f"expected a model; got the guide {type(model).__name__}")
    return PyroModel(model)


class Model(AnyModel):
    """A latent factor model: named factors wired in one direction, p(z) p(x | z).

    Which are observed follows from the wiring: a factor that reads parents without ``given=`` reads every
    latent and is observed; so is one that names its parents and that nothing reads. All others are latent. So is a
    parameter that is given a prior where it stands, as in ``mean=Linear(prior=ARD())``: ``x.weight``, drawn before
    the rows and shared by them.

    Args:
        factors: name=factor, but for the names rows and particles. Each is copied: the model's own are in ``model.factors``.

    Raises:
        DeclarationError: an unknown name in ``given``, a cycle, a reserved name, no latent or no observed factor,
            a latent that nothing reads.
        ShapeError: a network whose sizes do not fit.

    >>> from pyro_lfm.families import Gaussian
    >>> from pyro_lfm.networks import MLP
    >>> from pyro_lfm.priors import StandardNormal
    >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
    >>> {name: tuple(value.shape) for name, value in model.sample(3, seed=0).items()}
    {'z': (3, 2), 'x': (3, 5)}
    """

    def __init__(self, /, **factors: Factor):
        super().__init__()
        check_names(factors, "factor")
        for name, factor in factors.items():
            if not isinstance(factor, Factor):
                kind = type(factor).__name__
                raise DeclarationError(f"{name} must be a factor such as Gaussian or a Prior; got {kind}")
            if factor.times_prior:
                raise DeclarationError(
                    f"{name}: {type(factor).__name__} is for guides: it has no law of its own"
                )
        # In a dict, which nn.Module does not look into: what was declared, to declare it once more.
        self._declaration = dict(factors)
        given, observed = wire(factors)
        self._observed = frozenset(observed)
        self.order = in_order(given)
        self.factors = Factors()
        variables: dict[str, Variable] = {}
        # What each sample statement says of being summed out.
        self._infer: dict[str, Any] = {}
        for name in self.order:
            factor = factors[name].copy().build(name, [variables[parent] for parent in given[name]])
            self.factors[name] = factor
            variables[name] = self._variable(name, factor, [variables[parent] for parent in given[name]])
        # In the order of declaration, which is how people read it.
        self.given = {name: given[name] for name in factors}
        promote(self)
        self._sites = discover(self, self._observed)
        for name, variable in self._sites.observed.items():
            self._sites.observed[name] = replace(variable, code=self.factors[name].code)

    def redrawn(self, seed: int) -> Model:
        """The same declaration once more, with weights that start anew: random ones drawn with the seed.

        What the declaration gives a value starts at that value; modules that were given as sources are copied and
        ``reset_parameters`` called, where they have it. This model is left as it is.

        >>> from pyro_lfm.families import Gaussian
        >>> from pyro_lfm.networks import MLP
        >>> from pyro_lfm.priors import StandardNormal
        >>> model = Model(z=StandardNormal(2), x=Gaussian(5, mean=MLP(8)))
        >>> one, same = model.redrawn(1), model.redrawn(1)
        >>> all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
        True
        """
        with Stream(seed):
            made = type(self)(**undrawn(self._declaration))
        return made.to(dtype=self.dtype, device=self.device)

    @property
    def row_latents(self) -> list[str]:
        """The latents that each row has for itself, in the order of declaration."""
        return [n for n in self.given if n not in self._observed and not self.factors[n].computed]

    @property
    def may_be_known(self) -> list[str]:
        return self.row_latents

    @property
    def drawn(self) -> dict[str, Drawn]:
        """The parameters that have priors, by the names of their latents, in the order in which they are drawn."""
        return {f"{n}.{p}": drawn for n in self.order for p, drawn in self.factors[n].drawn.items()}

    def _variable(self, name: str, factor: Factor, parents: list[Variable]) -> Variable:
        """The support of a factor, and whether its law has the event it declares, from a trial."""
        with isolated(Stream(0)), torch.no_grad():
            zeros = [torch.zeros(2, *parent.shape) for parent in parents]
            try:
                law = factor.at(zeros, torch.zeros(2, dtype=torch.long))
            except DeclarationError as error:
                raise type(error)(f"{name}: {error}") from None
        if not is_law(law):
            raise DeclarationError(
                f"{name}: a factor must return a distribution of pyro.distributions; got {type(law).__module__}."
                f"{type(law).__name__}"
            )
        if law.event_shape != factor.shape:
            raise ShapeError(
                f"{name} declares event shape {tuple(factor.shape)} but its distribution has "
                f"{tuple(law.event_shape)}: use .to_event(1) on independent entries"
            )
        rows = (2,) if parents or factor.tables else ()
        if tuple(law.batch_shape) not in ((), rows):
            raise ShapeError(
                f"{name}: the law of {'2 rows' if rows else 'a factor without parents'} must have batch shape {rows}; "
                f"got {tuple(law.batch_shape)}"
            )
        self._infer[name] = {} if name in self._observed else summable(law)
        return Variable(name, factor.shape, law.support, summable=bool(self._infer[name]), code=factor.code)

    @property
    def sites(self) -> Sites:
        return self._sites

    @property
    def covariates(self) -> list[str]:
        return [name for name in self.given if isinstance(self.factors[name], Covariate)]

    @property
    def made_of_guide(self) -> list[str]:
        """The latents whose priors are made of the guide's law."""
        return [name for name in self.order if self.factors[name].reads_guide]

    def point(self, name: str) -> torch.Tensor | None:
        return self.drawn[name].value if name in self.drawn else None

    @property
    def wiring(self) -> dict[str, tuple[str, ...]]:
        """What the law of every variable reads, in the order in which they are drawn, parameters with priors first."""
        return reads_of(self.factors, self.given, self.order)

    def latent_parents(self, name: str) -> set[str] | None:
        return set(self.wiring[name]) - self._observed

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The Pyro model: parameters that have priors, then one sample statement per factor in the plate over rows."""
        values: dict[str, torch.Tensor] = {}
        for name in self.order:
            drawn: dict[str, torch.Tensor] = {}
            for parameter, part in self.factors[name].drawn.items():
                full = f"{name}.{parameter}"
                drawn[parameter] = values[full] = pyro.sample(full, part.prior(drawn))
        covariates = self.covariates
        with batch.plate():
            for name in self.order:
                if self.factors[name].computed:
                    continue
                law = law_of(self.factors, self.given, name, values, batch.index)
                value = None
                if name in self._observed:
                    value, mask = batch[name], batch.mask(name)
                    if name in covariates:
                        self._check_known(name, value, mask, batch)
                    if value is not None:
                        check_rows(name, value, self.factors[name].shape)
                        value = filled(value, mask, law.support)
                    law = observed_part(law, mask, name)
                values[name] = pyro.sample(name, law, obs=value, infer=copy(self._infer[name]))
        return values

    def _check_known(
        self, name: str, value: torch.Tensor | None, mask: torch.Tensor | None, batch: Batch
    ) -> None:
        """A covariate is known of every row that comes with data."""
        if mask is not None:
            raise DataError(f"{name} is a covariate, which cannot have missing entries: fill them in")
        modelled = self._observed - set(self.covariates)
        if value is None and any(batch[other] is not None for other in modelled):
            raise DataError(
                f"{name} is a covariate of this model: give it with {', '.join(sorted(modelled))}"
            )
