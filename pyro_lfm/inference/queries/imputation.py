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
from pyro_lfm.inference.blocks import Blocks, Evaluation, TableRows, side_by_side
from pyro_lfm.inference.queries.filling import run_filling
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.shapes import number

# Rows of one block. Only their missing entries are kept.
_ROWS = 1024


@dataclass(frozen=True)
class Imputation:
    """Rows with their missing entries filled in, and draws of these entries.

    Attributes:
        values: {observed: ``(N, *event)``}. Observed entries are as they came, bit for bit, in the type of the rows. A
            missing number is its posterior predictive mean, or the median of the draws where its distribution has no mean. A
            missing label, level or binary entry is the most probable one.
        missing: {observed: ``(N, *event)``}, True where an entry was missing.
        drawn: {observed: (S, M)}: draws of the M missing entries from their posterior predictive distribution, observation
            noise included, in the order of ``values[name][missing[name]]``.
        probabilities: {observed: (M, levels)}: the probability of each label or level of the missing entries.
        frames: {observed: DataFrame or Series}, for data that came so: missing cells filled in, dtypes and labels kept.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> z, noise = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> done = lfm.fit(model, z + 0.1 * noise, lfm.EM(), seed=0, progress=False)
    >>> filled = done.impute(torch.tensor([[1.0, 1.0, float("nan")]]), draws=100, seed=0)
    >>> filled.values["x"].round(decimals=1), filled.drawn["x"].shape
    (tensor([[1., 1., 1.]]), torch.Size([100, 1]))
    >>> low, high = filled.interval(0.9)
    >>> bool(low["x"][0, 2] < filled.values["x"][0, 2] < high["x"][0, 2])
    True
    """

    values: dict[str, torch.Tensor]
    missing: dict[str, torch.Tensor]
    drawn: dict[str, torch.Tensor]
    probabilities: dict[str, torch.Tensor]
    frames: dict[str, Any] = field(default_factory=dict)

    @property
    def draws(self) -> dict[str, torch.Tensor]:
        """{observed: ``(S, N, *event)``}: draws of whole rows, whose observed entries are the same in all draws."""
        return {name: self.with_missing(name, drawn) for name, drawn in self.drawn.items()}

    def with_missing(self, name: str, entries: torch.Tensor) -> torch.Tensor:
        """The rows of a variable, ``(..., N, *event)``, with ``entries`` (..., M) in place of its missing ones.

        >>> gap = torch.tensor([[False, True]])
        >>> rows = Imputation({"x": torch.tensor([[1.0, 2.0]])}, {"x": gap}, {}, {})
        >>> rows.with_missing("x", torch.tensor([5.0]))
        tensor([[1., 5.]])
        """
        whole = self.values[name].expand(*entries.shape[:-1], *self.values[name].shape).clone()
        whole[..., self.missing[name]] = entries.to(whole.dtype)
        return whole

    def interval(self, level: float = 0.9) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The lower and upper ends, {observed: ``(N, *event)``}, of intervals that hold a missing entry with this
        probability.

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


def impute(
    model: AnyModel, guide: AnyGuide, rows: Batch | TableRows, draws: int, seed: int, table: Table
) -> Imputation:
    """Draws of the missing entries of each modelled variable. Beyond the result memory does not grow with the rows.

    Args:
        draws: S.
        table: the rows as they came, from which the observed entries are taken.
    """
    names = [name for name in model.observed if name not in model.covariates]
    as_given = table.take(torch.arange(len(table)), None, model.device)
    values, missing, probabilities = {}, {}, {}
    for name in names:
        values[name] = as_given.pop(name)
        missing[name] = values[name].isnan()
    means, drawn = _draw_missing(model, guide, rows, missing, draws, seed)
    for name, mean in means.items():
        if mean.dim() > 1:
            probabilities[name], mean = mean, mean.argmax(-1)
        elif isinstance(entrywise(model.observed[name].support), type(constraints.boolean)):
            mean = mean.round()
        elif not bool((known := mean.isfinite()).all()):
            mean = mean.where(known, drawn[name].median(0).values)
        # The wider of the two types holds the observed entries exactly.
        values[name] = values[name].to(torch.promote_types(values[name].dtype, model.dtype))
        values[name][missing[name]] = mean.to(values[name].dtype)
    whole: dict[str, torch.Tensor] = values if table.frame is None else NamedRows(values, table.frame)
    frames = {
        name: refilled(table.containers[name], table.schema[name], values[name], missing[name])
        for name in names
        if name in table.containers
    }
    nothing = torch.zeros(draws, 0, dtype=model.dtype, device=model.device)
    by_name = {name: drawn.get(name, nothing) for name in names}
    return Imputation(whole, missing, by_name, probabilities, frames)


def _draw_missing(
    model: AnyModel,
    guide: AnyGuide,
    rows: Batch | TableRows,
    missing: dict[str, torch.Tensor],
    draws: int,
    seed: int,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The mean (M,) and the draws (S, M) of the missing entries of each variable that has some.

    Of labels and levels the mean is the probability of each, (M, levels). Compiled where there is much to do.

    Args:
        missing: by name, True where an entry is missing.
    """
    gaps = {name: int(entries.sum()) for name, entries in missing.items() if bool(entries.any())}
    shapes: dict[str, list[torch.Size]] = {}

    def one_draw(part: Batch) -> torch.Tensor:
        filling = run_filling(model, guide, part, [*missing])
        shapes.update({name: [each.shape[1:] for each in filling.gaps[name]] for name in gaps})
        return torch.cat([each.reshape(part.size, -1) for name in gaps for each in filling.gaps[name]], 1)

    blocks = Blocks(model, guide, rows, _ROWS, seed)
    copies = blocks.copies(draws, _ROWS)
    evaluation = Evaluation(blocks, one_draw, calls=-(-draws // copies), copies=copies)
    results = {name: _Entries(draws, count) for name, count in gaps.items()}
    start = 0
    with blocks.running():
        for block in blocks if gaps else ():
            here = slice(start, start := start + len(block[1]))
            for name, entries in results.items():
                entries.next_block(missing[name][here])
            repeated = side_by_side(block, copies)
            for first in range(0, draws, copies):
                numbers = evaluation(repeated)
                widths = [each.numel() for name in gaps for each in shapes[name]]
                for draw, own in enumerate(numbers.split(len(block[1]))[: draws - first], first):
                    pieces = iter(own.split(widths, 1))
                    for name, entries in results.items():
                        entries.add(draw, next(pieces), next(pieces), shapes[name])
    means = {name: entries.means() for name, entries in results.items()}
    return means, {name: entries.drawn for name, entries in results.items()}


class _Entries:
    """The missing entries of one variable: their draws (S, M), and the sums of their means, which blocks are written into.

    Args:
        draws: S.
        count: M.
    """

    drawn: torch.Tensor
    _sums: torch.Tensor

    def __init__(self, draws: int, count: int):
        self._draws, self._count = draws, count
        self._end = 0
        self._allocated = False

    def next_block(self, missing: torch.Tensor) -> None:
        """The next rows of the variable, True where an entry is missing."""
        self._places = missing.flatten().nonzero().squeeze(1)
        self._here = slice(self._end, self._end + len(self._places))
        self._end = self._here.stop

    def add(self, draw: int, mean: torch.Tensor, value: torch.Tensor, shapes: list[torch.Size]) -> None:
        """A draw of these rows: means and values of all entries, (B, ...), of rows of these two shapes."""
        of_mean, of_value = shapes
        mean = mean.reshape(-1, *of_mean[len(of_value) :])
        if not self._allocated:
            self._sums = mean.new_zeros(self._count, *mean.shape[1:])
            self.drawn = value.new_empty(self._draws, self._count)
            self._allocated = True
        self._sums[self._here] += mean.index_select(0, self._places)
        torch.index_select(value.reshape(-1), 0, self._places, out=self.drawn[draw, self._here])

    def means(self) -> torch.Tensor:
        """E[x_missing | x_observed] of each entry, the mean over the draws; of labels the probability of each."""
        return self._sums.div_(self._draws)
