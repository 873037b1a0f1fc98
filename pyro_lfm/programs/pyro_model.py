"""What every model is, and models that are Pyro programs written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from pyro import poutine
from torch import nn

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import read
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
    """A guide, as far as a model's priors need it."""

    @property
    def encoders(self) -> Mapping[str, Encoder]:
        """The guide's conditional distributions by latent, where they read observed variables alone."""


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

    def draw_first_weights(self, seed: int) -> None:
        """Draws its first weights from a seed, where they are still those of its declaration.

        Values that the declaration says stay, and so does all of a program by hand, whose weights are its author's.
        """

    def with_stand_ins(self) -> AnyModel:
        """This model with stand-ins for the priors that it would need a guide for: to look at shapes and rows of it."""
        return self

    def check_bound(self) -> None:
        """Raises DeclarationError where a prior has to be made of a guide, and there is none."""

    def bind(self, guide: EncoderOwner) -> None:
        """Binds the model itself to the guide of a fit, from now on; see ``bound_to``."""

    def bound_to(self, guide: EncoderOwner) -> AnyModel:
        """This model with the priors that are made of a guide (``VampPrior``) made of this one.

        All parameters are shared: what trains or loads one of the two changes both. The model itself, where it has no such
        priors or is bound to the guide already.

        Args:
            guide: what has ``encoders``, as every guide does.

        Raises:
            DeclarationError: a prior that cannot be made of this guide.
        """
        return self

    def take_rows(self, rows: Rows) -> None:
        """Lets factors take what they keep of the rows that are to be fitted."""

    def refresh(self, guide: EncoderOwner) -> None:
        """Lets priors that are made of a guide compute anew what they keep of it between steps."""

    def sample(
        self, n: int, seed: int | None = None, given: Mapping[str, Data] | None = None
    ) -> dict[str, torch.Tensor]:
        """Rows drawn from the model.

        Args:
            n: how many rows.
            seed: of a stream of its own, so that the process's random state is left alone; by default one drawn
                from torch.
            given: {name: (n, *event)}, values to be set, as arrays or tensors, whose columns are taken by position: of
                covariates (one left out has the value that its declaration says) and of a row's latents, such as
                attributes. What a latent depends on is drawn as ever.

        Returns:
            {name: (n, *event)} for every latent and observed variable.

        Raises:
            DeclarationError, ShapeError, DataError: what given= sets is no such variable, or cannot have such values.
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
        """Values of variables of n rows, through the same boundary as rows to fit, and complete."""
        table = read(given, list(given))
        for name, columns in table.schema.items():
            if columns.names is not None and len(columns.names) > 1:
                raise DataError(
                    f"given= of {name} must be an array or a tensor; got columns with names, whose order a fit knows and a "
                    f"model does not: put them in the order that was fitted, and give {name}.to_numpy()"
                )
        if len(table) != n:
            raise ShapeError(f"given= must have one row for each of the n={n} to be drawn; got {len(table)}")
        expected = {name: (self.sites.all[name].shape, self.sites.all[name].support) for name in given}
        validate(table, expected, self.dtype, self.device, complete=True)
        return table.take(torch.arange(n), self.dtype, self.device)


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
        sites: Sites = self.__dict__["_sites"]
        return sites


# A model, or a program of one's own that ``as_model`` wraps.
ModelLike = AnyModel | nn.Module | Callable[[Batch], Any]


def as_model(model: ModelLike) -> AnyModel:
    """A model as it is; any other module, wrapped."""
    if isinstance(model, AnyModel):
        return model
    if isinstance(model, Program):
        raise DeclarationError(f"expected a model; got the guide {type(model).__name__}")
    return PyroModel(model)
