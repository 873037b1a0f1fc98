"""How training scales: microseconds per row and epoch against the numbers of rows, columns, factors and draws.

    python experiments/benchmark_scaling.py
    python experiments/benchmark_scaling.py --engines compiled --most-rows 1000000
    python experiments/benchmark_scaling.py --only files --gigabytes 10 --large .parquet
    python experiments/benchmark_scaling.py --quick

First, rows in files (scaling/stored_rows.py): peak of anonymous memory, rows per second against rows in memory, from 10⁴ to
10⁷ rows × 64, one epoch over a file of --gigabytes (10), and a file that is sorted by label. It needs free disk of twice
--gigabytes in --folder, where one file at a time is made and removed; --gigabytes 0 leaves the large file out.

Then the sweeps: a Gaussian autoencoder with one hidden layer is fitted to rows that stay in a file, a NumPy memory map that
is made in a temporary folder and deleted after use. One number varies at a time, and the engines take turns. What counts is
a whole epoch, the median of the later half of them, so that compilation and the first touch of anything are behind.

Set OMP_NUM_THREADS=1 to measure one core. Writes table.md, results.json and scaling.png into the folder named by --out.
"""

import argparse
import json
import statistics
import time
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scaling import stored_rows

import pyro_lfm as lfm
from pyro_lfm import plots

HIDDEN, BATCH = 64, 256
ROWS_SEEN = 200_000  # in all epochs of a fit after the first, where an epoch has no more


@dataclass(frozen=True)
class Point:
    rows: int = 20_000
    columns: int = 32
    factors: int = 8
    draws: int = 1
    full: bool = False  # covariance of q(z | x)


FULL = Point(full=True)
# Title: the base point, the number that varies, its values, and those of --quick.
SWEEPS = {
    "rows N": (Point(), "rows", [10**k for k in range(3, 8)], [1_000, 10_000]),
    "columns D": (Point(), "columns", [8, 32, 128, 512, 2048], [8, 32]),
    "factors K": (Point(), "factors", [2, 4, 8, 16, 32, 64], [2, 4]),
    "factors K, full covariance": (FULL, "factors", [2, 4, 8, 16, 32, 64], [2, 4]),
    "draws S": (Point(), "draws", [1, 2, 4, 8, 16, 32], [1, 4]),
}


def make_file(folder: str, rows: int, columns: int) -> Path:
    """Noise, written block by block."""
    file = Path(folder) / "x.npy"
    x = np.lib.format.open_memmap(file, "w+", np.float32, (rows, columns))
    draw = np.random.default_rng(0).standard_normal
    for start in range(0, rows, 65_536):
        x[start : start + 65_536] = draw((min(65_536, rows - start), columns), np.float32)
    x.flush()
    return file


def declare(point: Point) -> tuple[lfm.Model, lfm.Guide]:
    observed = lfm.Gaussian(point.columns, mean=lfm.MLP(HIDDEN))
    model = lfm.Model(z=lfm.StandardNormal(point.factors), x=observed)
    covariance = lfm.Full() if point.full else lfm.Diagonal()
    return model, lfm.Guide(model, z=lfm.Gaussian(covariance=covariance, network=lfm.MLP(HIDDEN)))


def cost(point: Point, x: np.ndarray, engine: str) -> dict[str, float]:
    """Seconds per row of an epoch, and of the first pass over all data before it."""
    warnings.simplefilter("error", lfm.CompilationWarning)  # eager steps under another name are no result
    torch.manual_seed(0)
    model, guide = declare(point)
    epochs = 1 + min(50, max(1, ROWS_SEEN // point.rows))
    objective = lfm.ELBO(particles=point.draws)
    inference = lfm.SVI(guide, objective=objective, epochs=epochs, batch_size=BATCH, engine=engine)
    began = time.perf_counter()
    fit = lfm.fit(model, x, inference, seed=0, progress=False, device="cpu")
    whole = time.perf_counter() - began
    seconds = [record["seconds"] for record in fit.history]
    epoch = statistics.median(seconds[(len(seconds) + 1) // 2 :])
    return {"epoch": epoch / point.rows, "before": (whole - sum(seconds)) / point.rows, "epochs": epochs}


def measure(args: argparse.Namespace) -> dict[str, dict]:
    """{sweep: {engine: {value: cost}}}."""
    for engine in args.engines:
        cost(Point(rows=BATCH), np.zeros((BATCH, Point.columns), np.float32), engine)  # to warm up
    results: dict[str, dict] = {title: {engine: {} for engine in args.engines} for title in SWEEPS}
    for title, (base, name, values, few) in SWEEPS.items():
        for value in few if args.quick else [v for v in values if name != "rows" or v <= args.most_rows]:
            point = replace(base, **{name: value})
            if args.quick and name != "rows":
                point = replace(point, rows=1_000)
            with TemporaryDirectory(dir=args.folder) as folder:
                x = np.load(make_file(folder, point.rows, point.columns), mmap_mode="r")
                repeats = 1 if args.quick or point.rows > 10**6 else args.repeats
                measured = [
                    {engine: cost(point, x, engine) for engine in args.engines} for _ in range(repeats)
                ]
                del x  # before its file
            for engine in args.engines:
                medians = {k: statistics.median(f[engine][k] for f in measured) for k in measured[0][engine]}
                results[title][engine][value] = medians
                print(f"{title} = {value:,}, {engine}: {1e6 * medians['epoch']:.2f} µs per row", flush=True)
    return results


# Tables and pictures -----------------------------------------------------------------------------------------


def table(results: dict[str, dict]) -> str:
    lines = [f"# Training: µs per row and epoch, batches of {BATCH}", ""]
    for title, engines in results.items():
        head = [title, *engines]
        rows = {
            value: [f"{1e6 * measured[value]['epoch']:.2f}" for measured in engines.values()]
            for value in next(iter(engines.values()))
        }
        if title == "rows N":
            head.append("before the first epoch")
            for value, cells in rows.items():
                before = statistics.median(measured[value]["before"] for measured in engines.values())
                cells.append(f"{1e6 * before:.2f}")
        lines += [head, ["---:"] * len(head), *([f"{value:,}", *cells] for value, cells in rows.items()), ""]
    text = [line if isinstance(line, str) else f"| {' | '.join(line)} |" for line in lines]
    base = Point()
    notes = [
        f"{base.rows:,} rows, {base.columns} columns, {base.factors} factors, {base.draws} draw and a diagonal "
        f"covariance of q where they do not vary; networks with {HIDDEN} hidden units.",
        "The rows are in a file that was just written: the system still holds what fits into memory.",
        "Before the first epoch a fit looks at all the rows once, for infinite and missing values.",
        "Columns are engines. Times depend on the machine; other work beside blurs them.",
    ]
    return "\n".join([*text, *(f"- {note}" for note in notes)]) + "\n"


def picture(results: dict[str, dict]):
    from matplotlib.figure import Figure

    engines = list(next(iter(results.values())))
    figure = Figure(figsize=(7.6, 5.6), dpi=150, layout="constrained")
    panels = figure.subplots(2, 3, sharey=True).flatten()
    for ax, (title, sweep) in zip(panels, results.items(), strict=False):
        for engine, colour in zip(engines, plots.colours(engines), strict=True):
            values, costs = zip(
                *((v, 1e6 * measured["epoch"]) for v, measured in sweep[engine].items()), strict=True
            )
            ax.plot(values, costs, color=colour, marker="o", markersize=4, label=engine)
        ax.set(xscale="log", yscale="log")
        ax.set_title(title, fontsize=10, loc="left")
        if title != "rows N":
            ax.set_xticks(values, [f"{value}" for value in values])
        ax.set_xticks([], minor=True)
        ax.set_yticks([], minor=True)
        ax.tick_params(labelsize=9, length=0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#dddddd", linewidth=0.6)
    low, high = np.array(ax.get_ylim()) * (0.8, 1.25)
    ticks = [tick for power in range(-2, 6) for tick in (1 * 10**power, 2 * 10**power, 5 * 10**power)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    ax.set_yticks(ticks, [f"{tick:,g}" for tick in ticks])
    ax.set_ylim(low, high)
    for ax in panels[::3]:
        ax.set_ylabel("µs per row", fontsize=9)
    panels[-1].axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[-1].legend(handles, labels, title="engine", loc="center", frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rows: to see that all works")
    parser.add_argument("--engines", nargs="+", help="of lfm.SVI; eager and compiled by default")
    parser.add_argument("--repeats", type=int, default=3, help="of which times are medians, up to 10⁶ rows")
    parser.add_argument("--most-rows", type=int, default=10**7, help="where the sweep over rows ends")
    parser.add_argument("--folder", help="where the file of rows is made; a temporary folder by default")
    parser.add_argument("--gigabytes", type=float, default=10.0, help="of the large file; 0 leaves it out")
    parser.add_argument("--large", default=".npy", choices=[".npy", ".parquet", ".zarr"], help="its format")
    parser.add_argument("--only", choices=["files", "sweeps"], help="one part of the measurements")
    parser.add_argument("--out", default="runs/benchmark_scaling", help="folder of the results")
    args = parser.parse_args()
    args.engines = args.engines or ["eager", "compiled"][: 1 if args.quick else 2]
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    files = stored_rows.measure(args) if args.only != "sweeps" else None
    results = measure(args) if args.only != "files" else {}
    record = {
        "settings": vars(args),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl", "numpy")},
        "seconds_per_row": results,
        "files": files,
    }
    text = (table(results) if results else "") + ("\n" + "\n".join(stored_rows.table(files)) if files else "")
    (out / "table.md").write_text(text, encoding="utf-8")
    (out / "results.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    if results:
        picture(results).savefig(out / "scaling.png")
    print(f"\n{text}\nThe table, every number and the picture are in {out}/")


if __name__ == "__main__":
    main()
