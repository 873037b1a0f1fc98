"""What a factor takes from the data that are fitted: each column's spread, the unit of its default floors and priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pyro_lfm.errors import DeclarationError
from pyro_lfm.sources.drawn import Drawn
from pyro_lfm.sources.floors import Floor, natural_scale, raw_scale
from pyro_lfm.sources.lookup import Lookup, LookupTable
from pyro_lfm.sources.sources import Constant, Fixed, Learned, Table


class Measured(nn.Module):
    """The floors of a factor's scales, held in buffers, ``scale_floor`` of a parameter ``scale``.

    A number that the declaration gives is in the units of the variable. A default is a share of a unit: 1 until the
    factor is fitted to data as an observed one, and from then on the spread of each column. What is ``Fixed`` has none.
    """

    # The parameters that are scales above a floor.
    floors: Mapping[str, Floor] = {}
    # The parameters that are locations or spreads in the units of the variable: their priors may be in those units.
    in_units: tuple[str, ...] = ()
    parts: nn.ModuleDict
    event_shape: torch.Size | None
    _declared: tuple[dict[str, Any], Any]

    @property
    def shape(self) -> torch.Size:
        if self.event_shape is None:
            raise DeclarationError(
                f"{type(self).__name__} needs its event size, as in {type(self).__name__}(8)"
            )
        return self.event_shape

    def floor_shape(self, parameter: str) -> torch.Size:
        """The shape of the floor of a parameter, one that ``floors`` names."""
        return self.shape

    def scale_numbers(self, parameter: str, raw: torch.Tensor) -> torch.Tensor:
        """The raw numbers that are scales among those of a parameter, (..., *floor_shape), a view."""
        return raw

    def unit(self, parameter: str, units: torch.Tensor) -> torch.Tensor:
        """The unit of a parameter, ``floor_shape``, from those of the variable's entries."""
        return units

    def floor(self, parameter: str) -> torch.Tensor:
        """The floor of a parameter at present, ``floor_shape``."""
        return self.get_buffer(f"{parameter}_floor")

    def floored(self, parents: Sequence[torch.Tensor], index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The scales that have floors, by parameter, given what they read."""
        raw = self.raw(parents, index)  # type: ignore[operator]
        return {
            parameter: natural_scale(self.scale_numbers(parameter, raw[parameter]), self.floor(parameter))
            for parameter in self.floors
            if parameter in raw
        }

    def lay_floors(self, sources: Mapping[str, Any]) -> None:
        """Makes the buffers, before the parts that need them. Values that the user gives know no default floor."""
        for parameter, floor in self.floors.items():
            free = floor.declared is None and _has_value(sources.get(parameter))
            start = torch.ones(self.floor_shape(parameter))
            self.register_buffer(f"{parameter}_floor", torch.zeros_like(start) if free else floor.of(start))

    def settle_floors(self) -> None:
        """Default floors where the user gave a value to start at: as for a variable of unit 1, or far below that value."""
        for parameter, floor in self.floors.items():
            numbers = self._numbers(parameter)
            if (
                floor.declared is None
                and isinstance(numbers, nn.Parameter)
                and not self.floor(parameter).any()
            ):
                start = self.floor(parameter)
                value = natural_scale(self.scale_numbers(parameter, numbers.detach()), start)
                least = value.reshape(-1, *start.shape).amin(0) if start.dim() else value.min()
                self._set_floor(parameter, floor.of(torch.ones_like(start)).minimum(1e-3 * least))

    def measure(self, units: torch.Tensor, means: torch.Tensor) -> None:
        """Takes the spread and the mean of each entry in the data, of the shape of the event. Where the user gave a value to
        start at, the scales keep their values as far as the floors allow it."""
        for parameter, floor in self.floors.items():
            if floor.declared is not None or not _is_fixed(self._numbers(parameter)):
                self._set_floor(parameter, floor.of(self.unit(parameter, units)))
        for parameter in self.in_units:
            for part in self.parts[parameter].modules() if parameter in self.parts else ():
                if isinstance(part, Drawn):
                    part.measure(self.unit(parameter, units), means)

    def _numbers(self, parameter: str) -> torch.Tensor | None:
        """The raw numbers of a parameter, where they are numbers and no network or draw."""
        part = self.parts[parameter] if parameter in self.parts else None
        if isinstance(part, Constant):
            return part.value
        if isinstance(part, Table):
            return part.rows
        return (
            part.values if isinstance(part, LookupTable) and isinstance(part.values, torch.Tensor) else None
        )

    def _set_floor(self, parameter: str, floor: torch.Tensor) -> None:
        now, numbers = self.floor(parameter), self._numbers(parameter)
        floor = floor.to(now)
        if torch.equal(floor, now):
            return
        with torch.no_grad():
            if isinstance(numbers, nn.Parameter) and _has_value(self._declared[0].get(parameter)):
                raw = self.scale_numbers(parameter, numbers)
                scale = natural_scale(raw, now)
                above = scale > 2 * floor
                raw.copy_(torch.where(above, raw_scale(scale.where(above, 2 * floor + 1), floor), raw))
            now.copy_(floor)


def _has_value(source: Any) -> bool:
    """Whether a source holds a value that the user gave."""
    source = source.of if isinstance(source, Lookup) else source
    return isinstance(source, Fixed) or (isinstance(source, Learned) and source.init is not None)


def _is_fixed(numbers: torch.Tensor | None) -> bool:
    return numbers is not None and not isinstance(numbers, nn.Parameter)
