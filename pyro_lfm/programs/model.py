"""The declared model: named factors that form one Pyro program. ``fit``, guides and objectives take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from pyro.poutine.runtime import InferDict

from pyro_lfm.data.batch import Batch
from pyro_lfm.distributions.discrete_values import sum_out_hint
from pyro_lfm.distributions.interface import support_of
from pyro_lfm.distributions.masking import filled, observed_part
from pyro_lfm.errors import DataError
from pyro_lfm.factors import Conditional, Covariate, Deterministic, Factor, Factors, MadeOfGuide
from pyro_lfm.factors.conditional import Rows, check_is_declared
from pyro_lfm.factors.variables import Variable
from pyro_lfm.factors.views import view
from pyro_lfm.factors.wiring import distribution_of, in_order, reads_of, wire
from pyro_lfm.probes import probing
from pyro_lfm.programs.first_weights import drawing
from pyro_lfm.programs.program import check_names
from pyro_lfm.programs.pyro_model import AnyModel, EncoderOwner, PyroModel, as_model
from pyro_lfm.programs.redrawing import redraw, with_reset_modules
from pyro_lfm.programs.sites import Sites, discover, distribution_on_zeros
from pyro_lfm.programs.statements import row_plate, sample
from pyro_lfm.shapes import check_rows
from pyro_lfm.sources.applied import promote
from pyro_lfm.sources.drawn import Drawn

__all__ = ["AnyModel", "Model", "PyroModel", "as_model"]


class Model(AnyModel):
    """A latent factor model: named factors wired in one direction, p(z) p(x | z).

    The wiring decides which factors are observed. A factor that reads parents without ``given=`` reads every latent and is
    observed. A factor that names its parents and that no other factor reads is observed too. All others are latent. A
    parameter with a prior, as in ``mean=Linear(prior=ARD())``, is also a latent, ``x.weight``, which all rows share.

    Args:
        factors: name=factor. The names rows and particles are reserved. The built distributions are in ``model.factors``.

    Raises:
        DeclarationError: an unknown name in ``given``, a cycle, a reserved name, no latent or no observed factor,
            a latent that no factor reads.
        ShapeError: a network whose sizes do not fit.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
    >>> {name: tuple(value.shape) for name, value in model.sample(3, seed=0).items()}
    {'z': (3, 2), 'x': (3, 5)}
    """

    not_identity = ("converter",)

    def __init__(self, /, **factors: Factor):
        super().__init__()
        check_names(factors, "factor")
        for name, factor in factors.items():
            check_is_declared(name, factor, "a factor such as Gaussian or a Prior")
        self.declared = dict(factors)
        self.converter = next((f.converter for f in factors.values() if f.converter is not None), None)
        given, observed = wire(factors)
        self._observed = frozenset(observed)
        self.order = in_order(given)
        self.factors = Factors()
        # The ``infer`` options of each sample statement, which allow sums over discrete values.
        self._infer: dict[str, InferDict] = {}
        # In the order of declaration.
        self.given = {name: given[name] for name in factors}
        self._build()
        self._wiring = reads_of(self.factors, self.given, self.order)
        promote(self)
        # Priors that are computed from a guide have no distribution yet: stand-ins take their place.
        trial = self.with_stand_ins()
        self._sites = discover(trial, self._observed)
        for name, variable in self._sites.observed.items():
            self._sites.observed[name] = replace(variable, code=self.factors[name].code)
        trial._sites = self._sites
        with probing(trial):
            for name in self.made_of_guide:
                self.factors[name].observe(self._sites.observed, partial(trial.sample, seed=0))
        self.remember_first_weights()

    def _build(self) -> None:
        """Builds the factors, parents first."""
        variables: dict[str, Variable] = {}
        for name in self.order:
            parents = [variables[parent] for parent in self.given[name]]
            factor = self.factors[name] = self.declared[name].build(name, parents)
            distribution = distribution_on_zeros(name, factor, parents)
            self._infer[name] = {} if name in self._observed else sum_out_hint(distribution)
            variables[name] = Variable(
                name,
                factor.shape,
                support_of(distribution),
                summable=bool(self._infer[name]),
                code=factor.code,
            )

    def declaration(self) -> dict[str, Any]:
        """The declaration as a dict, from which ``lfm.declare`` makes the model again.

        >>> import pyro_lfm as lfm
        >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
        >>> model.declaration()["model"]["z"]
        {'type': 'StandardNormal', 'event': 2}
        >>> lfm.declare(model.declaration()).model.declared == model.declared
        True
        """
        from pyro_lfm.documents.declaration import Declaration

        return Declaration(model=self).dict()

    def redrawn(self, seed: int) -> Model:
        """A new model with the same declaration, whose initial weights are drawn from a seed.

        Values in the declaration stay. Modules given as sources are copied and their ``reset_parameters`` is called, where
        they have it. This model does not change.

        >>> import pyro_lfm as lfm
        >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8)))
        >>> one, same = model.redrawn(1), model.redrawn(1)
        >>> all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
        True
        """
        with drawing(seed, "model"):
            model = self._declared_anew(with_reset_modules(self.declared))
        return model.to(dtype=self.dtype, device=self.device)

    def _declared_anew(self, factors: Mapping[str, Factor]) -> Model:
        model = object.__new__(type(self))
        # Not by type(self)(...): the __init__ of a subclass may take other arguments.
        Model.__init__(model, **factors)
        return model

    def draw_first_weights(self, seed: int) -> None:
        """Draws its initial weights from a seed, unless the weights have changed since the declaration.

        The parameters change in place. Values in the declaration, modules given as sources and frozen parameters stay.

        >>> import pyro_lfm as lfm
        >>> one, other = (lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(5, mean=lfm.MLP(8))) for _ in range(2))
        >>> one.draw_first_weights(0), other.draw_first_weights(0)
        (None, None)
        >>> all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
        True
        """
        redraw(self, self.declared, self._declared_anew, seed, "model")

    @property
    def row_latents(self) -> list[str]:
        """The latents with one value per row, in the order of declaration."""
        return [n for n in self.given if n not in self._observed and n not in self.deterministic]

    @property
    def deterministic(self) -> list[str]:
        """The factors that are deterministic functions of their parents, and so no variables."""
        return [name for name in self.given if isinstance(self.factors[name], Deterministic)]

    @property
    def variables(self) -> dict[str, Variable]:
        """Latent and observed variables by name."""
        return self.sites.all

    @property
    def may_be_known(self) -> list[str]:
        return self.row_latents

    @property
    def drawn(self) -> dict[str, Drawn]:
        """The parameters that have priors, by the names of their latents, in the order in which they are drawn."""
        return {f"{n}.{p}": drawn for n in self.order for p, drawn in self.factors[n].drawn.items()}

    @property
    def sites(self) -> Sites:
        return self._sites

    @property
    def covariates(self) -> list[str]:
        return [name for name in self.given if isinstance(self.declared[name], Covariate)]

    @property
    def made_of_guide(self) -> list[str]:
        """The latents whose priors are computed from the guide."""
        return list(self.priors_of_guide)

    @property
    def priors_of_guide(self) -> dict[str, MadeOfGuide]:
        """The priors that are computed from the guide, by latent."""
        return {
            name: self.factors[name] for name in self.order if isinstance(self.factors[name], MadeOfGuide)
        }

    def _with(self, factors: Mapping[str, Conditional]) -> Model:
        """A view of this model with some factors replaced; itself if there are none."""
        if not factors:
            return self
        every = view(self.factors)
        for name, factor in factors.items():
            every[name] = factor
        return view(self, factors=every)

    def bound_to(self, guide: EncoderOwner) -> Model:
        return self._with(self._priors_of(guide)) if self.made_of_guide else self

    def _priors_of(self, guide: EncoderOwner) -> dict[str, MadeOfGuide]:
        """Views, bound to a guide, of the priors that are computed from a guide and not bound to this one."""
        priors: dict[str, MadeOfGuide] = {}
        for name in self.made_of_guide:
            prior, encoder = self.factors[name], guide.encoders.get(name)
            # A guide with per-row parameters provides no encoder: the prior stays bound to the previous guide.
            if (encoder is None or encoder.factor.tables) and prior.encoder is not None:
                continue
            prior.check(encoder)
            if not prior.is_bound(encoder):
                priors[name] = view(prior)
                priors[name].bind(encoder)
        return priors

    def check_bound(self) -> None:
        for name in self.made_of_guide:
            self.factors[name].required_encoder()

    def bind(self, guide: EncoderOwner) -> None:
        for name in self._priors_of(guide) if self.made_of_guide else ():
            self.factors[name].bind(guide.encoders[name])

    def take_rows(self, rows: Rows) -> None:
        for factor in self.factors.values():
            factor.take_rows(rows)

    def refresh(self, guide: EncoderOwner) -> None:
        for name in self.made_of_guide:
            self.factors[name].refresh(guide.encoders[name])

    def keep_codes(self, guide: EncoderOwner) -> None:
        for name in self.made_of_guide:
            self.factors[name].keep_codes(guide.encoders[name])

    def with_stand_ins(self) -> Model:
        return self._with({name: self.factors[name].stand_in() for name in self.made_of_guide})

    def point(self, name: str) -> torch.Tensor | None:
        return self.drawn[name].value if name in self.drawn else None

    @property
    def wiring(self) -> dict[str, tuple[str, ...]]:
        """The parents of every variable, in the order in which variables are drawn, parameters with priors first."""
        return self._wiring

    def latent_parents(self, name: str) -> set[str] | None:
        return set(self.wiring[name]) - self._observed

    @property
    def statements(self) -> list[str] | None:
        if type(self).forward is not Model.forward:
            return None
        return [*self.drawn, *(name for name in self.order if name not in self.deterministic)]

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The Pyro model: parameters with priors first, then one sample statement per factor in the plate over rows."""
        values: dict[str, torch.Tensor] = {}
        for name in self.order:
            drawn: dict[str, torch.Tensor] = {}
            for parameter, part in self.factors[name].drawn.items():
                full = f"{name}.{parameter}"
                drawn[parameter] = values[full] = sample(full, part.prior(drawn))
        covariates, deterministic = self.covariates, self.deterministic
        with row_plate(batch):
            for name in self.order:
                if name in deterministic:
                    continue
                distribution = distribution_of(self.factors, self.given, name, values, batch.index)
                value = None
                if name in self._observed:
                    value, mask = batch[name], batch.mask(name)
                    if name in covariates:
                        self._check_known(name, value, mask, batch)
                    if value is not None:
                        check_rows(name, value, self.factors[name].shape)
                        value = filled(value, mask, support_of(distribution))
                    distribution = observed_part(distribution, mask, name)
                values[name] = sample(name, distribution, value, self._infer[name])
        return values

    def _check_known(
        self, name: str, value: torch.Tensor | None, mask: torch.Tensor | None, batch: Batch
    ) -> None:
        """Checks that a covariate is complete, and given with the data."""
        if mask is not None:
            raise DataError(f"{name} is a covariate, which cannot have missing entries: fill them in")
        modelled = self._observed - set(self.covariates)
        if value is None and any(batch[other] is not None for other in modelled):
            raise DataError(
                f"{name} is a covariate of this model: give it with {', '.join(sorted(modelled))}"
            )

    def __repr__(self) -> str:
        return f"Model({', '.join(f'{name}={factor!r}' for name, factor in self.declared.items())})"
