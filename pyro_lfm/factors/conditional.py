"""The conditional distribution p(value | parents) as a module. Factors build it; models and guides call it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from pyro_lfm import shapes
from pyro_lfm.declarations import Part
from pyro_lfm.distributions.stable_versions import stable_version
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.named_modules import Factors
from pyro_lfm.factors.variables import Variable
from pyro_lfm.sources.applied import submodules
from pyro_lfm.sources.drawn import Drawn
from pyro_lfm.sources.floors import Floor
from pyro_lfm.sources.per_row import PerRowTable

if TYPE_CHECKING:
    from pyro_lfm.factors.factor import Factor

# A model that a guide is declared with or bound to: a module or a function whose call is a Pyro program.
PyroProgram = nn.Module | Callable[..., Any]


class Seen(NamedTuple):
    """The values of a parent for the rows of a batch. ``mask`` (B, *event) is True where observed; None means everywhere."""

    value: Tensor
    mask: Tensor | None = None


class Rows(Protocol):
    """The rows of a fit, as a factor reads them."""

    def __len__(self) -> int: ...

    def take(
        self, index: Tensor, dtype: torch.dtype | None, device: torch.device | str
    ) -> Mapping[str, Tensor]:
        """The rows at the given indices, by variable. Missing entries are NaN."""


class Conditional(nn.Module):
    """p(value | parents), built from a factor: ``conditional(*parents) -> Distribution``.

    Args:
        declaration: the factor.
        name: the name of its variable.
        parents: the variables whose values ``forward`` takes, in this order.
    """

    # A model and a guide keep the declarations of their factors.
    not_identity: tuple[str, ...] = ("declaration",)

    def __init__(self, declaration: Factor, name: str, parents: Sequence[Variable]):
        super().__init__()
        self.declaration, self.variable = declaration, name
        self._parents = {parent.name: parent for parent in parents}
        apart = set(declaration.named.values()) - set(declaration.given or ())
        # The parents that networks read.
        self._read = {name: parent for name, parent in self._parents.items() if name not in apart}
        self.codes = Factors()
        self.codes.update({n: parent.code for n, parent in self._read.items() if parent.code is not None})
        # How networks read values of this variable.
        self.code = declaration.code
        # The modules of its sources, by parameter.
        self.parts = nn.ModuleDict()
        # The paths of the submodules whose parameters have priors, by parameter. Draws replace their values.
        self._places: dict[str, str] = {}

    def complete(self) -> None:
        """Records the parameters that have priors. Subclasses call it at the end of ``__init__``."""
        for path, module in self.named_modules():
            if isinstance(module, Drawn):
                if module.name in self._places:
                    raise DeclarationError(
                        f"{self.variable} has two parameters {module.name} with priors: give one of them a prior"
                    )
                self._places[module.name] = path

    def __call__(self, *parents: Tensor, **options: Any) -> Distribution:
        # A user's forward may return a Pyro distribution of which the library has a numerically stable version.
        return stable_version(super().__call__(*parents, **options))

    def at(
        self, parents: Sequence[Tensor], index: Tensor, drawn: Mapping[str, Tensor] | None = None
    ) -> Distribution:
        """The distribution given the parents, the indices of the rows and, by name, draws of its parameters."""
        options = {"index": index} if self.takes_index else {}
        if not drawn:
            return self(*parents, **options)
        values = {f"{self._places[name]}.value": value for name, value in drawn.items()}
        return functional_call(self, values, tuple(parents), options)  # type: ignore[no-any-return]

    def of_rows(self, seen: Mapping[str, Seen], index: Tensor) -> Distribution:
        """The distribution in a guide, given the observed values of each parent. Guides that read masks override it."""
        return self.at([seen[name].value for name in self.parents], index)

    @property
    def optional_parents(self) -> frozenset[str]:
        """The observed parents that a batch may lack altogether."""
        return frozenset()

    def bound_to(self, model: PyroProgram) -> Self:
        """The same distribution for another model: parts that belong to a model are replaced by those of that model."""
        return self

    def own_part(self) -> Conditional:
        """The part whose parameters belong to the guide and not to the model; by default the whole."""
        return self

    def check_parents(self, values: Sequence[Tensor]) -> None:
        """Raises ShapeError where values do not fit the parents."""
        name = type(self.declaration).__name__
        shapes.check_parents(name, values, {n: p.shape for n, p in self._parents.items()})

    def context(self, values: Sequence[Tensor]) -> Tensor | None:
        """The parents' values as networks read them, concatenated."""
        self.check_parents(values)
        by_name = dict(zip(self._parents, values, strict=True))
        codes = [parent.encode(by_name[name]) for name, parent in self._read.items()]
        if len(codes) > 1:
            return shapes.join(codes, [p.code_shape for p in self._read.values()])
        return codes[0] if codes else None

    @property
    def event_shape(self) -> torch.Size | None:
        return self.declaration.event_shape

    @property
    def shape(self) -> torch.Size:
        """The shape of one value."""
        return self.declaration.shape

    @property
    def dim(self) -> int:
        """The number of entries of one value."""
        return self.declaration.dim

    @property
    def parents(self) -> tuple[str, ...]:
        """The names of the variables whose values it takes, in this order."""
        return tuple(self._parents)

    @property
    def drawn(self) -> dict[str, Drawn]:
        """The parameters that have priors, by name, in the order in which they are drawn."""
        if not self._places:
            return {}
        parameters = {name: self.get_submodule(path) for name, path in self._places.items()}
        return dict(sorted(parameters.items(), key=lambda item: len(item[1].reads)))  # type: ignore[arg-type]

    @property
    def tables(self) -> list[PerRowTable]:
        """The ``PerRow`` tables among its parts."""
        return [part for part in submodules(self.parts) if isinstance(part, PerRowTable)]

    @property
    def takes_index(self) -> bool:
        """Whether ``forward`` takes the indices of the rows."""
        return bool(self.tables)

    @property
    def floors(self) -> Mapping[str, Floor]:
        """The declared floors of its scales, by parameter."""
        return self.declaration.floors

    def floor(self, parameter: str) -> Tensor:
        """The floor of a parameter at present, ``floor_shape`` of its family."""
        floor = self._buffers[f"{parameter}_floor"]
        assert floor is not None
        return floor

    @property
    def in_units(self) -> tuple[str, ...]:
        """The parameters that are measured in the units of the data, so that their priors may be too."""
        return self.declaration.in_units

    def measure(self, units: Tensor, means: Tensor) -> None:
        """Sets default floors and units of priors from the spread and the mean of each column, both of the event shape."""

    @property
    def takes_weights(self) -> bool:
        """Whether the rows of a fit may have weights."""
        return True

    def take_rows(self, rows: Rows) -> None:
        """Stores the rows of a fit that it needs later. An ``ExemplarPrior`` stores its exemplars."""

    def floored(self, parents: Sequence[Tensor], index: Tensor) -> dict[str, Tensor]:
        """The values, given the parents, of the scales that have floors, by parameter."""
        return {}

    def describe(self) -> str:
        """The declaration in a formula."""
        return self.declaration.describe()

    def __repr__(self) -> str:
        return f"{self.variable} ~ {self.declaration!r}"


class Deterministic(Conditional):
    """A deterministic function of the parents. It has no sample statement; its children read ``value``."""

    def value(self, distribution: Distribution) -> Tensor:
        """The value, taken from the point mass that ``forward`` returns."""
        return distribution.value  # type: ignore[attr-defined, no-any-return]


def check_is_declared(name: str, part: Factor | Conditional, wanted: str) -> None:
    """Raises DeclarationError for anything but the declaration of a factor, such as a distribution that is built already.

    Args:
        name: of the variable.
        wanted: the words for what it must be.
    """
    if isinstance(part, Conditional):
        raise DeclarationError(
            f"{name} must be {wanted}; got a distribution that a model has built already: give its declaration, "
            "model.declared[name]"
        )
    if not isinstance(part, Part) or not hasattr(part, "build"):
        kind = type(part).__name__
        if isinstance(part, type):
            kind = f"the class {part.__name__}: call it, as in {part.__name__}(...)"
        raise DeclarationError(f"{name} must be {wanted}; got {kind}")
