"""The kinds of columns, and the rules by which ``heterogeneous`` recognises them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyro_lfm.data.remedies import remedy_for_strays, remedy_for_text, remedy_for_times, stray_texts
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.factors import Factor
from pyro_lfm.tables.columns import Column, first_few, numbers
from pyro_lfm.tables.kind_likelihoods import (
    gaussian,
    grid,
    levels,
    lognormal,
    negative_binomial,
    poisson_log_normal,
)
from pyro_lfm.tables.other_columns import OtherColumns

if TYPE_CHECKING:
    import pandas as pd

# A scale has at most this many levels, as that from 0 to 10 has.
_LEVELS = 11
# The gain in log-likelihood of a log-normal over a Gaussian that decides for it, nats per row.
_CLEARLY = 0.05
# The gains, in nats, that decide against counts: for levels and for a continuous distribution. Columns that are counts
# reach them in at most 1% of cases (tests/tables/test_kinds.py). The third is the gain of a Poisson-log-normal that decides
# for counts all the same: where its Poisson noise cannot be seen it is as likely as the log-normal.
_FOR_LEVELS, _FOR_CONTINUOUS, _FOR_MIXED_COUNTS = 2.0, 3.0, 0.5
# With fewer rows, where likelihoods say little, it is counts that need a gain against levels.
_FEW = 20
# A column of a CSV file without a name, as pandas and lfm.data.open name it.
_NAMELESS = "Unnamed: "
# Of more rows than these a part, spread evenly, is enough.
_MOST = 20_000


def recognise(series: pd.Series, others: OtherColumns | None = None) -> Column:
    """A column with the kind that its dtype and values suggest.

    Args:
        others: the columns of its table, which show how much it varies given the others.
    """
    from pandas.api import types

    remedy = remedy_for_times(series)
    if remedy is not None:
        raise _fault(series, f"times (dtype {series.dtype})", remedy)
    if types.is_complex_dtype(series):
        raise _fault(series, "complex numbers", "give real and imaginary part as two columns")
    if types.is_numeric_dtype(series.dtype):
        numbers(series)  # raises at infinite ones
    present = series.dropna()
    if not len(present):
        raise _fault(series, "no value at all", "leave it out")
    if str(series.name).startswith(_NAMELESS) and present.is_unique:
        raise _fault(
            series,
            "the names of the rows, as to_csv writes them without index=False",
            f"leave it out, frame = frame.drop(columns={series.name!r})",
        )
    category = _is_category(series)
    values = _distinct(present)
    if len(values) < 2:
        raise _fault(
            series,
            f"one value alone, {np.asarray(values)[:1].tolist()[0]!r}",
            "a constant column has no information: leave it out",
        )
    if category and series.cat.ordered and len(series.cat.categories) > 2:
        return KINDS["ordinal"](series, "an ordered category")
    if types.is_bool_dtype(series.dtype) or len(values) == 2:
        return KINDS["binary"](series, "two values")
    if category or not types.is_numeric_dtype(series.dtype):
        if len(values) > max(20, len(present) // 2):
            if (strays := stray_texts(series)) is not None:
                raise _fault(series, strays, remedy_for_strays(series))
            raise _fault(
                series,
                f"{len(values)} different labels in {len(present)} rows",
                remedy_for_text(series)
                or f"leave it out if it names rows, frame = frame.drop(columns={series.name!r}); else give "
                f'kinds={{{series.name!r}: "categorical"}}',
            )
        return KINDS["categorical"](series, "labels without order")
    return _numeric(series, others)


def _distinct(present: pd.Series) -> Sequence[Hashable]:
    """The different values of a column without missing ones."""
    if _is_category(present):
        return present.cat.remove_unused_categories().cat.categories
    try:
        return present.unique()
    except TypeError:
        raise _fault(
            present, f"values such as {present.iloc[0]!r}", "give numbers, labels or True and False"
        ) from None


def _numeric(series: pd.Series, others: OtherColumns | None) -> Column:
    x = numbers(series)
    x = x[~np.isnan(x)]
    if (x == x.round()).all() and np.abs(x).max() < 2**53:  # beyond, all numbers are whole
        return _whole(series, x, others)
    if x.min() <= 0:
        return KINDS["continuous"](series, f"numbers {x.min():.4g} to {x.max():.4g}, not all above 0")
    log_x = np.log(x)
    gain = np.log(x.std()) - np.log(log_x.std()) - log_x.mean()
    if gain > _CLEARLY:
        return KINDS["positive"](series, f"log-normal by {gain:.2g} nats per row over Gaussian")
    return KINDS["continuous"](series, f"numbers {x.min():.4g} to {x.max():.4g}, not clearly log-normal")


def _whole(series: pd.Series, x: np.ndarray, others: OtherColumns | None) -> Column:
    """The kind of whole numbers: levels of a scale, counts, or continuous ones that were rounded."""
    span, few = f"integers {x.min():.0f}..{x.max():.0f}", len(np.unique(x)) <= _LEVELS
    if x.min() < 0:
        words = "few enough to be levels" if few else "some below 0"
        return KINDS["ordinal" if few else "continuous"](series, f"{span}, {words}")
    x = x[:: -(-len(x) // _MOST)]
    count = negative_binomial(x)
    if few:
        gain = levels(x).score - count.score
        needed = _FOR_LEVELS if len(x) >= _FEW else -_FOR_LEVELS
        reason = _reason(gain, needed, "levels of a scale", count.words)
        return KINDS["ordinal" if gain > needed else "count"](series, f"{span}; {reason}")
    step, share = grid(x)
    normal, log_normal = gaussian(x, step, share), lognormal(x, step, share)
    is_positive = log_normal.score - normal.score > _CLEARLY * len(x)
    is_positive |= normal.score - count.score <= _FOR_CONTINUOUS < log_normal.score - count.score
    kind, best = ("positive", log_normal) if is_positive else ("continuous", normal)
    gain = best.score - count.score
    steps = "" if step == 1 else f" in steps of {step:.0f}" + ("" if share == 1 else f" ({share:.0%})")
    reason = _reason(gain, _FOR_CONTINUOUS, best.words, count.words)
    if gain > _FOR_CONTINUOUS:
        mixed = poisson_log_normal(x)
        if mixed.score - best.score > _FOR_MIXED_COUNTS:
            reason = _reason(best.score - mixed.score, _FOR_CONTINUOUS, best.words, mixed.words)
            return KINDS["count"](series, f"{span}; {reason}")
        return KINDS[kind](series, f"{span}{steps}; {reason}")
    if others is not None:
        spread = others.spread_given(series.name, numbers(series))
        if spread.gain > _FOR_CONTINUOUS:
            words = f"given the other columns its variance is {spread.dispersion:.2g} times that of counts"
            return KINDS[kind](series, f"{span}; {words}")
    return KINDS["count"](series, f"{span}; {reason}")


def _reason(gain: float, needed: float, other: str, count: str) -> str:
    """How the likelihoods decide between counts and another kind, in words."""
    nats = f"{abs(gain):.1f}" if abs(gain) < 100 else f"{abs(gain):.0f}"
    winner, loser = (other, count) if gain > 0 else (count, other)
    decides = (
        "" if (gain > 0) == (gain > needed) else f", too few against {winner if needed < 0 else 'counts'}"
    )
    return f"{winner} by {nats} nats over {loser}{decides}"


def of_kind(series: pd.Series, kind: str) -> Column:
    """A column with the kind that the user names.

    Raises:
        DeclarationError: an unknown kind.
        DataError: values that the kind cannot have.
    """
    if kind not in KINDS:
        raise DeclarationError(
            f"kinds[{series.name!r}] must be one of {', '.join(KINDS)}, or a factor; got {kind!r}"
        )
    return KINDS[kind](series, "as declared")


def own_factor(series: pd.Series, factor: Factor) -> Column:
    """A column for which the user gives a factor: numbers in their own units, anything else as codes."""
    from pandas.api import types

    why = f"{type(factor).__name__}, as declared"
    if types.is_numeric_dtype(series.dtype) and not types.is_bool_dtype(series.dtype):
        present = (x := numbers(series))[~np.isnan(x)]
        return Column(series.name, "own", why, series.dtype, whole=bool((present == present.round()).all()))
    return Column(series.name, "own", why, series.dtype, _levels(series))


def _continuous(series: pd.Series, why: str) -> Column:
    x = numbers(series)
    scale = float(np.nanstd(x))
    if not scale > 0:
        raise _fault(series, "no spread", "leave it out")
    present = x[~np.isnan(x)]
    whole = bool((present == present.round()).all())
    return Column(series.name, "continuous", why, series.dtype, None, float(np.nanmean(x)), scale, whole)


def _positive(series: pd.Series, why: str) -> Column:
    x = numbers(series)
    if not np.nanmin(x) > 0:
        raise _fault(
            series,
            f"{np.nanmin(x):.4g}, and positive numbers are above 0",
            f'kinds={{{series.name!r}: "continuous"}} takes any',
        )
    present = x[~np.isnan(x)]
    return Column(
        series.name,
        "positive",
        why,
        series.dtype,
        scale=float(np.exp(np.nanmean(np.log(x)))),  # the geometric mean
        whole=bool((present == present.round()).all()),
    )


def _count(series: pd.Series, why: str) -> Column:
    x = numbers(series)
    present = x[~np.isnan(x)]
    if not ((present == present.round()).all() and present.min() >= 0):
        raise _fault(
            series,
            "numbers that are no whole numbers of at least 0",
            f'kinds={{{series.name!r}: "continuous"}} takes any',
        )
    return Column(series.name, "count", why, series.dtype, whole=True)


def _labels(kind: str) -> Callable[[pd.Series, str], Column]:
    def make(series: pd.Series, why: str) -> Column:
        levels = _levels(series)
        if kind == "binary" and len(levels) != 2:
            raise _fault(series, f"{len(levels)} values, {first_few(levels)}", "binary columns have two")
        return Column(series.name, kind, f"{why}: {first_few(levels)}", series.dtype, levels)

    return make


def _levels(series: pd.Series) -> pd.Index:
    """The values in the order of their codes: the order of a pandas category, else sorted if they can be."""
    import pandas as pd

    if _is_category(series):
        # Labels without order that never occur are left out; levels of a scale keep their place in it.
        kept = series if series.cat.ordered else series.cat.remove_unused_categories()
        return pd.Index(list(kept.cat.categories), dtype=object)
    values = list(series.dropna().unique())
    try:
        values = sorted(values)
    except TypeError:
        values = sorted(values, key=str)
    return pd.Index(values, dtype=object)


def _is_category(series: pd.Series) -> bool:
    import pandas as pd

    return isinstance(series.dtype, pd.CategoricalDtype)


def _fault(series: pd.Series, got: str, remedy: str) -> DataError:
    return DataError(
        f"column {series.name!r} must hold numbers, labels or True and False; got {got}: {remedy}"
    )


KINDS: dict[str, Callable[[pd.Series, str], Column]] = {
    "continuous": _continuous,
    "positive": _positive,
    "count": _count,
    "binary": _labels("binary"),
    "categorical": _labels("categorical"),
    "ordinal": _labels("ordinal"),
}
