"""The bound by epoch, for each guide or fit. Histories of several kinds as records by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pyro_lfm.comparison import Comparison
from pyro_lfm.errors import ShapeError
from pyro_lfm.inference.fitted import Fit
from pyro_lfm.plots.style import FAINT, PAGE, QUIET, as_words, colours, new_figure, plain_axes, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# The most characters of a name at the end of a line.
_LONGEST = 28
# The records of one fit, as ``fit.history``.
History: TypeAlias = Sequence[Mapping[str, Any]]
# One history, or several by name.
Histories: TypeAlias = Fit | Comparison | History | Mapping[str, Fit | History]


def bounds(
    histories: Histories,
    *,
    validation: str = "held out",
    title: str | None = "Evidence bound by epoch",
) -> Figure:
    """The bound of each guide by epoch: training solid, validation dashed, each line named at its end.

    The vertical axis shows where the guides differ. It leaves out first epochs far below, and a guide far below all others,
    whose name is written at the bottom with an arrow.

    Args:
        histories: a ``Fit``, its ``fit.history``, {guide: either}, or the result of ``lfm.compare``, of which the first seed
            is drawn. Records have epoch, bound and validation_bound (NaN or None where it was not measured).
        validation: the name of the dashed lines.

    >>> record = {"epoch": 1, "bound": -3.0, "validation_bound": float("nan")}
    >>> bounds({"mean-field": [record]}).axes[0].get_ylabel()
    'nats per row'
    """
    named = histories_of(histories, "bound")
    figure = new_figure(PAGE, 4.2, layout=None)
    ax = plain_axes(figure)
    ends, seen = [], []
    for (name, history), colour in zip(named.items(), colours(named), strict=True):
        training = _curve(history, "bound")
        held_out = _curve(history, "validation_bound")
        marker = "o" if len(training[0]) < 2 else None
        ax.plot(*training, color=colour, linewidth=1.8, marker=marker, solid_capstyle="round")
        if len(held_out[0]):
            dot = 3.0 if len(held_out[0]) < 20 else 0.0
            ax.plot(
                *held_out,
                color=colour,
                linewidth=1.4,
                linestyle=(0, (4, 2)),
                marker="o",
                markersize=dot,
            )
        seen.append([curve for curve in (training, held_out) if len(curve[0])])
        ends.append((float(training[1][-1]), name, colour))
    ax.set_ylim(*_readable(seen))
    epochs = np.concatenate([x for curves in seen for x, _ in curves])
    ax.set_xlim(epochs.min(), max(epochs.max(), epochs.min() + 1))
    end_labels(ax, ends)
    ax.set_xlabel("epoch", color=QUIET)
    ax.set_ylabel("nats per row", color=QUIET)
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    dashed = any(len(_curve(history, "validation_bound")[0]) for history in named.values())
    if dashed:
        ax.plot([], [], color=QUIET, linewidth=1.8, label="training")
        ax.plot([], [], color=QUIET, linewidth=1.4, linestyle=(0, (4, 2)), label=validation)
        ax.legend(loc="lower right", frameon=False, labelcolor=QUIET, fontsize=9, handlelength=2.6)
    set_title(ax, title)
    # Margins are set by hand, as a layout engine ignores the names at the right.
    numbers = ax.yaxis.get_major_formatter().format_ticks(list(ax.get_yticks()))
    left, right = 0.5 + 0.075 * max(map(len, numbers)), room_for_names(named)
    ax.set_position((left / PAGE, 0.6 / 4.2, (PAGE - left - right) / PAGE, 3.15 / 4.2))
    return figure


def histories_of(histories: Histories, *keys: str) -> dict[str, History]:
    """Histories by name: those of a fit, of several, of a comparison, or plain records.

    Args:
        keys: the keys that records must have besides epoch.

    Raises:
        ShapeError: another type, no record, or no record with a finite number under one of the keys.
    """
    if isinstance(histories, Comparison):
        seed = histories.seeds[0]
        histories = {name: own[seed] for name, own in histories.histories.items() if own.get(seed)}
    named = histories if isinstance(histories, Mapping) else {"": histories}
    records_of = {str(n): each.history if isinstance(each, Fit) else each for n, each in named.items()}
    for name, records in records_of.items():
        whole = isinstance(records, Sequence) and all(isinstance(record, Mapping) for record in records)
        if not whole or not records:
            got = "no record" if whole else type(records).__name__
            raise ShapeError(
                "histories must be a Fit, a fit.history of at least one record, or {name: either}; got "
                f"{got}{f' for {name}' * bool(name)}"
            )
        for key in ("epoch", *keys):
            if not any(_is_number(record.get(key)) for record in records):
                raise ShapeError(
                    f"the history{f' of {name}' * bool(name)} must have records with {key}, a finite number; it has "
                    f"{', '.join(map(str, records[0])) or 'nothing'}"
                )
    if not records_of:
        raise ShapeError("histories must hold at least one record; got none")
    return records_of


def _is_number(value: float | None) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _curve(history: History, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values of the records with a number under a key."""
    pairs = [(record["epoch"], record[key]) for record in history if _is_number(record.get(key))]
    table = np.array(pairs, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _readable(guides: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> tuple[float, float]:
    """Vertical limits that show the last four fifths of every guide's curves, without guides far below all others."""
    ranges = []
    for curves in guides:
        last = max(x[-1] for x, _ in curves)
        late = np.concatenate([y[x >= min(0.2 * last, x[-1])] for x, y in curves])
        ranges.append((float(late.max()), float(late.min())))
    ranges.sort(reverse=True)
    top, bottom = ranges[0]
    for high, low in ranges[1:]:
        if high < bottom - 2 * (top - bottom):
            break
        bottom = min(bottom, low)
    margin = 0.06 * (top - bottom) or 1.0
    return bottom - margin, top + margin


def room_for_names(names: Iterable[str]) -> float:
    """Inches to the right of axes for the names at the ends of their lines, with their values."""
    return 0.3 + 0.08 * (max(len(_shortened(name)) for name in names) + 8)


def _shortened(name: str) -> str:
    """A name without its middle where it is long. Long names often differ at their ends."""
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half:]}"


def end_labels(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Writes names at the ends of lines, moved apart where they would overlap."""
    low, high = ax.get_ylim()
    gap = 0.062
    ordered = sorted(ends)
    places: list[float] = []
    for value, _, _ in ordered:
        place = max((value - low) / (high - low), 0.02)
        places.append(max(place, places[-1] + gap) if places else place)
    # Names above the top move down again, and their neighbours with them.
    limit = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], limit)
        limit = places[i] - gap
    for place, (value, name, colour) in zip(places, ordered, strict=True):
        label = f"{as_words(_shortened(name))}  {value:.1f}{'' if value > low else ' ↓'}".replace(
            "  -", "  −"
        )
        ax.annotate(label, (1.015, place), xycoords="axes fraction", color=colour, fontsize=10, va="center")
