"""The tables of the benchmark of training, in Markdown."""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from rivals.configuration import BY_HAND

from training.agreement import bounds_of, disagreements

NOTES = [
    "Speed: the median over epochs of the time by hand over the contestant's own in the same round; 1.00 is the "
    "loop by hand with torch.optim.Adam's defaults. Processor time is user and system time of all threads.",
    "Architectures are columns-hidden-factors: Bernoulli pixels, a diagonal q and one hidden layer each unless said "
    "otherwise; one draw of z per row, 50 under IWAE. With equal parameters and noise the loss by hand equals that of "
    "pyro_lfm.",
    "Races are as short as their rounds, and in them the default engine may stay eager: it compiles only where the rest "
    "of a fit is long enough to gain by it. Whole fits show it as users have it.",
    "A whole fit and a start begin in a new process with empty compiler caches. Time runs from the call, imports done, to "
    "its return.",
    "The matrix products are those of linear layers: forward, to the weights, and to the input where it is not data.",
    "Ratios depend on the machine; other work beside blurs them.",
]

Figures = dict[str, Any]


def grid(
    columns: dict[str, dict[str, Figures]], names: Iterable[str], cell: Callable[[Figures], str]
) -> list[str]:
    """A table of contestants by configurations, without contestants that took part in none."""
    lines = [["", *columns], ["---"] + ["---:"] * len(columns)]
    for name in names:
        if any(name in measured for measured in columns.values()):
            lines.append(
                [name, *(cell(measured[name]) if name in measured else "–" for measured in columns.values())]
            )
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def median_of_fit(figures: Figures, kind: str, fit: int = 0) -> float:
    """Over the repeats: "seconds" or "processor" of one fit of the process."""
    return statistics.median(repeat[fit] for repeat in figures[kind])


def _bounds(figures: Figures) -> str:
    if not (bounds := bounds_of(figures)):
        return "–"
    spread = f" ± {statistics.stdev(bounds):.2f}" if len(bounds) > 1 else ""
    return f"{statistics.mean(bounds):.2f}{spread}"


def _threads(number: str) -> str:
    return f"{number} thread{'s' * (number != '1')}"


def _steps(number: str, measured: dict[str, dict[str, Figures]], names: list[str]) -> list[str]:
    lines = [f"## Steps, {_threads(number)}", ""]
    for kind, time in (("seconds", "wall"), ("processor", "processor")):
        lines += [f"Speed by {time} time; the first row is the time of a step:", ""]
        lines += grid(measured, [BY_HAND], lambda f, kind=kind: f"{1000 * f[kind]:.3g} ms")[:-1]
        lines += grid(measured, names, lambda f, kind=kind: f"{f[f'speed_{kind}']:.2f}")[2:]
    lines += ["Training bound of the last epoch, in nats per row:", ""]
    lines += grid(measured, names, lambda f: "–" if f["bound"] is None else f"{f['bound']:.2f}")
    lines += ["Peak memory of the process:", ""]
    return lines + grid(measured, names, lambda f: f"{f['memory'] / 1e6:,.0f} MB")


def _fits(number: str, measured: dict[str, dict[str, Figures]], names: list[str]) -> list[str]:
    lines = [f"## Whole fits, {_threads(number)}", "", "Wall time (processor time), medians:", ""]
    lines += grid(measured, names, _time)
    lines += [
        "Training bound of the last epoch, in nats per row, mean and standard deviation over seeds:",
        "",
    ]
    return lines + grid(measured, names, _bounds)


def _starts(number: str, measured: dict[str, dict[str, Figures]], names: list[str]) -> list[str]:
    lines = [
        f"## Starts, {_threads(number)}",
        "",
        "A fit of one epoch in a new process, then one of a second such model; wall time (processor time), medians:",
        "",
    ]
    return lines + grid(measured, names, lambda f: f"{_time(f)}, {_time(f, 1)}")


def _time(figures: Figures, fit: int = 0) -> str:
    wall, processor = (median_of_fit(figures, kind, fit) for kind in ("seconds", "processor"))
    return f"{wall:.2f} s ({processor:.2f})"


def table(results: dict, names: list[str]) -> str:
    lines = ["# Training, against PyTorch by hand, Pyro, NumPyro and pythae", ""]
    for kind, section in (("steps", _steps), ("fits", _fits), ("starts", _starts)):
        for number, measured in sorted(results[kind].items()):
            lines += section(number, measured, names)
    if results["loop"]:
        lines += ["## What the time of the eager engine consists of, per step, one thread", ""]
        parts = next(iter(results["loop"].values()))
        columns = {c: {part: {"seconds": s} for part, s in own.items()} for c, own in results["loop"].items()}
        lines += grid(columns, parts, lambda f: f"{1e6 * f['seconds']:,.0f} µs")
    notes = [*NOTES, *(f"{name}: {why}." for name, why in results["notes"].items()), *disagreements(results)]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"
