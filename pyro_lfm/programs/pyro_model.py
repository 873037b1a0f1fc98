"""The base class of all models, and models that are Pyro programs written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from pyro import poutine
from torch import nn

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import FrameConverter, read
from pyro_lfm.data.validation import validate
from pyro_lfm.errors import DataError, DeclarationError, ShapeError
from pyro_lfm.factors import Encoder
from pyro_lfm.factors.conditional import Rows
from pyro_lfm.factors.variables import Variable
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.program import HandWritten, Program
from pyro_lfm.programs.sites import Sites, discover
from pyro_lfm.runtime import Stream, isolated

if TYPE_CHECKING:
    from pyro_lfm.data.openers import Data


class EncoderOwner(Protocol):
    """The part of the interface of a guide that priors of a model use."""

    @property
    def encoders(self) -> Mapping[str, Encoder]:
        """The guide's conditional distributions by latent, of latents whose distribution reads observed variables only."""


class AnyModel(Program):
    """The base class of declared and hand-written models: their variables, and sampling."""

    # What reads tables of the user, such as AnnData, as the rows of the model's variables.
    converter: FrameConverter | None = None

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
        """The latents that the prior of a latent reads; None if unknown, as for a hand-written program."""
        return None

    def point(self, name: str) -> torch.Tensor | None:
        """The value of a parameter with a prior at which guides start; None for every other latent."""
        return None

    @property
    def covariates(self) -> list[str]:
        """The observed variables that are not modelled."""
        return []

    @property
    def may_be_known(self) -> list[str]:
        """The latents for which data may give values, in some rows or all."""
        return []

    def draw_first_weights(self, seed: int) -> None:
        """Draws its initial weights from a seed, unless the weights have changed since the declaration.

        Values in the declaration stay. A hand-written program keeps all its weights.
        """

    def with_stand_ins(self) -> AnyModel:
        """This model with stand-ins for priors that are computed from a guide, so that it runs without one."""
        return self

    def check_bound(self) -> None:
        """Raises DeclarationError if a prior is computed from a guide and the model is bound to none."""

    def bind(self, guide: EncoderOwner) -> None:
        """Binds this model, in place, to the guide of a fit; see ``bound_to``."""

    def bound_to(self, guide: EncoderOwner) -> AnyModel:
        """A view of this model whose priors, such as a ``VampPrior``, are computed from the given guide.

        The view shares all parameters with this model. The model itself is returned if it has no such prior or is already
        bound to the guide.

        Args:
            guide: any guide.

        Raises:
            DeclarationError: a prior cannot be computed from this guide.
        """
        return self

    def take_rows(self, rows: Rows) -> None:
        """Passes the rows of a fit to the factors, before training."""

    def refresh(self, guide: EncoderOwner) -> None:
        """Updates values of the guide that priors store between steps."""

    def keep_codes(self, guide: EncoderOwner) -> None:
        """Takes loaded values as those that priors have stored of the guide, for a fit that goes on inside an epoch."""

    def sample(
        self, n: int, seed: int | None = None, given: Mapping[str, Data] | None = None
    ) -> dict[str, torch.Tensor]:
        """Rows drawn from the model.

        Args:
            n: how many rows.
            seed: the seed of a separate random stream, so that the global random state does not change; by default it is
                drawn from torch.
            given: {name: ``(n, *event)``}, values of covariates and of per-row latents such as attributes, as arrays or
                tensors. Columns are taken by position. A covariate left out has the value of its declaration. The
                parents of a given latent are still drawn from their priors.

        Returns:
            {name: ``(n, *event)``} for every latent and observed variable.

        Raises:
            DeclarationError, ShapeError, DataError: given= names another variable, or has values that it cannot have.
        """
        self.check_bound()
        latents = [name for name, latent in self.latents.items() if latent.per_row]
        for name in given or ():
            if name not in (*self.covariates, *latents):
                known = ", ".join([*self.covariates, *latents])
                raise DeclarationError(f"given= names covariates and latents of a row: {known}; got {name!r}")
        values = self._set_values(given, n) if given else {}
        batch = Batch(values, size=n)
        batch.index = batch.index.to(self.device)
        with evaluating(self), isolated(Stream(seed, self.device), self.device), torch.no_grad():
            program = poutine.condition(self, data={n: v for n, v in values.items() if n in latents})
            trace: Any = poutine.trace(program).get_trace(batch)
        return {name: trace.nodes[name]["value"] for name in self.sites.all}

    def _set_values(self, given: Mapping[str, Data], n: int) -> dict[str, torch.Tensor]:
        """Values for n rows, read and checked like rows to fit. Missing values are errors."""
        table = read(given, list(given))
        for name, columns in table.schema.items():
            if columns.names is not None and len(columns.names) > 1:
                raise DataError(
                    f"given= of {name} must be an array or a tensor; got columns with names, and a model does not "
                    f"know their order: put them in the order that was fitted, and give {name}.to_numpy()"
                )
        if len(table) != n:
            raise ShapeError(f"given= must have one row for each of the n={n} to be drawn; got {len(table)}")
        expected = {name: (self.sites.all[name].shape, self.sites.all[name].support) for name in given}
        validate(table, expected, self.dtype, self.device, complete=True)
        return table.take(torch.arange(n), self.dtype, self.device)


class PyroModel(HandWritten, AnyModel):
    """A Pyro program over one batch of rows: subclass it and write ``forward(self, batch)``, or wrap one.

    Sample statements of per-row variables stand inside ``with batch.plate():``. ``batch["x"]`` is None when the model
    generates rows. The names that the program reads from its batch are the observed variables.

    Args:
        program: an ``nn.Module``, ``PyroModule`` or function of a batch to wrap. A subclass passes none.

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
        sites: Sites = self.__dict__["_sites"]
        return sites


# A model, or a module or function that ``as_model`` wraps.
ModelLike = AnyModel | nn.Module | Callable[[Batch], Any]


def as_model(model: ModelLike) -> AnyModel:
    """A model unchanged; a module or function wrapped in ``PyroModel``."""
    if isinstance(model, AnyModel):
        return model
    if isinstance(model, Program):
        raise DeclarationError(f"expected a model; got the guide {type(model).__name__}")
    return PyroModel(model)
