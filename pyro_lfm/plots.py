"""Pictures of fits: bounds by epoch, reconstructions, draws, walks along factors, maps of the latent space.

Each function returns a ``matplotlib.figure.Figure`` of its own (``figure.savefig("name.png")``) and touches no
global state of matplotlib. Whatever comes as {guide: ...} keeps one colour per guide from picture to picture, as
long as the guides come in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pyro import poutine

from pyro_lfm.data.batch import Batch
from pyro_lfm.errors import DeclarationError, ShapeError
from pyro_lfm.runtime import Stream, isolated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (2008), told apart by every kind of colour vision; yellow is left out: too light on white.
GUIDES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
# Petroff's ten colours (2021) for classes.
CLASSES = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
INK, QUIET, FAINT = "#222222", "#767676", "#dddddd"
_GUTTER = 0.12  # between the pictures of a mosaic, as a fraction of a picture's side


def bounds(
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    validation: str = "held out",
    title: str | None = "Evidence bound by epoch",
) -> Figure:
    """The bound of each guide by epoch: training solid, validation dashed, each line named at its end.

    The vertical axis shows where the guides differ: the first epochs, far below, run out of the picture, and so does
    a guide that is far below all others; its name then stands at the bottom with an arrow.

    Args:
        histories: guide -> its history, as ``fit.history``: records with epoch, bound and validation_bound (NaN
            or None where it was not measured).
        validation: what the dashed lines are called.

    >>> record = {"epoch": 1, "bound": -3.0, "validation_bound": float("nan")}
    >>> bounds({"mean-field": [record]}).axes[0].get_ylabel()
    'nats per row'
    """
    if not histories or not all(histories.values()):
        raise ShapeError("histories must map each guide to at least one record, as in {'full': fit.history}")
    figure = _figure(8.0, 4.2, layout=None)
    ax = _axes(figure)
    ends, seen = [], []
    for (name, history), colour in zip(histories.items(), colours(histories), strict=True):
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
                clip_on=False,
            )
        seen.append([curve for curve in (training, held_out) if len(curve[0])])
        ends.append((float(training[1][-1]), name, colour))
    ax.set_ylim(*_readable(seen))
    epochs = np.concatenate([x for curves in seen for x, _ in curves])
    ax.set_xlim(epochs.min(), max(epochs.max(), epochs.min() + 1))
    _end_labels(ax, ends)
    ax.set_xlabel("epoch", color=QUIET)
    ax.set_ylabel("nats per row", color=QUIET)
    ax.grid(axis="y", color=FAINT, linewidth=0.6)
    dashed = any(len(_curve(history, "validation_bound")[0]) for history in histories.values())
    if dashed:
        ax.plot([], [], color=QUIET, linewidth=1.8, label="training")
        ax.plot([], [], color=QUIET, linewidth=1.4, linestyle=(0, (4, 2)), label=validation)
        ax.legend(loc="lower right", frameon=False, labelcolor=QUIET, fontsize=9, handlelength=2.6)
    _title(ax, title)
    # Margins set by hand: the names at the right are outside of what a layout engine reckons with.
    numbers = ax.yaxis.get_major_formatter().format_ticks(list(ax.get_yticks()))
    left, right = 0.5 + 0.075 * max(map(len, numbers)), 0.3 + 0.075 * (max(map(len, histories)) + 8)
    width, height = 6.0 + left + right, 4.2
    figure.set_size_inches(width, height)
    ax.set_position((left / width, 0.6 / height, 6.0 / width, (height - 1.05) / height))
    return figure


def gallery(
    images: Any, *, shape: Sequence[int] | None = None, columns: int | None = None, title: str | None = None
) -> Figure:
    """Pictures side by side, dark ink on white.

    Args:
        images: (N, D) with ``shape``, or (N, H, W), or (N, C, H, W) with one or three channels; values in [0, 1].
        shape: (H, W) or (C, H, W) of one picture, where the rows are flat.
        columns: how many to a row; by default as square as it goes.

    >>> gallery(torch.rand(6, 64), shape=(8, 8), columns=3).axes[0].images[0].get_array().shape
    (17, 26, 3)
    """
    pictures = _pictures(images, shape, "images")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    blocks = {"": pictures}
    return _mosaic(blocks, columns, title, [INK])


def prior_draws(
    draws: Any,
    *,
    shape: Sequence[int] | None = None,
    columns: int = 12,
    title: str | None = "Drawn from the model",
) -> Figure:
    """Pictures that models make up: one block of rows for each guide with which the model was trained.

    Args:
        draws: {guide: images}, or the images of one model; as for ``gallery``.

    >>> figure = prior_draws({"mean-field": torch.rand(4, 64), "full": torch.rand(4, 64)}, shape=(8, 8), columns=4)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['mean-field', 'full']
    """
    named = draws if isinstance(draws, Mapping) else {"": draws}
    blocks = {name: _pictures(images, shape, name or "draws") for name, images in named.items()}
    return _mosaic(blocks, columns, title, colours(blocks))


def reconstructions(
    originals: Any,
    by_guide: Mapping[str, Any],
    *,
    shape: Sequence[int] | None = None,
    title: str | None = "What a few factors keep of rows never seen",
) -> Figure:
    """Pictures in the first row, and below them what each guide's model makes of them.

    Args:
        originals: as for ``gallery``.
        by_guide: {guide: images}, as many as there are originals and in their order.

    >>> figure = reconstructions(torch.rand(5, 64), {"full": torch.rand(5, 64)}, shape=(8, 8))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['original', 'full']
    """
    blocks = {"original": _pictures(originals, shape, "originals")}
    for name, images in by_guide.items():
        blocks[name] = _pictures(images, shape, name)
        if len(blocks[name]) != len(blocks["original"]):
            raise ShapeError(
                f"{name} must have one picture for each of the {len(blocks['original'])} originals; "
                f"got {len(blocks[name])}"
            )
    return _mosaic(blocks, len(blocks["original"]), title, [INK, *colours(by_guide)])


def factor_walk(
    fit: Any,
    *,
    shape: Sequence[int] | None = None,
    start: torch.Tensor | None = None,
    steps: int = 9,
    reach: float = 2.5,
    factors: int | None = None,
    title: str | None = "A walk along each factor",
) -> Figure:
    """E[x | z] while one factor runs and the others stay: one row of pictures per factor.

    The factors come in the order of how much they move the picture; those of the last rows, which move nothing, are
    factors that the model does not use.

    Args:
        fit: a ``Fit`` of a model with one latent, a vector, and one observed variable.
        shape: (H, W) or (C, H, W) of one picture, where the rows are flat.
        start: (K,) where the walks cross, such as the posterior mean of a row; by default the prior's mean.
        steps, reach: how many pictures, from −reach to +reach standard deviations of the prior around its mean.
        factors: show only so many.

    >>> import pyro_lfm as lfm
    >>> model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Bernoulli(16, logits=lfm.MLP(8)))
    >>> guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    >>> fit = lfm.fit(model, torch.ones(20, 16), lfm.SVI(guide, steps=1), seed=0, progress=False)
    >>> sorted(label.get_text() for label in factor_walk(fit, shape=(4, 4), steps=5).axes[0].get_yticklabels())
    ['$z_{1}$', '$z_{2}$']
    """
    model = fit.model
    if len(model.latents) != 1 or len(model.observed) != 1:
        raise DeclarationError(
            "factor_walk needs a model with one latent and one observed variable; this one has "
            f"{', '.join(model.latents)} and {', '.join(model.observed)}"
        )
    (name,), (seen,) = model.latents, model.observed
    prior = model.sample(2000, seed=0)[name]
    if prior.dim() != 2:
        raise ShapeError(f"{name} must be a vector of factors; its event shape is {tuple(prior.shape[1:])}")
    centre, spread = prior.mean(0), prior.std(0)
    origin = centre if start is None else torch.as_tensor(start).to(prior)
    if origin.shape != centre.shape:
        raise ShapeError(f"start must have shape {tuple(centre.shape)}; got {tuple(origin.shape)}")
    offsets = torch.linspace(-reach, reach, steps).to(prior)
    walks = origin.repeat(len(centre), steps, 1)
    for k in range(len(centre)):
        walks[k, :, k] = centre[k] + offsets * spread[k]
    batch = Batch(size=len(centre) * steps)
    batch.index = batch.index.to(model.device)
    with isolated(Stream(0, model.device), model.device), torch.no_grad():
        program = poutine.condition(model, data={name: walks.flatten(0, 1)})
        trace: Any = poutine.trace(program).get_trace(batch)
    means = trace.nodes[seen]["fn"].mean
    effect = means.reshape(len(centre), steps, -1).std(1).square().mean(1).sqrt()
    order = effect.argsort(descending=True)[:factors].tolist()
    pictures = _pictures(means, shape, seen)
    pictures = pictures.reshape(len(centre), steps, *pictures.shape[1:])
    blocks = {f"$z_{{{k + 1}}}$": pictures[k] for k in order}
    figure = _mosaic(blocks, steps, title, [INK] * len(blocks), gap=0.0, label_width=0.3, bottom=0.5)
    ax, pitch = figure.axes[0], pictures.shape[3] + _gutter(pictures)
    ticks = sorted({0, steps // 2, steps - 1})
    ax.set_xticks([i * pitch + pictures.shape[3] / 2 - 0.5 for i in ticks])
    words = [f"{offsets[i]:+.1f}".replace("-", "−") if abs(offsets[i]) > 1e-6 else "0" for i in ticks]
    ax.set_xticklabels(words, color=QUIET, fontsize=9)
    ax.set_xlabel("standard deviations of the prior", color=QUIET, fontsize=9)
    return figure


def latent_map(
    means: Any,
    labels: Any,
    *,
    names: Sequence[str] | None = None,
    title: str | None = "The latent space, coloured by label",
) -> Figure:
    """Posterior means of rows in the plane, coloured by label, each class named where its rows lie.

    More than two factors are projected onto their first two principal components.

    Args:
        means: (N, K) with K ≥ 2, or {guide: (N, K)} for a panel each.
        labels: (N,) integers, 0 to C − 1.
        names: of the classes; by default their numbers.

    >>> figure = latent_map(torch.randn(30, 5), torch.arange(30) % 3, names=["ant", "bee", "cat"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['ant', 'bee', 'cat']
    """
    named = means if isinstance(means, Mapping) else {"": means}
    classes = _array(labels).astype(int)
    if names is not None and classes.max() >= len(names):
        raise ShapeError(f"names must name {classes.max() + 1} classes; got {len(names)}")
    columns = min(2, len(named))
    rows = math.ceil(len(named) / columns)
    figure = _figure(4.2 * columns, 4.2 * rows + 0.3)
    shades = colours(named)
    for place, (name, values) in enumerate(named.items()):
        points, share = _plane(_array(values), name or "means")
        if len(points) != len(classes):
            raise ShapeError(f"labels must have shape ({len(points)},), one per row; got {classes.shape}")
        ax = figure.add_subplot(rows, columns, place + 1)
        _scatter(ax, points, classes, names)
        if name:
            ax.set_title(name, color=shades[place], fontsize=11, loc="left")
        if share is not None:
            ax.set_xlabel(
                f"first two principal components, {share:.0%} of the variance", color=QUIET, fontsize=8
            )
    if title:
        figure.suptitle(title, color=INK, fontsize=12, x=0.008, ha="left")
    return figure


def colours(names: Iterable[str]) -> list[str]:
    """One colour per name, by its place.

    >>> colours(["mean-field", "full"])
    ['#0072B2', '#E69F00']
    """
    return [GUIDES[i % len(GUIDES)] for i, _ in enumerate(names)]


# Parts ---------------------------------------------------------------------------------------------------


def _figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'pyro_lfm[plot]'") from error
    return Figure(figsize=(width, height), dpi=150, layout=layout, facecolor="white")


def _axes(figure: Figure) -> Axes:
    ax = figure.add_subplot()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.tick_params(colors=QUIET, labelsize=9, length=0)
    ax.set_axisbelow(True)
    return ax


def _title(ax: Axes, title: str | None) -> None:
    if title:
        ax.set_title(title, color=INK, fontsize=12, loc="left", pad=10)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _curve(history: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values, where there are any."""
    pairs = [(record["epoch"], record[key]) for record in history if record.get(key) is not None]
    pairs = [(epoch, value) for epoch, value in pairs if math.isfinite(value)]
    table = np.array(pairs, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _readable(guides: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]) -> tuple[float, float]:
    """Limits that hold the last four fifths of every guide's curves.

    A guide far below the others would flatten their differences to nothing: it is left out of the picture.
    """
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


def _end_labels(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names at the lines' ends, pushed apart where they would overlap."""
    low, high = ax.get_ylim()
    gap = 0.062
    ordered = sorted(ends)
    places: list[float] = []
    for value, _, _ in ordered:
        place = max((value - low) / (high - low), 0.02)
        places.append(max(place, places[-1] + gap) if places else place)
    # What was pushed above the top comes back down, taking its neighbours along.
    limit = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], limit)
        limit = places[i] - gap
    for place, (value, name, colour) in zip(places, ordered, strict=True):
        words = f"{name}  {value:.1f}{'' if value > low else ' ↓'}".replace("  -", "  −")
        ax.annotate(words, (1.015, place), xycoords="axes fraction", color=colour, fontsize=10, va="center")


def _pictures(images: Any, shape: Sequence[int] | None, what: str) -> np.ndarray:
    """(N, H, W, 3) in [0, 1], with ink dark on white for pictures of one channel."""
    array = _array(images).astype(float)
    if array.ndim == 2:
        if shape is None:
            raise ShapeError(
                f"{what} are flat rows {array.shape}: name the picture's shape, as in shape=(28, 28)"
            )
        if array.shape[1] != math.prod(shape):
            raise ShapeError(
                f"{what} must have {math.prod(shape)} columns for shape {tuple(shape)}; got {array.shape[1]}"
            )
        array = array.reshape(len(array), *shape)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not len(array):
        raise ShapeError(
            f"{what} must be pictures (N, H, W) or (N, C, H, W) with one or three channels; got {array.shape}"
        )
    array = np.clip(array, 0, 1).transpose(0, 2, 3, 1)
    return np.repeat(1 - array, 3, axis=3) if array.shape[3] == 1 else array


def _gutter(pictures: np.ndarray) -> int:
    return max(1, round(_GUTTER * pictures.shape[-2]))


def _mosaic(
    blocks: Mapping[str, np.ndarray],
    columns: int,
    title: str | None,
    shades: Sequence[str],
    *,
    gap: float = 1.5,
    label_width: float = 0.0,
    bottom: float = 0.15,
) -> Figure:
    """Blocks of pictures below each other, each named at its left, as one image on one pair of axes."""
    first = next(iter(blocks.values()))
    height, width = first.shape[1:3]
    gutter = _gutter(first)
    extra = round(gap * gutter) if len(blocks) > 1 else 0
    counts = [math.ceil(len(pictures) / columns) for pictures in blocks.values()]
    columns = min(columns, max(len(pictures) for pictures in blocks.values()))
    tall = sum(counts) * (height + gutter) - gutter + extra * (len(blocks) - 1)
    canvas = np.ones((tall, columns * (width + gutter) - gutter, 3))
    top, middles = 0, []
    for pictures, count in zip(blocks.values(), counts, strict=True):
        for i, picture in enumerate(pictures):
            y, x = top + i // columns * (height + gutter), i % columns * (width + gutter)
            canvas[y : y + height, x : x + width] = picture
        middles.append(top + (count * (height + gutter) - gutter) / 2 - 0.5)
        top += count * (height + gutter) + extra
    side = 0.62 / max(height, width)  # inches per pixel
    if any(blocks) and not label_width:
        label_width = 0.1 + 0.08 * max(map(len, blocks))
    left = 0.15 + label_width
    top_margin, margin = 0.45 if title else 0.15, 0.15
    across, down = canvas.shape[1] * side, canvas.shape[0] * side
    whole = left + max(across, 0.1 * len(title or "")) + margin, top_margin + down + bottom
    figure = _figure(*whole, layout=None)
    ax = figure.add_axes((left / whole[0], bottom / whole[1], across / whole[0], down / whole[1]))
    ax.imshow(canvas, interpolation="nearest", aspect="auto")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_xticks([])
    if any(blocks):
        ax.set_yticks(middles, list(blocks))
        for tick, colour in zip(ax.get_yticklabels(), shades, strict=True):
            tick.set(color=colour, fontsize=10)
    else:
        ax.set_yticks([])
    _title(ax, title)
    return figure


def _plane(values: np.ndarray, what: str) -> tuple[np.ndarray, float | None]:
    """Points (N, 2), and the share of the variance they keep where they are a projection."""
    if values.ndim != 2 or values.shape[1] < 2:
        raise ShapeError(f"{what} must have shape (N, K) with K of at least 2; got {values.shape}")
    if values.shape[1] == 2:
        return values, None
    centred = values - values.mean(0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    # Each axis points to where its largest entry is positive, so that maps do not flip from run to run.
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    return centred @ axes.T, float((sizes[:2] ** 2).sum() / (sizes**2).sum())


def _scatter(ax: Axes, points: np.ndarray, classes: np.ndarray, names: Sequence[str] | None) -> None:
    from matplotlib.patheffects import withStroke

    size = float(np.clip(16000 / len(points), 8, 22))
    shades = np.array([CLASSES[c % len(CLASSES)] for c in classes])
    # In a random order, so that no class lies on top of all others.
    order = np.random.default_rng(0).permutation(len(points))
    ax.scatter(points[order, 0], points[order, 1], c=shades[order], s=size, linewidths=0, alpha=0.75)
    found = np.unique(classes)
    places = np.stack([np.median(points[classes == c], axis=0) for c in found])
    for c, (x, y) in zip(found, _apart(places, np.ptp(points, axis=0)), strict=True):
        ax.text(
            x,
            y,
            names[c] if names is not None else str(c),
            color=INK,
            fontsize=9,
            fontweight="bold",
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color(FAINT)


def _apart(places: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """Places of words moved up and down a little, until none covers another."""
    places, room = places.copy(), np.array([0.12, 0.04]) * extent
    for _ in range(100):
        moved = False
        for i in range(len(places)):
            for j in range(i):
                step = places[i] - places[j]
                if (np.abs(step) < room).all():
                    push = (room[1] - abs(step[1])) / 2 + 1e-3 * room[1]
                    direction = 1 if step[1] >= 0 else -1
                    places[i, 1] += direction * push
                    places[j, 1] -= direction * push
                    moved = True
        if not moved:
            break
    return places
