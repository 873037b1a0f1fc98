"""What codes say about attributes: readings in the units of the labels, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.labels import Attribute
from pyro_lfm.attributes.networks import Networks

# A number that is asked for is met up to this part of its range.
_TOLERANCE = 0.02
# Log odds of a label that is asked for; the scale on which log odds below them count.
_LOG_ODDS, _ODDS_SCALE = 4.0, 1.0
# Log odds beyond which two readings of a label are equally sure.
_SURE = 4.0


@dataclass(frozen=True, eq=False)
class Readings:
    """Readings of A attributes from codes.

    A reading is a number r(u): of a number its expected value in units of its deviation, of a label its log odds against all
    other labels together.

    Attributes:
        attributes: what they are. networks: their networks. means, deviations: of the labels of numbers, (A,); 0 and 1 of labels.
    """

    attributes: tuple[Attribute, ...]
    networks: Networks
    means: Tensor
    deviations: Tensor

    def values(self, codes: Tensor) -> dict[str, Tensor]:
        """Readings of codes (B, U) in units of the labels: numbers (B,), the probability of each label (B, C)."""
        outputs = self.networks.mean(codes.expand(len(self.attributes), *codes.shape))
        return self.in_units(outputs)

    def in_units(self, outputs: Tensor) -> dict[str, Tensor]:
        """The outputs of the networks (A, ..., W) in units of the labels."""
        values = {}
        for place, attribute in enumerate(self.attributes):
            if attribute.labels:
                values[attribute.name] = outputs[place][..., : len(attribute.labels)].softmax(-1)
            else:
                values[attribute.name] = self.means[place] + self.deviations[place] * outputs[place][..., 0]
        return values

    def of(self, names: list[str]) -> Readings:
        """Those of some attributes."""
        places = [[a.name for a in self.attributes].index(name) for name in names]
        return Readings(
            tuple(self.attributes[place] for place in places),
            self.networks.of_attributes(places),
            self.means[places],
            self.deviations[places],
        )

    def numbers(self, codes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """r(u) and ∇r(u), (B, A) and (B, A, U).

        Args:
            labels: (B, A), the code of the label whose log odds are read; of a number it is ignored.
        """
        each = codes.detach().expand(len(self.attributes), *codes.shape).clone().requires_grad_()
        with torch.enable_grad():
            outputs = self.networks.mean(each)
            numbers = torch.stack(
                [
                    _log_odds(out[:, : len(attribute.labels)], label) if attribute.labels else out[:, 0]
                    for out, attribute, label in zip(outputs, self.attributes, labels.T, strict=True)
                ]
            )
            (gradient,) = torch.autograd.grad(numbers.sum(), each)
        return numbers.detach().T, gradient.transpose(0, 1)


def _log_odds(logits: Tensor, label: Tensor) -> Tensor:
    """ln p / (1 − p) of a label for each row, (B,)."""
    own = torch.arange(logits.shape[1]) == label.long().unsqueeze(1)
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked of the readings of rows: Σⱼ eⱼ²/2, eⱼ how far a reading is from where it should be, in tolerances.

    Attributes:
        readings: of the attributes that are asked for. codes: (A,), the numbers or codes of labels that are asked for.
    """

    readings: Readings
    codes: Tensor

    @classmethod
    def of(cls, readings: Readings, targets: Mapping[str, object]) -> Request:
        own = readings.of(list(targets))
        codes = [a.code(targets[a.name]) for a in own.attributes]  # type: ignore[arg-type]
        return cls(own, torch.tensor(codes, dtype=torch.float64))

    def residuals(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """e(u) and its Jacobian, (B, A) and (B, A, U). A label is at its place as soon as it is read surely enough."""
        numbers, jacobian = self.readings.numbers(codes, self.codes.expand(len(codes), -1))
        labels = torch.tensor([bool(a.labels) for a in self.readings.attributes])
        ranges = torch.tensor([a.range for a in self.readings.attributes], dtype=torch.float64)
        scale = torch.where(labels, _ODDS_SCALE, _TOLERANCE * ranges / self.readings.deviations)
        wanted = torch.where(labels, _LOG_ODDS, (self.codes - self.readings.means) / self.readings.deviations)
        residual = (numbers - wanted) / scale
        slope = jacobian / scale.unsqueeze(1)
        met = labels & (residual > 0)
        return residual.masked_fill(met, 0.0), slope.masked_fill(met.unsqueeze(2), 0.0)

    def distance(self, codes: Tensor) -> Tensor:
        """How far readings are from the request, in parts of the range of a number; 1 where a label is not the likeliest. (B, A)."""
        values = self.readings.values(codes)
        columns = []
        for attribute, code in zip(self.readings.attributes, self.codes, strict=True):
            value = values[attribute.name]
            if attribute.labels:
                columns.append((value.argmax(1) != code).double())
            else:
                columns.append((value - code).abs() / attribute.range)
        return torch.stack(columns, 1)


@dataclass(frozen=True, eq=False)
class Held:
    """Readings of rows that are to stay: Σⱼ hⱼ²/2, hⱼ how far a reading has moved, in tolerances.

    Attributes:
        readings: of the attributes that stay. labels: (B, A), the likeliest label of each row. places: (B, A), the readings.
    """

    readings: Readings
    labels: Tensor
    places: Tensor

    @classmethod
    def of(cls, readings: Readings, codes: Tensor) -> Held:
        """The readings of codes as they are."""
        values = readings.values(codes)
        labels = [
            values[a.name].argmax(1) if a.labels else torch.zeros(len(codes), dtype=torch.long)
            for a in readings.attributes
        ]
        if not labels:
            none = torch.zeros(len(codes), 0, dtype=torch.float64)
            return cls(readings, none, none)
        codes_of_labels = torch.stack(labels, 1)
        numbers, _ = readings.numbers(codes, codes_of_labels)
        are_labels = torch.tensor([bool(a.labels) for a in readings.attributes])
        return cls(readings, codes_of_labels, torch.where(are_labels, numbers.clamp_max(_SURE), numbers))

    def residuals(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """h(u) and its Jacobian, (B, A) and (B, A, U). A label that is read as surely as before, or more so, has not moved."""
        if not self.readings.attributes:
            return self.places, codes.new_zeros(len(codes), 0, codes.shape[1])
        numbers, jacobian = self.readings.numbers(codes, self.labels)
        labels = torch.tensor([bool(a.labels) for a in self.readings.attributes])
        ranges = torch.tensor([a.range for a in self.readings.attributes], dtype=torch.float64)
        scale = torch.where(labels, _ODDS_SCALE, _TOLERANCE * ranges / self.readings.deviations)
        residual, slope = (numbers - self.places) / scale, jacobian / scale.unsqueeze(1)
        surer = labels & (residual > 0)
        return residual.masked_fill(surer, 0.0), slope.masked_fill(surer.unsqueeze(2), 0.0)
