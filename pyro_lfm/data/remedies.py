"""Remedies in error messages, for columns that hold no real numbers."""

from __future__ import annotations

import datetime
import re
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import sparray

_LABELS = (
    "give labels a factor of their own: c=lfm.Categorical(C), or an lfm.Covariate with "
    "support=constraints.integer_interval(0, C - 1), which take them as they are; or lfm.heterogeneous(frame)"
)


# Dates as text, such as 2020-01-31, 31.1.2020 or 1/31/2020, with or without a time.
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T]\d.*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d\d)([ T]\d.*)?"
)
_SINCE_FIRST = ".pipe(lambda t: (t - t.min()) / numpy.timedelta64(1, 'D'))"
_DAYS = ".pipe(lambda t: t / numpy.timedelta64(1, 'D'))"


# Numbers as text that need more than a conversion: their pattern, and what is replaced in them.
_WRITTEN_OTHERWISE = {
    "decimal commas": (r"-?\d+(,\d+)?", ((",", "."),)),
    "dots between thousands": (r"-?\d{1,3}(\.\d{3})*(,\d+)?", ((".", ""), (",", "."))),
    "commas between thousands": (r"-?\d{1,3}(,\d{3})*(\.\d+)?", ((",", ""),)),
}


def remedy_for_times(series: pd.Series) -> str | None:
    """The line of code that makes numbers of a column of dates, times or durations; None if it holds none."""
    from pandas.api import types

    cells = f"frame[{series.name!r}]"
    if types.is_datetime64_any_dtype(series.dtype):
        return f"give the days since the first: {cells} = {cells}{_SINCE_FIRST}"
    if getattr(series.dtype, "kind", "") == "m":
        return f"give numbers of days: {cells} = {cells}{_DAYS}"
    if hasattr(series.dtype, "freq"):  # periods
        return f"give the days since the first: {cells} = {cells}.dt.to_timestamp(){_SINCE_FIRST}"
    present = series.dropna()
    if len(present) and isinstance(present.iloc[0], datetime.timedelta):
        return f"give numbers of days: {cells} = pandas.to_timedelta({cells}){_DAYS}"
    if len(present) and isinstance(present.iloc[0], datetime.date):
        return f"give the days since the first: {cells} = pandas.to_datetime({cells}){_SINCE_FIRST}"
    return _remedy_for_dates_as_text(present, cells)


def _remedy_for_dates_as_text(present: pd.Series, cells: str) -> str | None:
    import pandas as pd

    texts = present.tolist() if not pd.api.types.is_numeric_dtype(present.dtype) else []
    if not texts or not all(isinstance(text, str) and _DATE.fullmatch(text.strip()) for text in texts):
        return None
    for option in ("", ", dayfirst=True", ', format="mixed"'):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                given = {"dayfirst": True} if "day" in option else {"format": "mixed"} if option else {}
                pd.to_datetime(present, **given)
        except (ValueError, TypeError, OverflowError, UserWarning):
            continue
        return f"dates as text: give the days since the first: {cells} = pandas.to_datetime({cells}{option}){_SINCE_FIRST}"
    return None


def remedy_for(values: np.ndarray | torch.Tensor | pd.Series | sparray) -> str:
    """A remedy that works for these values."""
    dtype = values.dtype
    if hasattr(values, "dropna") and (remedy := remedy_for_times(values)) is not None:
        return remedy
    if isinstance(dtype, torch.dtype) or getattr(dtype, "kind", "") == "c":
        return "give real and imaginary part as columns of their own, .real and .imag"
    kind = getattr(dtype, "kind", "O")
    if kind == "M":
        return (
            "times are no numbers: give the days since the first of them, "
            "as (t - t.min()) / numpy.timedelta64(1, 'D') does, or leave them out"
        )
    if kind == "m":
        return "durations are no numbers: divide them by a unit, as t / numpy.timedelta64(1, 'D') does"
    if hasattr(values, "cat"):
        return f"{_LABELS}; .cat.codes gives their numbers, -1 where missing"
    if hasattr(values, "dropna") and (remedy := remedy_for_text(values)) is not None:
        return remedy
    if _are_numbers(values):
        return "its entries are numbers as text or objects: .astype(float) converts them"
    return f"{_LABELS}; numbers with units or signs in their text must be cleaned first, missing ones written as nan"


def remedy_for_text(series: pd.Series) -> str | None:
    """The line of code that makes numbers of a column of numbers as text, or booleans of objects; None for other text."""
    cells, present = f"frame[{series.name!r}]", series.dropna()
    if present.map(lambda value: isinstance(value, bool)).all():
        return f'True, False and None as objects: {cells} = {cells}.astype("boolean")'
    if _are_numbers(present):
        return f"its entries are numbers as text or objects: {cells} = {cells}.astype(float)"
    if not present.map(lambda value: isinstance(value, str)).all():
        return None
    for words, (pattern, steps) in _WRITTEN_OTHERWISE.items():
        if present.map(re.compile(pattern).fullmatch).notna().all():
            code = "".join(f'.str.replace("{old}", "{new}")' for old, new in steps)
            return f"its entries are numbers with {words}: {cells} = {cells}{code}.astype(float)"
    strays = stray_texts(series)
    return strays and f"it holds {strays}: {remedy_for_strays(series)}"


def stray_texts(series: pd.Series) -> str | None:
    """The few texts in a column of numbers, such as "about 70", in words; None unless most of its entries are numbers."""
    import pandas as pd

    entries = series.astype(object)
    present = entries.dropna()
    if not present.map(lambda value: isinstance(value, (str, int, float))).all():
        return None
    rows = np.flatnonzero(entries.notna() & pd.to_numeric(entries, errors="coerce").isna())
    if not 0 < 2 * len(rows) < len(present):
        return None
    first = f"the first {entries.iloc[rows[0]]!r} in row {rows[0]}"
    return f"numbers but for {len(rows)} of {len(present)} entries, {first}"


def remedy_for_strays(series: pd.Series) -> str:
    """How to be rid of a few texts in a column of numbers."""
    cells = f"frame[{series.name!r}]"
    return f'correct them, or make them missing: {cells} = pandas.to_numeric({cells}, errors="coerce")'


def _are_numbers(values: np.ndarray | pd.Series | sparray) -> bool:
    if hasattr(values, "tocsr"):
        return False
    try:
        np.asarray(values).astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True
