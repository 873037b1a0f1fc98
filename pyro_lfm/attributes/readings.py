"""What codes say about attributes: readings, in the units of the labels, and as numbers that moves of codes change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_lfm.attributes.labels import Attribute
from pyro_lfm.attributes.networks import Networks


@dataclass(frozen=True, eq=False)
class Readings:
    """Readings of A attributes from codes.

    A reading is a number r(u): of a number its expected value in units of its deviation, of a label its log odds against all
    other labels together.

    Attributes:
        attributes: what they are.
        networks: their networks.
        means, deviations: of the labels of numbers, (A,); 0 and 1 for labels.
        tolerances: (A,), how near a reading is to a number that is as asked; 1 for log odds.
        least, typical: (A, W), log odds of a label that are high enough for it to be seen, and those of a row that has it.
    """

    attributes: tuple[Attribute, ...]
    networks: Networks
    means: Tensor
    deviations: Tensor
    tolerances: Tensor
    least: Tensor
    typical: Tensor

    @property
    def names(self) -> list[str]:
        return [attribute.name for attribute in self.attributes]

    @property
    def are_labels(self) -> Tensor:
        """(A,)"""
        return torch.tensor([bool(attribute.labels) for attribute in self.attributes], dtype=torch.bool)

    def of(self, names: Sequence[str]) -> Readings:
        """Those of some attributes."""
        places = [self.names.index(name) for name in names]
        columns = (self.means, self.deviations, self.tolerances, self.least, self.typical)
        return Readings(
            tuple(self.attributes[place] for place in places),
            self.networks.of_attributes(places),
            *(column[places] for column in columns),
        )

    def outputs(self, codes: Tensor) -> Tensor:
        """The outputs of the networks at codes (B, U), (A, B, W)."""
        return self.networks.mean(codes.expand(len(self.attributes), *codes.shape))

    def features(self, codes: Tensor) -> Tensor:
        """All readings of codes (B, U) side by side, (B, F): numbers, and log ratios of the other labels to the first."""
        columns = []
        for output, attribute in zip(self.outputs(codes), self.attributes, strict=True):
            logits = output[:, : len(attribute.labels)]
            columns.append(logits[:, 1:] - logits[:, :1] if attribute.labels else output[:, :1])
        return torch.cat(columns, 1)

    def values(self, outputs: Tensor) -> dict[str, Tensor]:
        """Outputs (A, ..., W) in units of the labels: numbers (...), the probability of each label (..., C)."""
        values = {}
        for place, attribute in enumerate(self.attributes):
            if attribute.labels:
                values[attribute.name] = outputs[place][..., : len(attribute.labels)].softmax(-1)
            else:
                values[attribute.name] = self.means[place] + self.deviations[place] * outputs[place][..., 0]
        return values

    def numbers(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """r of outputs (A, B, W), (B, A).

        Args:
            labels: (B, A), the codes of the labels whose log odds are read; ignored for numbers.
        """
        columns = [
            log_odds(output[:, : len(attribute.labels)], label) if attribute.labels else output[:, 0]
            for output, attribute, label in zip(outputs, self.attributes, labels.T, strict=True)
        ]
        return torch.stack(columns, 1) if columns else labels

    def with_slopes(self, codes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """r(u) and ∇r(u), (B, A) and (B, A, U)."""
        if not self.attributes:
            return labels, codes.new_zeros(len(codes), 0, codes.shape[1])
        # Each attribute reads codes of its own, so that one sum has the gradients of all.
        each = codes.detach().expand(len(self.attributes), *codes.shape).clone().requires_grad_()
        with torch.enable_grad():
            numbers = self.numbers(self.networks.mean(each), labels)
            (slopes,) = torch.autograd.grad(numbers.sum(), each)
        return numbers.detach(), slopes.transpose(0, 1)


def log_odds(logits: Tensor, label: Tensor) -> Tensor:
    """ln p / (1 − p) of a label for each row, (B,), from logits (B, C).

    >>> log_odds(torch.tensor([[0.0, 2.0]]), torch.tensor([1]))
    tensor([2.])
    """
    own = torch.arange(logits.shape[1]) == label.long().unsqueeze(1)
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)
