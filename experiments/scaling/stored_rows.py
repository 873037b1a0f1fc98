"""What training on files costs, for ``benchmark_scaling.py``: memory, rows per second against memory, and sorted files."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from scaling import one_fit

COLUMNS = 64
CHILD = Path(__file__).with_name("one_fit.py")


# Whether fits run in this process, where only the way counts and not the numbers.
here = False


def child(**options) -> dict:
    """What one fit in a process of its own measured."""
    if here:
        return (one_fit.bounds if "test" in options else one_fit.fit)(**options)
    done = subprocess.run(
        [sys.executable, CHILD, json.dumps(options, default=str)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"a fit failed: {options}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def make_rows(path: Path, rows: int) -> Path:
    """Noise as .npy, written piece by piece; the same million rows over and over, as noise takes long to draw."""
    x = np.lib.format.open_memmap(path, "w+", np.float32, (rows, COLUMNS))
    draws = np.random.default_rng(0).standard_normal((min(rows, 2**20), COLUMNS), np.float32)
    for start in range(0, rows, len(draws)):
        x[start : start + len(draws)] = draws[: rows - start]
    x.flush()
    return path


def convert(path: Path, ending: str) -> Path:
    """The rows of a .npy file in another format, written piece by piece."""
    x, out = np.load(path, mmap_mode="r"), path.with_suffix(ending)
    pieces = [x[start : start + 2**17] for start in range(0, len(x), 2**17)]
    if ending == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(f"c{k}", pa.float32()) for k in range(COLUMNS)])
        with pq.ParquetWriter(out, schema) as writer:
            for piece in pieces:  # a row group each
                writer.write_table(pa.table([piece[:, k] for k in range(COLUMNS)], schema=schema))
    elif ending == ".zarr":
        import zarr

        array = zarr.create_array(str(out), shape=x.shape, dtype=x.dtype, chunks=(4096, COLUMNS))
        for number, piece in enumerate(pieces):
            array[number * 2**17 : number * 2**17 + len(piece)] = piece
    else:
        import anndata
        import pandas as pd

        obs, var = (pd.DataFrame(index=pd.Index([f"{k}" for k in range(n)], dtype=object)) for n in x.shape)
        anndata.AnnData(np.asarray(x), obs, var).write_h5ad(out)
    return out


def per_row(measured: dict, what: str) -> float:
    """Microseconds per row of an epoch, after the first, in which the step is compiled."""
    later = measured[what][1:] or measured[what]
    return 1e6 * statistics.median(later) / measured["rows"]


def against_memory(folder: str, rows: int, rounds: int, endings: list[str], engine: str) -> dict:
    """{where the rows are: [fit of each round]}, in turn."""
    file = make_rows(Path(folder) / "x.npy", rows)
    files = {ending: convert(file, ending) for ending in endings}
    contestants = {"in memory": {"path": file, "in_memory": True}, ".npy": {"path": file, "block": 256}}
    contestants |= {ending: {"path": path, "block": 256} for ending, path in files.items()}
    results: dict = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, options in contestants.items():
            # A buffer smaller than the rows, so that a small file is read in blocks too.
            buffer = {} if name == "in memory" else {"buffer": min(rows // 4, 2**19)}
            results[name].append(child(**options, **buffer, engine=engine, epochs=3))
            print(
                f"{rows:,} rows, {name}: {per_row(results[name][-1], 'processor'):.2f} µs processor time a row",
                flush=True,
            )
    return results


def growing(folder: str, numbers: list[int], engine: str) -> dict:
    """{number of rows: fit}, of files in blocks of 256."""
    results = {}
    for rows in numbers:
        path = make_rows(Path(folder) / f"x{rows}.npy", rows)
        results[rows] = child(path=path, block=256, engine=engine, epochs=1 + max(1, min(20, 10**6 // rows)))
        path.unlink()
        anonymous = results[rows]["anonymous"] / 2**30
        print(f"{rows:,} rows: {per_row(results[rows], 'processor'):.2f} µs, {anonymous:.2f} GiB", flush=True)
    return results


def large(folder: str, gigabytes: float, ending: str, engine: str) -> dict:
    """One epoch over a file of so many gigabytes."""
    path = make_rows(Path(folder) / "large.npy", int(gigabytes * 1e9) // (4 * COLUMNS))
    if ending != ".npy":
        path, source = convert(path, ending), path
        source.unlink()
    return child(path=path, block=256, engine=engine, epochs=1)


def labelled(rows: int, columns: int = 16, labels: int = 10) -> np.ndarray:
    """Rows of ten labels, sorted by label: a factor model around the mean of each label, columns in units of spread."""
    rng = np.random.default_rng(0)
    means, loadings = 2 * rng.normal(size=(labels, columns)), rng.normal(size=(columns, 3))
    x = means[np.arange(rows) * labels // rows] + rng.normal(size=(rows, 3)) @ loadings.T
    return ((x + 0.5 * rng.normal(size=x.shape)) / x.std(0)).astype(np.float32)


def sorted_by_label(folder: str, rows: int, seeds: int, epochs: int, engine: str) -> dict:
    """{blocks that are shuffled together: {"sorted" or "shuffled": [bound of each seed]}}, of two files of the same rows."""
    x = labelled(rows)
    files = {name: Path(folder) / f"{name}.npy" for name in ("sorted", "shuffled")}
    np.save(files["sorted"], x)
    np.save(files["shuffled"], x[np.random.default_rng(1).permutation(rows)])
    results: dict = {}
    for blocks in (4, 16, 64, 256):
        reading = {"block": 32, "buffer": 32 * blocks}
        results[blocks] = {
            name: [
                child(
                    path=path, test=str(files["shuffled"]), seed=seed, epochs=epochs, engine=engine, **reading
                )
                for seed in range(seeds)
            ]
            for name, path in files.items()
        }
        means = {
            name: statistics.mean(fit["bound"] for fit in fits) for name, fits in results[blocks].items()
        }
        print(f"{blocks} blocks together: {means}", flush=True)
    return results


def measure(args) -> dict:
    """All measurements; files are made one at a time in a temporary folder, and removed."""
    global here
    here, quick, engine = args.quick, args.quick, args.engines[-1]
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    def within(work, *arguments):
        with TemporaryDirectory(dir=args.folder) as folder:
            return work(folder, *arguments, engine)

    rows, rounds = (4_000, 1) if quick else (10**6, args.repeats)
    endings = [".parquet"] if quick else [".parquet", ".zarr", ".h5ad"]
    numbers = [1_000, 4_000] if quick else [10**k for k in range(4, 8) if 10**k <= args.most_rows]
    gigabytes = 2e-3 if quick else args.gigabytes
    return {
        "against memory": within(against_memory, rows, rounds, endings),
        "growing": within(growing, numbers),
        "large": within(large, gigabytes, args.large) if gigabytes else {},
        "sorted": within(sorted_by_label, *((2_000, 1, 1) if quick else (40_000, 5, 15))),
    }


# Tables ----------------------------------------------------------------------------------------------------------


def table(results: dict) -> list[str]:
    """The lines of all tables."""
    memory = results["against memory"]["in memory"]
    rows = [
        [
            "rows",
            "µs a row, wall",
            "processor",
            "rows per second of those in memory, wall",
            "by processor time",
        ]
    ]
    for name, fits in results["against memory"].items():
        wall, processor = (
            statistics.median(per_row(f, what) for f in fits) for what in ("seconds", "processor")
        )
        best = [statistics.median(per_row(f, what) for f in memory) for what in ("seconds", "processor")]
        rows.append(
            [name, f"{wall:.2f}", f"{processor:.2f}", f"{best[0] / wall:.0%}", f"{best[1] / processor:.0%}"]
        )
    lines = ["## Rows on the disk against rows in memory, block=256", "", *_lines(rows)]
    rows = [
        [
            "rows N",
            "µs a row, wall",
            "processor",
            "before the first epoch, µs a row",
            "peak of anonymous memory, GiB",
        ]
    ]
    rows += [_of_one(number, fit) for number, fit in results["growing"].items()]
    lines += [f"## From few rows to many: N × {COLUMNS}, block=256", "", *_lines(rows)]
    if fit := results["large"]:
        gigabytes = fit["rows"] * COLUMNS * 4 / 1e9
        lines += [f"## A file of {gigabytes:.3g} GB", "", *_lines([rows[0], _of_one(fit["rows"], fit)])]
    head = (
        "blocks shuffled together",
        "sorted by label",
        "shuffled file",
        "difference",
        "its error over seeds",
    )
    rows = [[*head, "standard error of the bound over rows"]]
    for blocks, bounds in results["sorted"].items():
        by_seed = [[fit["bound"] for fit in bounds[name]] for name in ("sorted", "shuffled")]
        a, b = map(statistics.mean, by_seed)
        spread = [statistics.stdev(each) if len(each) > 1 else float("nan") for each in by_seed]
        error = (sum(s * s for s in spread) / len(by_seed[0])) ** 0.5
        of_rows = bounds["shuffled"][0]["error"]
        rows.append([f"{blocks}", *(f"{value:.3f}" for value in (a, b, a - b, error, of_rows))])
    return [*lines, "## A file sorted by label: bound on all rows, nats per row", "", *_lines(rows)]


def _of_one(number: int, fit: dict) -> list[str]:
    times = [f"{per_row(fit, what):.2f}" for what in ("seconds", "processor")]
    return [
        f"{number:,}",
        *times,
        f"{1e6 * fit['before'] / fit['rows']:.2f}",
        f"{fit['anonymous'] / 2**30:.2f}",
    ]


def _lines(rows: list[list[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [head, "|" + "---:|" * len(rows[0]), *body, ""]
