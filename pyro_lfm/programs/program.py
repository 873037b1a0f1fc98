"""The base class of models and guides: an ``nn.Module`` whose ``forward(batch)`` is a Pyro program."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import pyro
import torch
from torch import nn

from pyro_lfm.data.batch import Batch, as_batch
from pyro_lfm.distributions.stable_versions import StableVersions
from pyro_lfm.errors import DeclarationError
from pyro_lfm.probes import probing
from pyro_lfm.programs.first_weights import Held, digest_of, tensors
from pyro_lfm.programs.pyro_modules import LocalParams, adopt
from pyro_lfm.runtime import in_isolation
from pyro_lfm.sources.applied import first_tensor, floating, submodules
from pyro_lfm.sources.per_row import PerRowTable

# A program that the user has written: a module or a function of a batch.
ProgramLike = nn.Module | Callable[[Batch], Any]

_NUMBERS = itertools.count()
# The names of plates. A trace holds plates and variables under their names.
RESERVED = frozenset({"rows", "particles"})


def _forget(name: str) -> None:
    """Removes the parameters of a program from Pyro's global store."""
    store = pyro.get_param_store()
    for key in [key for key in store.keys() if key.startswith((f"{name}$$$", f"{name}."))]:
        del store[key]


class Program(nn.Module):
    """A Pyro program over one batch of rows that owns its parameters.

    Under plain Pyro a call registers the parameters in the global store, under a name that is unique to this instance. So
    two programs never share a parameter by accident. Copies and loaded instances get new names, and the entries are
    removed when the instance is deleted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rename()
        # The digest of its initial weights; None for a program whose weights the library did not draw.
        self._first_weights: str | None = None

    def own_tensors(self) -> Iterator[Held]:
        """Its parameters and buffers, without those that belong to another program."""
        return tensors(self)

    def remember_first_weights(self) -> None:
        self._first_weights = digest_of(self.own_tensors())

    @property
    def is_as_declared(self) -> bool:
        """Whether it still has its initial weights: it was not trained or loaded, and no weight was assigned.

        False for a program written by hand, for which this is not known.
        """
        return self._first_weights is not None and self._first_weights == digest_of(self.own_tensors())

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        # Conversion to another floating type or device does not count as a change, even if it rounds.
        as_declared = self.is_as_declared
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if as_declared:
            self.remember_first_weights()
        return moved

    def _rename(self) -> None:
        self._store_name = f"pyro_lfm_{type(self).__name__}_{next(_NUMBERS)}"
        weakref.finalize(self, _forget, self._store_name)

    def __getstate__(self) -> dict[str, Any]:
        # Pyro's store puts a weak reference on each parameter, which cannot be pickled. The store creates a new one.
        for parameter in self.parameters():
            vars(parameter).pop("unconstrained", None)
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._rename()

    def __call__(
        self,
        batch: Batch | torch.Tensor | Mapping[str, torch.Tensor] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        batch = as_batch(batch)
        if not in_isolation():
            self.settle(batch)
            store = pyro.get_param_store()
            for name, parameter in self.named_parameters():
                if parameter.requires_grad:
                    # A module that two programs share keeps the name under which it was registered first.
                    pyro.param(store.param_name(parameter) or f"{self._store_name}$$${name}", parameter)
        return self._run(batch, *args, **kwargs)

    def _run(self, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(batch, *args, **kwargs)

    @property
    def statements(self) -> list[str] | None:
        """The names of its sample statements, if it is declared and they are all that it does; None if that is not known."""
        return None

    def settle(self, batch: Batch) -> None:
        """Prepares for data: sizes ``PerRow`` tables that have no rows yet."""
        for table in self.tables:
            if not len(table.rows):
                table.resize(batch.total)

    @property
    def tables(self) -> list[PerRowTable]:
        return [module for module in submodules(self) if isinstance(module, PerRowTable)]

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of its parameters and buffers."""
        return next((tensor.dtype for tensor in floating(self)), torch.get_default_dtype())

    @property
    def device(self) -> torch.device:
        first = first_tensor(self)
        return torch.empty(0).device if first is None else first.device


class HandWritten(Program):
    """A program written by hand as a subclass, or a wrapped module or function.

    Attributes:
        written: the arguments of its constructor, by position and by name, from which a saved fit makes it again.
    """

    written: tuple[tuple[Any, ...], dict[str, Any]]
    not_identity = ("written",)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        program = super().__new__(cls)
        # Not by setattr: nn.Module has no fields before its __init__.
        vars(program)["written"] = args, kwargs
        return program

    def __init__(self, program: ProgramLike | None = None):
        super().__init__()
        if program is not None and not callable(program):
            raise DeclarationError(
                f"{type(self).__name__} takes a module or function of a batch; got {type(program).__name__}"
            )
        if isinstance(program, nn.Module):
            self.program = program
        elif program is not None:
            object.__setattr__(self, "program", program)
        # The parameters of the program's pyro.param statements.
        self.local_params = nn.ParameterDict()
        self.passed: set[str] = set()
        self._settled = False

    def _rename(self) -> None:
        super()._rename()
        self._settled = False

    def settle(self, batch: Batch) -> None:
        """Runs the program once, so that its pyro.param statements create their parameters."""
        super().settle(batch)
        if not self._settled:
            self._settled = True
            device = self.device
            with probing(self, device=device), pyro.poutine.block():
                self(batch)

    def _run(self, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        # The innermost handlers, so that no other handler sees the program's own parameter statements.
        with (
            pyro.settings.context(module_local_params=True),
            LocalParams(self),
            adopt(self),
            StableVersions(),
        ):
            return super()._run(batch, *args, **kwargs)

    def forward(self, batch: Batch) -> Any:
        if getattr(self, "program", None) is None:
            raise DeclarationError(f"{type(self).__name__} must define forward(self, batch)")
        return self.program(batch)


def check_names(names: Iterable[str], what: str) -> None:
    for name in names:
        if name in RESERVED or not name.isidentifier() or name.startswith("_"):
            raise DeclarationError(
                f"{what} name {name!r} is reserved or not usable: {' and '.join(sorted(RESERVED))} are names of plates, and "
                "a name is a Python identifier that does not start with an underscore; choose another"
            )
