"""What is asked of readings, as residuals in tolerances: attributes that rows are to have, and those that are to stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.labels import Target
from pyro_lfm.attributes.readings import Readings


@dataclass(frozen=True, eq=False)
class Request:
    """Readings that are asked for: Σⱼ eⱼ²/2, eⱼ how far a reading is from its place, in tolerances.

    A label is at its place when its log odds are high enough, or higher.

    Attributes:
        readings: of the attributes that are asked for.
        codes: (A,), the numbers, and the codes of labels, that are asked for.
        places: (A,), the readings that are asked for.
    """

    readings: Readings
    codes: Tensor
    places: Tensor

    @classmethod
    def of(cls, readings: Readings, targets: Mapping[str, Target], log_odds: Tensor) -> Request:
        """A request of some of the readings.

        Args:
            log_odds: (A, W), those that are asked for of each label; ``readings.least`` or ``readings.typical``.
        """
        own = readings.of([*targets])
        codes = [attribute.code(targets[attribute.name]) for attribute in own.attributes]
        asked = [
            float(log_odds[readings.names.index(attribute.name), int(code)])
            if attribute.labels
            else (code - float(own.means[place])) / float(own.deviations[place])
            for place, (attribute, code) in enumerate(zip(own.attributes, codes, strict=True))
        ]
        return cls(own, *(torch.tensor(column, dtype=torch.float64) for column in (codes, asked)))

    def residuals(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """e(u) and its Jacobian at codes (B, U), (B, A) and (B, A, U)."""
        numbers, slopes = self.readings.with_slopes(codes, self.codes.expand(len(codes), -1))
        return _in_tolerances(self.readings, numbers - self.places, slopes)

    def energy(self, outputs: Tensor) -> Tensor:
        """Σⱼ eⱼ²/2 of outputs of the networks (A, B, W), (B,)."""
        numbers = self.readings.numbers(outputs, self.codes.expand(outputs.shape[1], -1))
        residual = (numbers - self.places) / self.readings.tolerances
        met = self.readings.are_labels & (residual > 0)
        return 0.5 * residual.masked_fill(met, 0.0).square().sum(1)

    def distances(self, outputs: Tensor) -> Tensor:
        """How far readings are from the request, (B, A): in parts of the range of a number; 0 or 1 for labels."""
        columns = []
        values = self.readings.values(outputs)
        for attribute, code in zip(self.readings.attributes, self.codes, strict=True):
            value = values[attribute.name]
            if attribute.labels:
                columns.append((value.argmax(1) != code).double())
            else:
                columns.append((value - code).abs() / attribute.range)
        return torch.stack(columns, 1)


@dataclass(frozen=True, eq=False)
class Held:
    """Readings that are to stay: Σⱼ hⱼ²/2, hⱼ how far a reading has moved, in tolerances.

    A label that is read as surely as before, or more so, has not moved.

    Attributes:
        readings: of the attributes that stay.
        labels: (B, A), the likeliest label of each row. places: (B, A), the readings.
    """

    readings: Readings
    labels: Tensor
    places: Tensor

    @classmethod
    def of(cls, readings: Readings, codes: Tensor) -> Held:
        """The readings at codes (B, U), of labels not higher than those of most rows."""
        outputs = readings.outputs(codes)
        labels = torch.zeros(len(codes), len(readings.attributes), dtype=torch.long)
        bounds = torch.full(labels.shape, torch.inf, dtype=torch.float64)
        for place, attribute in enumerate(readings.attributes):
            if attribute.labels:
                labels[:, place] = outputs[place][:, : len(attribute.labels)].argmax(1)
                bounds[:, place] = readings.typical[place][labels[:, place]]
        return cls(readings, labels, torch.minimum(readings.numbers(outputs, labels).double(), bounds))

    def at(self, row: int) -> Request:
        """What one row holds, as a request."""
        return Request(self.readings, self.labels[row], self.places[row])

    def residuals(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """h(u) and its Jacobian at codes (B, U), (B, A) and (B, A, U)."""
        numbers, slopes = self.readings.with_slopes(codes, self.labels)
        return _in_tolerances(self.readings, numbers - self.places, slopes)


def _in_tolerances(readings: Readings, differences: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    residual = differences / readings.tolerances
    met = readings.are_labels & (residual > 0)
    slopes = slopes / readings.tolerances.unsqueeze(1)
    return residual.masked_fill(met, 0.0), slopes.masked_fill(met.unsqueeze(2), 0.0)
