"""What a ``Fit`` holds, and how it is copied, pickled and saved; ``Fit`` adds the queries."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import pyro.infer
import torch
from torch import nn

from pyro_lfm.data.digests import RowsSeen
from pyro_lfm.data.readers import FrameConverter, Table
from pyro_lfm.data.schema import Schema
from pyro_lfm.errors import DataError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.data_boundary import Data
from pyro_lfm.inference.named_device import device_of
from pyro_lfm.inference.pickle_check import check_picklable
from pyro_lfm.inference.trained_parts import trained_parts
from pyro_lfm.objectives import ELBO, Objective
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.storage.folder import Content

if TYPE_CHECKING:
    from pyro_lfm.inference.task import Inference

# One epoch of a fit, see ``Fit.history``: numbers, for EM the kind of step, and entries that callbacks add.
Record: TypeAlias = dict[str, Any]


class FitState:
    """The model, the guide, the history and a reference to the rows of a fit; see ``Fit``."""

    # The history holds seconds, which differ from run to run.
    not_identity = ("history",)

    def __init__(self, model: AnyModel, guide: AnyGuide, table: Table, objective: pyro.infer.ELBO | None):
        self._model, self.guide = model, guide
        self.history: list[Record] = []
        self.converged: bool | None = None
        self.ends: list[float] = []
        self.interrupted: str | None = None
        self.keep_rows = False
        self._rows, self._objective = table, objective
        self._seen = RowsSeen(table)
        self.schema: Schema = table.schema
        self.inference: Inference | None = None
        self.seed: int | None = None
        # The section [inference] of its declaration, for a fit that was loaded or pickled.
        self._inference_table: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        guide: nn.Module | None = None,
        data: Data | None = None,
        *,
        objective: pyro.infer.ELBO | None = None,
        history: Sequence[Record] = (),
    ) -> Self:
        """A fit of weights that were trained anywhere: by a loop of one's own, by Lightning, by ``pyro.infer.SVI``.

        No weight is changed. The fit answers as those of ``lfm.fit`` do: posterior, bound, impute, save, ``lfm.evaluate``.

        Args:
            model: the model, a ``Model``, a ``PyroModel`` or any module that is a Pyro model of a batch.
            guide: q(z | x); by default the exact posterior, for a model that has one in closed form.
            data: the rows that were fitted. Without them the schema holds no names of columns, and methods need data=.
            objective: whose bound ``bound`` computes, ``lfm.ELBO()`` by default.
            history: records, one dict per epoch.

        Raises:
            DeclarationError: a guide of another model, or none where the posterior has no closed form.
            DataError, ShapeError: rows that do not fit.

        >>> import torch, pyro_lfm as lfm
        >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
        >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
        >>> rows = torch.randn(50, 3)
        >>> parameters = [*model.parameters(), *guide.parameters()]
        >>> optimizer = torch.optim.Adam(parameters, 1e-2)
        >>> for _ in range(3):
        ...     loss = -lfm.ELBO().bound(model, guide, rows).objective
        ...     gradients = torch.autograd.grad(loss, parameters)
        ...     for parameter, gradient in zip(parameters, gradients):
        ...         parameter.grad = gradient
        ...     optimizer.step()
        >>> fit = lfm.Fit.of(model, guide, rows)
        >>> fit.posterior(rows[:4]).mean.shape, fit.bound().shape
        (torch.Size([4, 2]), torch.Size([50]))
        """
        program, q, table = trained_parts(model, guide, data)
        fit = cls(program, q, table, ELBO() if objective is None else objective)
        fit.history = [dict(record) for record in history]
        return fit

    @property
    def skipped(self) -> int:
        """The number of steps that were skipped, since their loss or a gradient was not finite."""
        return sum(record.get("skipped", 0) for record in self.history)

    @property
    def _table(self) -> Table:
        """The fitted rows, if they have not been changed since."""
        if not self._seen.are_those_of(self._rows):
            raise DataError(
                f"the rows of {', '.join(self._rows.names)} have changed since the fit began, and a fit keeps no copy of "
                "them: give data=, or fit a copy of the rows, such as X.copy()"
            )
        return self._rows

    @property
    def total_weight(self) -> float:
        """The sum of the weights of the fitted rows, by which bounds of the history are divided; N where they had none."""
        return self._rows.total_weight

    @property
    def table(self) -> FrameConverter | None:
        """The columns of ``lfm.heterogeneous`` or ``lfm.tables.anndata``, which convert tables to rows and back; else None.

        Methods take frames, or AnnData, with these columns themselves.
        """
        return self._rows.converter

    @property
    def objective(self) -> pyro.infer.ELBO | None:
        """The objective at the end of its schedules, whose bound ``bound`` computes."""
        return self._objective.at_end() if isinstance(self._objective, Objective) else self._objective

    def to(self, device: str | torch.device) -> Self:
        """Moves model and guide to a device, in place. Later queries compute there, and their results lie there.

        Args:
            device: one of torch, such as "cuda" or "cpu"; "auto" is a GPU where there is one.

        Returns:
            This fit.

        Raises:
            DeclarationError: torch has no such device here.

        >>> import torch, pyro_lfm as lfm
        >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
        >>> fit = lfm.fit(model, torch.randn(40, 2), lfm.EM(), seed=0, progress=False)
        >>> fit.to("cpu").posterior().mean.device
        device(type='cpu')
        """
        place = device_of(device)
        self._model.to(place)
        self.guide.to(place)
        return self

    def without_rows(self) -> Self:
        """The same fit, which refers to its rows no longer: queries need ``data=`` then, and nothing keeps the rows alive.

        >>> import torch, pyro_lfm as lfm
        >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
        >>> rows = torch.randn(40, 2)
        >>> fit = lfm.fit(model, rows, lfm.EM(), seed=0, progress=False).without_rows()
        >>> fit.posterior(rows).mean.shape
        torch.Size([40, 1])
        """
        twin = copy.copy(self)
        twin._rows = self._rows.absent()
        return twin

    def declaration(self) -> dict[str, Any]:
        """The declaration of model, guide and inference as a dict, which ``lfm.declare`` reads."""
        from pyro_lfm.documents.saved_fit import declaration_of

        return declaration_of(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the fit to a folder, which ``lfm.load`` reads in a process without the rows.

        The folder holds the declaration, weights, history and what the rows were (declaration.toml, weights.safetensors,
        history.csv, fit.json), and no pickle. Files of an earlier fit there are replaced, all of them or none.

        Args:
            path: the folder, new or old.

        Raises:
            DeclarationError: the history holds a value that no file can hold. DataError: the folder cannot be written,
                or a weight is NaN.

        >>> import tempfile, torch, pyro_lfm as lfm
        >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
        >>> rows = torch.randn(40, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fit = lfm.fit(model, rows, lfm.EM(), seed=0, progress=False)
        ...     fit.save(folder)
        ...     again = lfm.load(folder)
        >>> torch.equal(again.posterior(rows).mean, fit.posterior(rows).mean)
        True
        """
        from pyro_lfm.documents.saved_fit import save

        save(self, path)

    def files(self) -> dict[str, Content]:
        """The files that ``save`` writes, by name, for a folder that holds others too, such as a checkpoint."""
        from pyro_lfm.documents.saved_fit import files_of

        return files_of(self)

    def __getstate__(self) -> dict[str, Any]:
        from pyro_lfm.documents.saved_fit import inference_section

        state = {
            **self.__dict__,
            "_rows": self._rows if self.keep_rows else self._rows.absent(),
            # Without schedules, which are often functions that pickle cannot find.
            "_objective": self.objective,
            "inference": None,
            "_inference_table": inference_section(self),
        }
        check_picklable(state)
        return state

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        memo[id(self._rows)] = self._rows
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    @property
    def model(self) -> AnyModel:
        """The fitted model; a view of it, bound to this guide, if another fit has bound it to another guide since."""
        return self._model.bound_to(self.guide)
