"""The factor: a family of distributions whose parameters come from sources."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from pyro_lfm import shapes
from pyro_lfm.distributions.stable_equals import sound
from pyro_lfm.distributions.supports import onto
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.descriptions import parent_names, source_words
from pyro_lfm.factors.measured import Measured
from pyro_lfm.factors.named_modules import Factors, check_named
from pyro_lfm.factors.pickling import Declaration
from pyro_lfm.factors.variables import Code, Variable
from pyro_lfm.sources.drawn import Drawn, Stochastic
from pyro_lfm.sources.floors import natural_scale, raw_scale
from pyro_lfm.sources.lookup import Lookup, lookup
from pyro_lfm.sources.networks import network
from pyro_lfm.sources.sources import (
    Fixed,
    Learned,
    PerRow,
    Table,
    constant,
    reads_parents,
)


class Factor(Declaration, Measured):
    """A distribution family whose parameters come from sources: ``factor(*parents) -> Distribution``.

    A family is a subclass that names its parameters and writes ``distribution``; it then works with every
    source, as prior, likelihood and guide. A declaration is a value: a model or guide takes a copy and builds
    the networks for its parents (modules that you pass as sources are used as they are, not copied).

    Args:
        event: size of one value, an int or a shape; a guide takes it from the model.
        sources: parameter name -> source. None means a head of ``network``, else a learned constant. The name of
            another factor means its very value, as in ``exposure="library"``; networks do not read it.
        given: name or names of the parents that the networks read. By default every latent for an observed factor,
            every observed factor for a guide's.
        network: one trunk, a source, that gives all the parameters left at None.

    Raises:
        DeclarationError: a source has the wrong kind. ShapeError: a network has the wrong size.

    >>> import pyro.distributions as dist
    >>> from torch.distributions import constraints
    >>> class Cauchy(Factor):
    ...     constraints = {"scale": constraints.positive}
    ...     def __init__(self, event=None, loc=None, scale=None, *, given=None, network=None):
    ...         super().__init__(event, {"loc": loc, "scale": scale}, given=given, network=network)
    ...     def distribution(self, loc, scale):
    ...         return dist.Cauchy(loc, scale).to_event(1)
    >>> Cauchy(3, scale=Fixed(2.0)).build("x", [])().base_dist.scale
    tensor([2., 2., 2.])
    """

    constraints: Mapping[str, Any] = {}  # where a parameter must lie; the reals where it is not named
    times_prior = False  # whether a guide multiplies it with the model's prior of the same latent
    # Whether it is a latent even where it reads others and nothing names it; whether it follows from what it reads.
    latent = computed = False
    # Whether forward takes ``masks=``, where each parent was observed or None, and does without one that was not.
    reads_masks = False

    def __init__(
        self,
        event: int | Sequence[int] | None = None,
        sources: Mapping[str, Any] | None = None,
        *,
        given: str | Sequence[str] | None = None,
        network: Any = None,
    ):
        super().__init__()
        self.event_shape = None if event is None else shapes.event_shape(event)
        self.given = None if given is None else parent_names(given)
        # In containers that nn.Module does not look into: they are declarations, not yet parts.
        self._declared = (dict(sources or {}), network)
        self._parents: dict[str, Variable] = {}
        self._places: dict[str, str] = {}
        self.parts = nn.ModuleDict()
        # How networks read its values, and how its own read those of its parents.
        self.code: Code | None = None
        self.codes = Factors()

    # What a family may say of itself -----------------------------------------------------------------

    def distribution(self, **parameters: torch.Tensor) -> Any:
        """The distribution with these parameters, each (..., *shape), natural (constrained) values."""
        raise DeclarationError(f"{type(self).__name__} must define distribution(...) or forward(...)")

    def raw_shape(self, parameter: str) -> torch.Size:
        """The shape of a parameter; that of the event by default."""
        return self.shape

    def start(self, parameter: str) -> torch.Tensor:
        """The raw value at which a learned constant starts."""
        return torch.zeros(self.raw_shape(parameter))

    def to_raw(self, parameter: str, value: torch.Tensor) -> torch.Tensor:
        """The raw form of a natural value, as given to Fixed or Learned."""
        if parameter in self.floors:
            return raw_scale(value, self.floor(parameter))
        return onto(self.constraints[parameter]).inv(value) if parameter in self.constraints else value

    def natural(self, parameter: str, raw: torch.Tensor) -> torch.Tensor:
        """The natural form of a raw value."""
        if parameter in self.floors:
            return natural_scale(raw, self.floor(parameter))
        return onto(self.constraints[parameter])(raw) if parameter in self.constraints else raw

    def adopt(self, variable: Variable) -> None:
        """Takes from the model what a guide's factor leaves open: the event shape, in unconstrained space."""
        self.event_shape = variable.shape

    # What the library asks of it ---------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """The number of entries of one value."""
        return self.shape.numel()

    @property
    def parents(self) -> tuple[str, ...]:
        return tuple(self._parents)

    @property
    def declaration(self) -> Factor:
        """The declaration that the factor was built from."""
        return self

    @property
    def sources(self) -> dict[str, Any]:
        """The declared source of each parameter."""
        return dict(self._declared[0])

    @property
    def declared_sources(self) -> list[Any]:
        """All the sources that were declared, the trunk among them."""
        sources, trunk = self._declared
        return [*sources.values(), trunk]

    @property
    def reads(self) -> bool:
        """Whether its distribution depends on parents: some source is a network, or it has a forward of its own."""
        sources, trunk = self._declared
        own = type(self).forward is not Factor.forward and not isinstance(self, Prior)
        return own or any(map(reads_parents, sources.values())) or reads_parents(trunk)

    @property
    def named(self) -> dict[str, str]:
        """The parameters that are the very value of a parent, and that parent's name."""
        return {p: source for p, source in self._declared[0].items() if isinstance(source, str)}

    def build(self, name: str, parents: Sequence[Variable]) -> Factor:
        """Makes the parts for these parents; returns itself. Models and guides call it on their own copy."""
        self._parents = {parent.name: parent for parent in parents}
        apart = set(self.named.values()) - set(self.given or ())
        self._read = {name: parent for name, parent in self._parents.items() if name not in apart}
        self.codes.update({n: parent.code for n, parent in self._read.items() if parent.code is not None})
        sources, trunk = self._declared
        self.lay_floors(sources)
        heads = {p: self.raw_shape(p) for p, source in sources.items() if source is None}
        for parameter, source in sources.items():
            if isinstance(source, str):
                check_named(
                    f"{name}.{parameter}",
                    self._parents[source],
                    self.raw_shape(parameter),
                    self.constraints.get(parameter),
                )
            elif source is not None or trunk is None:
                self.parts[parameter] = self._part(f"{name}.{parameter}", parameter, source)
        if trunk is not None:
            if not heads:
                raise DeclarationError(
                    f"{name}: network= is given, but every parameter has a source of its own"
                )
            self.parts["network"] = self._trunk(f"{name}.network", trunk, heads)
            self._heads = heads
        self.settle_floors()
        self._find_drawn(name)
        return self

    def _find_drawn(self, name: str) -> None:
        """Where the parameters that have priors stand, so that draws can be put in their place."""
        for path, module in self.named_modules():
            if isinstance(module, Drawn):
                if module.name in self._places:
                    raise DeclarationError(
                        f"{name} has two parameters {module.name} with priors: give one of them a prior"
                    )
                self._places[module.name] = path

    @property
    def drawn(self) -> dict[str, Drawn]:
        """The parameters that have priors, by name, in the order in which they are drawn."""
        found = {name: self.get_submodule(path) for name, path in self._places.items()}
        return dict(sorted(found.items(), key=lambda item: len(item[1].reads)))  # type: ignore[arg-type, return-value]

    def _part(self, what: str, parameter: str, source: Any) -> nn.Module:
        shape = self.raw_shape(parameter)
        if isinstance(source, PerRow):
            return Table(self.start(parameter), source.rows, source.learning_rate)
        if isinstance(source, Lookup):
            parents = list(self._read.values())
            return lookup(
                source, parents, shape, self.start(parameter), what, lambda v: self.to_raw(parameter, v)
            )
        if isinstance(source, Stochastic):
            return source.build(self.start(parameter))
        if source is None or isinstance(source, Learned | Fixed):
            return constant(source, shape, self.start(parameter), what, lambda v: self.to_raw(parameter, v))
        return network(
            source, [p.code_shape for p in self._read.values()], shape, what, event=self.event_shape
        )

    def _trunk(self, what: str, source: Any, heads: dict[str, torch.Size]) -> nn.Module:
        if isinstance(source, PerRow):
            start = torch.cat([self.start(p).flatten() for p in heads])
            return Table(start, source.rows, source.learning_rate)
        if isinstance(source, Learned | Fixed):
            raise DeclarationError(f"{what} must be a network or PerRow; got {type(source).__name__}")
        in_shapes, each = [p.code_shape for p in self._read.values()], list(heads.values())
        return network(source, in_shapes, shapes.trunk_shape(heads), what, heads=each, event=self.event_shape)

    def context(self, values: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """The parents' values as what the networks read."""
        shapes.check_parents(type(self).__name__, values, {n: p.shape for n, p in self._parents.items()})
        by_name = dict(zip(self._parents, values, strict=True))
        codes = [parent.encode(by_name[name]) for name, parent in self._read.items()]
        if len(codes) > 1:
            return shapes.join(codes, [p.code_shape for p in self._read.values()])
        return codes[0] if codes else None

    def __call__(self, *parents: Any, **options: Any) -> Any:
        # A forward of one's own may name distributions of Pyro's that the library has in a stable form.
        return sound(super().__call__(*parents, **options))

    def raw(
        self, parents: Sequence[torch.Tensor], index: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """The raw parameters, by name, each (..., *raw_shape)."""
        context = self.context(parents)
        raw = {name: part(context, index) for name, part in self.parts.items()}
        if "network" in raw:
            split = shapes.split_flat if isinstance(self.parts["network"], Table) else shapes.split_heads
            raw.update(split(raw.pop("network"), self._heads))
        return raw

    def forward(self, *parents: torch.Tensor, index: torch.Tensor | None = None) -> Any:
        """The distribution of the value given its parents, batch shape (...), event shape ``event_shape``."""
        raw = self.raw(parents, index)
        natural = {name: self.natural(name, value) for name, value in raw.items()}
        by_name = dict(zip(self._parents, parents, strict=True))
        for parameter, parent in self.named.items():
            value, shape = by_name[parent], self._parents[parent].shape
            missing = len(self.raw_shape(parameter)) - len(shape)
            natural[parameter] = value.reshape(*value.shape, *(1,) * missing)
        return self.distribution(**natural)

    def at(
        self,
        parents: Sequence[torch.Tensor],
        index: torch.Tensor,
        drawn: Mapping[str, torch.Tensor] | None = None,
    ) -> Any:
        """``forward``, with the row index where some source is a table of rows, and draws of its parameters by name."""
        options = {"index": index} if self.tables else {}
        if not drawn:
            return self(*parents, **options)
        values = {f"{self._places[name]}.value": value for name, value in drawn.items()}
        return functional_call(self, values, tuple(parents), options)

    @property
    def tables(self) -> list[Table]:
        return [part for part in self.parts.modules() if isinstance(part, Table)]

    def part_shape(self, name: str) -> torch.Size:
        """The shape of what a part gives for each row."""
        return shapes.trunk_shape(self._heads) if name == "network" else self.raw_shape(name)

    def coded(self, code: Code) -> Factor:
        """The same declaration, whose values networks read by this code."""
        new = self.copy()
        new.code = code
        return new

    def copy(self) -> Factor:
        """A factor of its own from this declaration; networks given as modules stay the very same."""
        return copy.deepcopy(self, {id(m): m for m in self.declared_sources if isinstance(m, nn.Module)})  # type: ignore[arg-type]

    def redrawn(self) -> Factor:
        """The declaration with what its constructor drew at random drawn anew."""
        return self

    def describe(self) -> str:
        """The distribution in a formula's words, as in ``Gaussian(mean: MLP(200), covariance: Full)``."""
        sources, trunk = self._declared
        words = [f"{name}: {source_words(source, trunk)}" for name, source in sources.items()]
        return f"{type(self).__name__}({', '.join(words)})" if words else type(self).__name__

    def extra_repr(self) -> str:
        return f"event={None if self.event_shape is None else tuple(self.event_shape)}, given={self.given}"


class Prior(Factor):
    """A factor without parents, p(z). A prior of your own subclasses it and writes ``forward() -> Distribution``."""

    def __init__(self, event: int | Sequence[int] | None = None, sources: Mapping[str, Any] | None = None):
        super().__init__(event, sources)
