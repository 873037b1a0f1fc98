"""``Fit.impute``: missing entries filled in, with draws from their posterior predictive distribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.distributions import constraints

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.frames import refilled
from pyro_lfm.data.readers import NamedRows, Table
from pyro_lfm.distributions.supports import entrywise
from pyro_lfm.errors import DeclarationError
from pyro_lfm.guides import AnyGuide
from pyro_lfm.inference.blocks import Blocks, Evaluation
from pyro_lfm.inference.queries.filling import run_filling
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.shapes import number

# Rows of one block. Only their missing entries are kept.
_ROWS = 1024


@dataclass(frozen=True)
class Imputation:
    """Rows with their missing entries filled in, and draws of these entries.

    Attributes:
        values: {observed: (N, *event)}. Observed entries are as they came, bit for bit, in the type of the rows. A missing
            number is its posterior predictive mean, or the median of the draws where its distribution has no mean; a
            missing label, level or binary entry is the most probable one.
        missing: {observed: (N, *event)}, True where an entry was missing.
        drawn: {observed: (S, M)}: draws of the M missing entries from their posterior predictive distribution, observation
            noise included, in the order of ``values[name][missing[name]]``.
        probabilities: {observed: (M, levels)}: the probability of each label or level of the missing entries.
        frames: {observed: DataFrame or Series}, for data that came so: missing cells filled in, dtypes and labels kept.
    """

    values: dict[str, torch.Tensor]
    missing: dict[str, torch.Tensor]
    drawn: dict[str, torch.Tensor]
    probabilities: dict[str, torch.Tensor]
    frames: dict[str, Any] = field(default_factory=dict)

    @property
    def draws(self) -> dict[str, torch.Tensor]:
        """{observed: (S, N, *event)}: draws of whole rows, whose observed entries are the same in all draws."""
        return {name: self.with_missing(name, drawn) for name, drawn in self.drawn.items()}

    def with_missing(self, name: str, entries: torch.Tensor) -> torch.Tensor:
        """The rows of a variable, (..., N, *event), with ``entries`` (..., M) in place of its missing ones.

        >>> gap = torch.tensor([[False, True]])
        >>> rows = Imputation({"x": torch.tensor([[1.0, 2.0]])}, {"x": gap}, {}, {})
        >>> rows.with_missing("x", torch.tensor([5.0]))
        tensor([[1., 5.]])
        """
        whole = self.values[name].expand(*entries.shape[:-1], *self.values[name].shape).clone()
        whole[..., self.missing[name]] = entries.to(whole.dtype)
        return whole

    def interval(self, level: float = 0.9) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The lower and upper ends, {observed: (N, *event)}, of intervals that hold a missing entry with this probability.

        The ends are the draws next outside the quantiles (1 ∓ level) / 2, so that an interval of whole numbers ends in
        whole numbers. An observed entry is its own interval. A ``Categorical`` variable is left out, as its labels have no
        order.

        Raises:
            DeclarationError: a level outside 0 to 1.
        """
        level = number("level", level, least=0.0, above=True)
        if level >= 1:
            raise DeclarationError(f"level must be a probability below 1; got {level!r}")
        frame = getattr(self.values, "frame", None)
        ends: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]] = (
            ({}, {}) if frame is None else (NamedRows({}, frame), NamedRows({}, frame))
        )
        for name, drawn in self.drawn.items():
            if name in self.probabilities and self.values[name].dim() == 1:
                continue
            ordered = drawn.sort(0).values
            last = len(drawn) - 1
            low = int(last * (1 - level) / 2 + 1e-9)
            for end, entries in zip(ends, (ordered[low], ordered[last - low]), strict=True):
                end[name] = self.with_missing(name, entries)
        return ends


def impute(model: AnyModel, guide: AnyGuide, batch: Batch, draws: int, seed: int, table: Table) -> Imputation:
    """Draws of the missing entries of each modelled variable.

    Args:
        draws: S.
        table: the rows of the batch as they came, from which the observed entries are taken.
    """
    names = [name for name in model.observed if name not in model.covariates]
    masks = {name: batch.mask(name) for name in names}
    missing = {n: torch.zeros_like(batch[n], dtype=torch.bool) if m is None else ~m for n, m in masks.items()}
    means, drawn = _draw_missing(model, guide, batch, missing, draws, seed)
    rows = table.take(torch.arange(len(table)), None, model.device)
    values, probabilities = {name: rows[name].clone() for name in names}, {}
    for name, mean in means.items():
        if mean.dim() > 1:
            probabilities[name], mean = mean, mean.argmax(-1)
        elif isinstance(entrywise(model.observed[name].support), type(constraints.boolean)):
            mean = mean.round()
        else:
            mean = mean.where(mean.isfinite(), drawn[name].median(0).values)
        # The wider of the two types holds the observed entries exactly.
        values[name] = values[name].to(torch.promote_types(values[name].dtype, batch[name].dtype))
        values[name][missing[name]] = mean.to(values[name].dtype)
    whole: dict[str, torch.Tensor] = values if table.frame is None else NamedRows(values, table.frame)
    frames = {
        name: refilled(table.containers[name], table.schema[name], values[name], missing[name])
        for name in names
        if name in table.containers
    }
    complete = {name: batch[name].new_zeros(draws, 0) for name in names if name not in drawn}
    by_name = {**complete, **drawn}
    return Imputation(whole, missing, {name: by_name[name] for name in names}, probabilities, frames)


def _draw_missing(
    model: AnyModel,
    guide: AnyGuide,
    batch: Batch,
    missing: dict[str, torch.Tensor],
    draws: int,
    seed: int,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The mean (M,) and the draws (S, M) of the missing entries of each variable that has some.

    Of labels and levels the mean is the probability of each, (M, levels). Compiled where there is much to do.

    Args:
        missing: by name, True where an entry is missing.
    """
    gaps = [name for name, entries in missing.items() if bool(entries.any())]
    shapes: dict[str, list[torch.Size]] = {}

    def one_draw(part: Batch) -> torch.Tensor:
        filling = run_filling(model, guide, part, [*missing])
        shapes.update({name: [each.shape[1:] for each in filling.gaps[name]] for name in gaps})
        return torch.cat([each.reshape(part.size, -1) for name in gaps for each in filling.gaps[name]], 1)

    def entries_of(numbers: torch.Tensor, rows: slice) -> list[torch.Tensor]:
        """The mean and the draw of the missing entries of one variable after the other."""
        each = [(name, shape) for name in gaps for shape in shapes[name]]
        pieces = numbers.split([shape.numel() for _, shape in each], 1)
        return [p.reshape(-1, *shape)[missing[n][rows]] for (n, shape), p in zip(each, pieces, strict=True)]

    blocks = Blocks(model, guide, batch, _ROWS, seed)
    evaluation = Evaluation(blocks, one_draw, calls=draws)
    means, drawn = [], []
    start = 0
    with blocks.running():
        for block in blocks if gaps else ():
            rows = slice(start, start := start + len(block[1]))
            one_by_one = [entries_of(evaluation(block), rows) for _ in range(draws)]
            stacked = [torch.stack(entries) for entries in zip(*one_by_one, strict=True)]
            means.append([each.mean(0) for each in stacked[::2]])
            drawn.append(stacked[1::2])
    return (
        dict(zip(gaps, (torch.cat(each) for each in zip(*means, strict=True)), strict=True)),
        dict(zip(gaps, (torch.cat(each, 1) for each in zip(*drawn, strict=True)), strict=True)),
    )
