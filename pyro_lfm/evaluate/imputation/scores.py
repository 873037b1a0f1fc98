"""Scores of imputed entries: numbers by error, coverage and CRPS, labels by accuracy and log score."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class NumberScores:
    """Scores of the hidden numbers of one variable. Errors are over rows, as entries of a row may depend on each other.

    Attributes:
        entries: M, the number of hidden entries.
        rmse, rmse_error: root mean squared error in the units of x.
        baseline_rmse: that of the column's mean.
        standardised, standardised_error: the same with each entry divided by the standard deviation of its column.
        baseline_standardised: that of the column's mean, about 1.
        gain, gain_error: the mean squared standardised error of the column's mean minus that of the imputed values, paired
            by entry.
        mae: mean absolute error in the units of x.
        crps, crps_error: continuous ranked probability score, ``E|x̃ − x| − ½ E|x̃ − x̃′|``, divided by the standard
            deviations. Smaller is better.
        baseline_crps: that of the values of the column that were not hidden.
        levels: levels of the intervals, (L,).
        coverage, coverage_error: the share of entries inside, (L,).
        width: the mean width of the intervals in standard deviations, (L,).
        columns: standardised error of each entry of the event, (D,). NaN where none was hidden.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
    >>> z, noise = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).split([1, 3], 1)
    >>> fit = lfm.fit(model, z + noise, lfm.EM(), seed=0, progress=False)
    >>> scores = lfm.evaluate.imputation_scores(fit, draws=20, levels=(0.5, 0.9)).variables["x"]
    >>> scores.entries, scores.coverage.shape, scores.standardised < 1.5
    (41, torch.Size([2]), True)
    """

    entries: int
    rmse: float
    rmse_error: float
    baseline_rmse: float
    standardised: float
    standardised_error: float
    baseline_standardised: float
    gain: float
    gain_error: float
    mae: float
    crps: float
    crps_error: float
    baseline_crps: float
    levels: tuple[float, ...]
    coverage: Tensor
    coverage_error: Tensor
    width: Tensor
    columns: Tensor

    @property
    def calibrated(self) -> Tensor:
        """True for the levels whose coverage is within three errors of the level, (L,).

        The error is the larger of the binomial error and the error over the rows.
        """
        level = torch.tensor(self.levels, dtype=self.coverage.dtype)
        binomial = (level * (1 - level) / self.entries).sqrt()
        return (self.coverage - level).abs() <= 3 * torch.maximum(binomial, self.coverage_error)


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Scores of the hidden labels, levels, or 0 and 1 of one variable. Errors are over rows.

    Attributes:
        entries: M, the number of hidden entries.
        accuracy, accuracy_error: the share of right values.
        baseline_accuracy: that of the column's most frequent value.
        gain, gain_error: the accuracy minus the baseline accuracy, paired by entry.
        confidence: the mean probability of the imputed values. Calibrated probabilities have a confidence equal to the
            accuracy.
        log_score, log_score_error: mean log probability of the hidden values, nats. Larger is better.
        baseline_log_score: that of the frequencies of the column.
        columns: accuracy of each entry of the event, (D,). NaN where none was hidden.

    >>> import pyro_lfm as lfm, torch
    >>> model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Bernoulli(3, logits=lfm.Linear()))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()))
    >>> scores = lfm.evaluate.imputation_scores((model, guide), model.sample(60, seed=0)["x"], draws=20).variables["x"]
    >>> scores.entries, 0.0 <= scores.accuracy <= 1.0, scores.columns.shape
    (41, True, torch.Size([3]))
    """

    entries: int
    accuracy: float
    accuracy_error: float
    baseline_accuracy: float
    gain: float
    gain_error: float
    confidence: float
    log_score: float
    log_score_error: float
    baseline_log_score: float
    columns: Tensor


@dataclass(frozen=True)
class Hidden:
    """The M hidden entries of a variable, with the values of their columns that were not hidden.

    Attributes:
        truth: the true values, (M,).
        row, column: their positions, (M,).
        size: D columns.
        seen: the data, (N, D), NaN where an entry was hidden or missing.
    """

    truth: Tensor
    row: Tensor
    column: Tensor
    size: int
    seen: Tensor


def number_scores(
    hidden: Hidden, value: Tensor, ends: Tensor, crps: Tensor, levels: tuple[float, ...]
) -> NumberScores:
    """Scores of imputed numbers, (M,), with the ends of their intervals, (2, L, M), and their CRPS, (M,), in units of x."""
    seen, column = hidden.seen, hidden.column
    count = (~seen.isnan()).sum(0)
    mean = seen.nan_to_num(0.0).sum(0) / count
    spread = ((seen - mean).square().nan_to_num(0.0).sum(0) / (count - 1)).sqrt()
    # A constant column has no unit. Standardised scores leave its entries out.
    unit = torch.where(spread > 0, spread, torch.nan)[column]
    off, base = value - hidden.truth, mean[column] - hidden.truth
    square = off.square()
    rmse, rmse_error = _root(*_over_rows(square, hidden.row))
    standardised, standardised_error = _root(*_over_rows(square / unit.square(), hidden.row))
    score, score_error = _over_rows(crps / unit, hidden.row)
    marginal = _crps_of_columns(hidden) / unit
    slack = 1e-5 * hidden.truth.abs()  # rows may be in single precision
    inside = (hidden.truth >= ends[0] - slack) & (hidden.truth <= ends[1] + slack)
    covered = [_over_rows(each.double(), hidden.row) for each in inside]
    return NumberScores(
        len(value),
        rmse,
        rmse_error,
        float(base.square().nanmean().sqrt()),
        standardised,
        standardised_error,
        float((base / unit).square().nanmean().sqrt()),
        *_over_rows((base.square() - square) / unit.square(), hidden.row),
        float(off.abs().mean()),
        score,
        score_error,
        float(marginal.nanmean()),
        levels,
        torch.tensor([share for share, _ in covered], dtype=torch.float64),
        torch.tensor([error for _, error in covered], dtype=torch.float64),
        ((ends[1] - ends[0]) / unit).nanmean(1),
        _by_column(square / unit.square(), hidden).sqrt(),
    )


def label_scores(hidden: Hidden, value: Tensor, probabilities: Tensor) -> LabelScores:
    """Scores of imputed labels, (M,), and of the probabilities of the C values, (M, C)."""
    truth, every = hidden.truth.long(), torch.arange(probabilities.shape[1], device=value.device)
    right = (value.long() == truth).double()
    tiny = torch.finfo(torch.float64).tiny
    log_p = probabilities.double().gather(1, truth.unsqueeze(1)).squeeze(1).clamp_min(tiny).log()
    # Half a row is added to each value, so that an unseen value is not impossible.
    counts = (hidden.seen.unsqueeze(-1) == every).double().sum(0) + 0.5
    frequencies = (counts / counts.sum(-1, keepdim=True))[hidden.column]
    accuracy, accuracy_error = _over_rows(right, hidden.row)
    score, score_error = _over_rows(log_p, hidden.row)
    common = (frequencies.argmax(1) == truth).double()
    return LabelScores(
        len(value),
        accuracy,
        accuracy_error,
        float(common.mean()),
        *_over_rows(right - common, hidden.row),
        float(probabilities.gather(1, value.long().unsqueeze(1)).mean()),
        score,
        score_error,
        float(frequencies.gather(1, truth.unsqueeze(1)).log().mean()),
        _by_column(right, hidden),
    )


def fair_crps(draws: Tensor, truth: Tensor) -> Tensor:
    """E|x̃ − x| − ½ E|x̃ − x̃′| of sorted draws (S, M), unbiased for any number of them.

    >>> fair_crps(torch.tensor([[0.0], [1.0]]), torch.tensor([0.0]))  # ½ − ½
    tensor([0.])
    """
    count = len(draws)
    rank = 2 * torch.arange(count, dtype=draws.dtype, device=draws.device) - (count - 1)
    spread = (rank.unsqueeze(1) * draws).sum(0) / (count * (count - 1))
    return (draws - truth).abs().mean(0) - spread


def _crps_of_columns(hidden: Hidden) -> Tensor:
    """The CRPS of the seen values of each column as a forecast, (M,), by sums of sorted values."""
    crps = torch.full_like(hidden.truth, torch.nan)
    for d in hidden.column.unique().tolist():
        own = hidden.column == d
        column = hidden.seen[:, d]
        values, truth = column[~column.isnan()].sort().values, hidden.truth[own]
        count = len(values)
        if count < 2:
            continue
        sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
        below = torch.searchsorted(values, truth)
        apart = truth * (2 * below - count) - 2 * sums[below] + sums[-1]
        crps[own] = apart / count + fair_crps(values.unsqueeze(1), values.new_zeros(1)) - values.abs().mean()
    return crps


def _over_rows(value: Tensor, row: Tensor) -> tuple[float, float]:
    """The mean of the entries that are not NaN, and its standard error, clustered by row."""
    known = ~value.isnan()
    value, row = value[known].double(), row[known]
    if not len(value):
        return float("nan"), float("nan")
    mean = value.mean()
    _, place = row.unique(return_inverse=True)
    off = value.new_zeros(int(place.max()) + 1).index_add_(0, place, value - mean)
    rows = len(off)
    if rows == 1:
        return float(mean), float("nan")
    return float(mean), float((off.square().sum() * rows / (rows - 1)).sqrt() / len(value))


def _root(mean: float, error: float) -> tuple[float, float]:
    """The root of a mean of squares, and its error."""
    root = mean**0.5
    return root, error / (2 * root) if root else 0.0


def _by_column(value: Tensor, hidden: Hidden) -> Tensor:
    """Means over the hidden entries of each column, (D,)."""
    known = ~value.isnan()
    sums = value.new_zeros(2, hidden.size)
    sums.index_add_(1, hidden.column[known], torch.stack([value, torch.ones_like(value)])[:, known])
    return sums[0] / sums[1]
