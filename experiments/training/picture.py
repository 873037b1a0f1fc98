"""The picture of the benchmark of training: a panel per configuration, a row per contestant."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rivals.configuration import BY_HAND, LIMIT

from pyro_lfm import plots

# A page shows the picture about 9 inches wide: at this width, sizes are those that a reader sees.
WIDTH, FONT, ROW = 9.0, 9.5, 0.2
LIMIT_COLOUR = "#8c8c8c"


def _short(name: str) -> str:
    """The name of a contestant without what all readers of the table know."""
    return name.replace(", as in the tutorial", "").replace(", an epoch in lax.fori_loop", "")


def _panel(ax: Axes, runs: dict[str, dict], configuration: str, names: list[str], colours: list[str]) -> None:
    """A filled mark for the first number of threads, an open one for the second, and both numbers beside them."""
    for place, name in enumerate(names):
        labels = []
        for filled, measured in zip((True, False), runs.values(), strict=False):
            speed = measured.get(configuration, {}).get(name, {}).get("speed_seconds")
            labels.append("–" if speed is None else f"{speed:.2f}")
            if speed is None:
                continue
            style = {
                "color": colours[place],
                "markersize": 6,
                "markerfacecolor": colours[place] if filled else "white",
            }
            if filled:
                ax.plot([1, speed], [place, place], color=colours[place], linewidth=2, alpha=0.5)
            ax.plot(speed, place, "o" if filled else "D", **style)
        ax.text(
            1.02, place, "  ".join(labels), transform=ax.get_yaxis_transform(), fontsize=FONT, va="center"
        )
    ax.axvline(1, color="black", linewidth=0.8)
    for line, measured in zip(("-", ":"), runs.values(), strict=False):
        if limit := measured.get(configuration, {}).get(LIMIT):
            ax.axvline(limit["speed_seconds"], color=LIMIT_COLOUR, linestyle=line)
    ax.set_title(configuration.replace(", 784-400-20", ""), fontsize=FONT + 0.5, loc="left")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(labelsize=FONT, length=0, labelbottom=True)


def _axes(ax: Axes, speeds: list[float], names: list[str]) -> None:
    """The scales, which all panels share."""
    low, high = min([*speeds, 0.9]) / 1.2, max([*speeds, 1.1]) * 1.2
    ticks = [tick for tick in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32) if low <= tick <= high]
    # Of many only every second one, so that the numbers stay apart.
    ticks = [tick for i, tick in enumerate(ticks) if len(ticks) <= 6 or (i - ticks.index(1)) % 2 == 0]
    ax.set(xscale="log", xlim=(low, high), ylim=(len(names) - 0.4, -0.6))
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_yticks(range(len(names)), [_short(name) for name in names])


def _legend(figure: Figure, runs: dict[str, dict], mine: str, others: str) -> None:
    keys = [
        Line2D([], [], color=colour, marker="o", linewidth=2, label=label)
        for colour, label in ((mine, "pyro_lfm"), (others, "others"))
    ]
    for marker, line, number in zip("oD", ("-", ":"), runs, strict=False):
        face = "black" if marker == "o" else "white"
        label = f"{number} thread{'s' * (number != '1')}"
        keys.append(
            Line2D([], [], color="black", marker=marker, markerfacecolor=face, linestyle="", label=label)
        )
        keys.append(Line2D([], [], color=LIMIT_COLOUR, linestyle=line, label=f"products, {label}"))
    title = (
        f"Speed of a step by wall time; {BY_HAND} = 1. Beside it the speed with {' and '.join(runs)} threads"
    )
    figure.legend(
        handles=keys, ncols=3, title=title, fontsize=FONT, title_fontsize=FONT + 0.5,
        loc="outside upper left", alignment="left", frameon=False,
    )  # fmt: skip


def picture(steps: dict[str, dict], names: list[str], ours: list[str]) -> Figure:
    """The speeds of at most two numbers of threads, panels in two columns.

    Args:
        steps: figures by number of threads, configuration and contestant.
        names: the contestants in their order.
        ours: those of pyro_lfm.
    """
    runs = dict(sorted(steps.items())[:2])
    configurations = list(dict.fromkeys(c for measured in runs.values() for c in measured))
    raced = [m for measured in runs.values() for m in measured.values()]
    names = [n for n in names if n not in (BY_HAND, LIMIT) and any(n in m for m in raced)]
    mine, others = plots.colours("ab")
    colours = [mine if name in ours else others for name in names]
    down = -(-len(configurations) // 2)
    size = (WIDTH, 1.1 + down * (0.65 + ROW * len(names)))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(down, 2, sharex=True, sharey=True, squeeze=False).flatten()
    for ax in panels[len(configurations) :]:
        ax.set_visible(False)
    for ax, configuration in zip(panels, configurations, strict=False):
        _panel(ax, runs, configuration, names, colours)
    _axes(panels[0], [f["speed_seconds"] for m in raced for f in m.values()], names)
    _legend(figure, runs, mine, others)
    return figure
