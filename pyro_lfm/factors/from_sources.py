"""The conditional distribution of a family, whose parameters come from modules that its sources build."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from pyro_lfm import shapes
from pyro_lfm.errors import DeclarationError
from pyro_lfm.factors.conditional import Conditional
from pyro_lfm.factors.modules_of_factors import state_of_family
from pyro_lfm.factors.named_modules import check_named
from pyro_lfm.factors.variables import Variable
from pyro_lfm.sources.declared_values import DeclaredValues
from pyro_lfm.sources.drawn import Drawn
from pyro_lfm.sources.floors import natural_scale, raw_scale
from pyro_lfm.sources.lookup import LookupTable
from pyro_lfm.sources.per_row import PerRowTable
from pyro_lfm.sources.source import Parameter, Source, as_source
from pyro_lfm.sources.values import Constant, Learned

if TYPE_CHECKING:
    from pyro_lfm.factors.factor import Factor


class FromSources(Conditional, DeclaredValues):
    """A family of distributions with the parameters that its sources give.

    The floors of scales are buffers: ``scale_floor`` is the floor of the parameter ``scale``. A floor that the user gives is
    in the units of the variable. A default floor is a share of a unit. This unit is 1 until the factor is fitted to data as
    an observed variable, and then the spread of each column. A ``Fixed`` scale has no default floor.
    """

    takes_index = True
    not_identity = (*Conditional.not_identity, *DeclaredValues.not_identity)

    def __init__(self, declaration: Factor, name: str, parents: Sequence[Variable]):
        super().__init__(declaration, name, parents)
        if (state := state_of_family(declaration)) is not None:
            self.add_module("state_of_family", state)
        self._register_floors()
        # The shapes of the parameters that are heads of the trunk.
        self._heads: dict[str, torch.Size] = {}
        self._build_parts()
        own_parts = declaration.own_parts(name, dict(self.parts.items()))
        self._own = tuple(own_parts)
        for part, module in own_parts.items():
            self.add_module(part, module)
        self._lower_floors_to_values()
        self.complete()

    @property
    def family(self) -> Factor:
        """The family whose methods are called: the declaration, or the module of one that holds tensors or modules."""
        state: Any = self._modules.get("state_of_family")
        return self.declaration if state is None else state

    def _build_parts(self) -> None:
        family, trunk = self.family, as_source(self.declaration.network)
        for name, given in family.sources.items():
            source = as_source(given)
            if isinstance(given, str):
                shape = family.raw_shape(name)
                check_named(
                    f"{self.variable}.{name}", self._parents[given], shape, family.constraints.get(name)
                )
            elif source is not None or trunk is None:
                self.parts[name] = (source or Learned()).module_for(self._parameter(name))
        if trunk is None:
            return
        self._heads = {
            name: family.raw_shape(name) for name, given in family.sources.items() if given is None
        }
        if not self._heads:
            raise DeclarationError(
                f"{self.variable}: network= is given, but every parameter has a source of its own"
            )
        self.parts["network"] = self._trunk(trunk)

    def _parameter(self, name: str) -> Parameter:
        family = self.family

        def to_raw(value: Tensor) -> Tensor:
            floor = self.digits(f"{name}_floor") if name in self.floors else None
            return family.to_raw(name, value, floor)

        return Parameter(
            f"{self.variable}.{name}",
            family.raw_shape(name),
            family.start(name),
            tuple(self._read.values()),
            to_raw,
            family.event_shape,
        )

    def _trunk(self, trunk: Source) -> nn.Module:
        start = torch.cat([self.family.start(head).flatten() for head in self._heads])
        return trunk.module_for(
            Parameter(
                f"{self.variable}.network",
                shapes.trunk_shape(self._heads),
                start,
                tuple(self._read.values()),
                event=self.declaration.event_shape,
                heads=tuple(self._heads.items()),
            )
        )

    def raw(self, parents: Sequence[Tensor], index: Tensor | None = None) -> dict[str, Tensor]:
        """The raw parameters by name, each of shape (..., *raw_shape)."""
        context = self.context(parents)
        raw = {name: part(context, index) for name, part in self.parts.items()}
        if "network" in raw:
            trunk = raw.pop("network")
            is_table = isinstance(self.parts["network"], PerRowTable)
            raw.update((shapes.split_flat if is_table else shapes.split_heads)(trunk, self._heads))
        return raw

    def forward(self, *parents: Tensor, index: Tensor | None = None) -> Distribution:
        """The distribution of the value given its parents, batch shape (...), event shape ``event_shape``."""
        family = self.family
        natural = {
            name: family.natural(name, value, self.floor_or_none(name))
            for name, value in self.raw(parents, index).items()
        }
        by_name = dict(zip(self._parents, parents, strict=True))
        for parameter, parent in family.named.items():
            value, shape = by_name[parent], self._parents[parent].shape
            missing = len(family.raw_shape(parameter)) - len(shape)
            natural[parameter] = value.reshape(*value.shape, *(1,) * missing)
        return family.distribution(**natural, **{name: self._modules[name] for name in self._own})

    def part_shape(self, name: str) -> torch.Size:
        """The shape of the output of a part, for one row."""
        return shapes.trunk_shape(self._heads) if name == "network" else self.family.raw_shape(name)

    # Floors ------------------------------------------------------------------------------------------------

    def floor_or_none(self, parameter: str) -> Tensor | None:
        """The floor of a parameter, or None where it has none."""
        return self.floor(parameter) if parameter in self.declaration.floors else None

    def floored(self, parents: Sequence[Tensor], index: Tensor) -> dict[str, Tensor]:
        raw = self.raw(parents, index)
        return {
            parameter: natural_scale(
                self.family.scale_numbers(parameter, raw[parameter]), self.floor(parameter)
            )
            for parameter in self.floors
            if parameter in raw
        }

    def _register_floors(self) -> None:
        """Registers the floors. A default floor starts at 0 where the user gives a start value."""
        for parameter, floor in self.floors.items():
            free = floor.declared is None and self._has_value(parameter)
            ones = torch.ones(self.family.floor_shape(parameter), dtype=torch.float64)
            start = torch.zeros_like(ones) if free else floor.of(ones)
            self.declare(f"{parameter}_floor", start, torch.get_default_dtype())

    def _lower_floors_to_values(self) -> None:
        """Sets default floors where the user gave a start value: those of unit 1, but far below that value."""
        for parameter, floor in self.floors.items():
            table = self._table(parameter)
            if (
                floor.declared is None
                and table is not None
                and isinstance(getattr(*table), nn.Parameter)
                and not self.floor(parameter).any()
            ):
                module, name = table
                start = self.digits(f"{parameter}_floor")
                value = natural_scale(self.family.scale_numbers(parameter, module.digits(name)), start)
                least = value.reshape(-1, *start.shape).amin(0) if start.dim() else value.min()
                self._set_floor(parameter, floor.of(torch.ones_like(start)).minimum(1e-3 * least))

    def measure(self, units: Tensor, means: Tensor) -> None:
        """Sets default floors and units of priors from the spread and the mean of each entry of the data.

        Where the user gave a start value, scales keep their values as far as the floors allow.
        """
        family = self.family
        for parameter, floor in family.floors.items():
            numbers = self._numbers(parameter)
            is_fixed = numbers is not None and not isinstance(numbers, nn.Parameter)
            if floor.declared is not None or not is_fixed:
                self._set_floor(parameter, floor.of(family.unit(parameter, units)))
        for parameter in family.in_units:
            for part in self.parts[parameter].modules() if parameter in self.parts else ():
                if isinstance(part, Drawn):
                    part.measure(family.unit(parameter, units), means)

    def _has_value(self, parameter: str) -> bool:
        source = self.declaration.source(parameter)
        return source is not None and source.has_value

    def _table(self, parameter: str) -> tuple[DeclaredValues, str] | None:
        """The module of a parameter that is constant or has a table of values, and the name of the tensor there."""
        part = self.parts[parameter] if parameter in self.parts else None
        if isinstance(part, LookupTable) and isinstance(part.values, Tensor):
            return part, "values"
        return (part, "value") if isinstance(part, Constant) else None

    def _numbers(self, parameter: str) -> Tensor | None:
        """The raw numbers of a parameter that is constant or has a table; None for a network or a drawn parameter."""
        part = self.parts[parameter] if parameter in self.parts else None
        if isinstance(part, PerRowTable):
            return part.rows
        table = self._table(parameter)
        return None if table is None else getattr(*table)

    def _set_floor(self, parameter: str, floor: Tensor) -> None:
        now, floor = self.digits(f"{parameter}_floor"), floor.detach().cpu().double()
        kind = self.floor(parameter).dtype
        if torch.equal(floor.to(kind), now.to(kind)):
            return
        table = self._table(parameter)
        if table is not None and self._has_value(parameter) and isinstance(getattr(*table), nn.Parameter):
            module, name = table
            numbers = module.digits(name).clone()
            raw = self.family.scale_numbers(parameter, numbers)
            scale = natural_scale(raw, now)
            above = scale > 2 * floor
            raw.copy_(torch.where(above, raw_scale(scale.where(above, 2 * floor + 1), floor), raw))
            module.redeclare(name, numbers)
        self.redeclare(f"{parameter}_floor", floor)
