"""The table and the picture of the benchmark of training."""

from collections.abc import Callable, Iterable
from typing import Any

from pyro_lfm import plots
from rivals.contest import BY_HAND, LIMIT

NOTES = [
    "Speed: the median over epochs of the time by hand over the contestant's own in the same round; 1.00 is the "
    "loop by hand with torch.optim.Adam's defaults.",
    "Architectures are columns-hidden-factors: Bernoulli pixels, a diagonal q and one hidden layer each unless said "
    "otherwise; one draw of z per row. With equal parameters and noise the loss by hand equals that of pyro_lfm.",
    "The default engine compiles, after the first epoch, only where the rest of a fit is long enough to gain by it: its "
    "speed is that of one of the other two. The fits raced here are as short as their rounds.",
    "The matrix products are those of linear layers: forward, to the weights, and to the input where it is not data.",
    "Ratios depend on the machine; other work beside blurs them.",
]


def grid(columns: dict[str, dict], names: Iterable[str], cell: Callable[[Any], str]) -> list[str]:
    """A table of contestants by configurations, without contestants that took part in none."""
    lines = [["", *columns], ["---"] + ["---:"] * len(columns)]
    for name in names:
        if any(name in measured for measured in columns.values()):
            lines.append(
                [name, *(cell(measured[name]) if name in measured else "–" for measured in columns.values())]
            )
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def table(results: dict, names: Iterable[str], ours: Iterable[str]) -> str:
    lines = ["# Training: speed of a step, loop included, against PyTorch by hand", ""]
    for threads, measured in results["speed"].items():
        lines += [
            f"Speed, {threads} thread{'s' * (threads != '1')}; the first row is the time of a step:",
            "",
        ]
        lines += grid(measured, [BY_HAND], lambda f: f"{1000 * f['step']:.2f} ms")[:-1]
        lines += grid(measured, names, lambda f: f"{f['speed']:.2f}")[2:]
    first = next(iter(results["speed"].values()))
    lines += ["Peak memory of the process:", ""]
    lines += grid(first, [BY_HAND, *ours], lambda f: f"{f['peak_memory'] / 1e6:,.0f} MB")
    if results["first_epoch"]:
        lines += ["From the start to the end of the first epoch, compilation included:", ""]
        lines += grid(results["first_epoch"], [BY_HAND, *ours], lambda seconds: f"{seconds:.2f} s")
    if results["loop"]:
        lines += ["What the time of the eager engine consists of, per step:", ""]
        parts = next(iter(results["loop"].values()))
        lines += grid(results["loop"], parts, lambda seconds: f"{1e6 * seconds:,.0f} µs")
    notes = [*NOTES, *(f"{name}: {why}." for name, why in results["settings"]["notes"].items())]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def _scale_axes(panels, speeds: list[float], names: list[str]) -> None:
    """A logarithmic axis of speeds and an axis of names, shared by all panels."""
    for ax in panels:
        ax.set_visible(bool(ax.get_title(loc="left")))
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(labelsize=8, length=0, labelbottom=True)
    low, high = min(speeds) / 1.15, max(speeds) * 1.15
    ticks = [tick for tick in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32) if low <= tick <= high]
    panels[0].set(xscale="log", xlim=(low, high))
    panels[0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panels[0].set_xticks([], minor=True)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()


def picture(results: dict, names: Iterable[str], ours: Iterable[str]):
    """A panel per configuration, with bars from equal speed to the right for programs faster than the one by hand."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    runs, mine, limit, others = results["speed"], *plots.colours("ab"), "#8c8c8c"
    everything = [measured for configurations in runs.values() for measured in configurations.values()]
    names = [n for n in names if n not in (BY_HAND, LIMIT) and any(n in measured for measured in everything)]
    across = min(3, len(results["parameters"]))
    down = -(-len(results["parameters"]) // across)
    size = (2.3 + 2.8 * across, 0.7 + down * (0.6 + 0.28 * len(names)))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    for ax, configuration in zip(panels, results["parameters"], strict=False):
        for i, measured in enumerate(run[configuration] for run in runs.values()):
            height, alpha = 0.8 / len(runs), 1 - 0.5 * i
            for place, name in enumerate(names):
                y, label = place + (i + 0.5) * height - 0.4, "–"
                if name in measured:
                    speed, colour = measured[name]["speed"], mine if name in ours else others
                    ax.barh(y, speed - 1, left=1, height=0.9 * height, color=colour, alpha=alpha)
                    label = f"{speed:.2f}"
                ax.text(1.02, y, label, transform=ax.get_yaxis_transform(), fontsize=7, va="center")
            if LIMIT in measured:
                ax.axvline(measured[LIMIT]["speed"], color=limit, alpha=alpha)
        ax.axvline(1, color="black", linewidth=0.8)
        ax.set_title(configuration, fontsize=9, loc="left")
    _scale_axes(panels, [f["speed"] for measured in everything for f in measured.values()], names)
    # The legend names only what is drawn.
    sides = {"pyro_lfm": (mine, True), "others": (others, False)}
    keys = [
        Patch(color=c, label=who) for who, (c, own) in sides.items() if any((n in ours) is own for n in names)
    ]
    if any(LIMIT in measured for measured in everything):
        keys.append(Line2D([], [], color=limit, label=LIMIT))
    keys.append(Line2D([], [], color="black", linewidth=0.8, label=BY_HAND))
    if len(runs) > 1:
        keys += [Patch(color=others, alpha=1 - 0.5 * i, label=f"threads: {n}") for i, n in enumerate(runs)]
    style = {"loc": "outside upper left", "alignment": "left", "frameon": False, "fontsize": 8}
    figure.legend(handles=keys, ncols=len(keys), title=f"Speed of a step; {BY_HAND} = 1", **style)
    return figure
