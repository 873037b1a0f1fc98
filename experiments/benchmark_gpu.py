"""How fast training is on a GPU: a variational autoencoder here, against PyTorch by hand and Pyro.

    python experiments/benchmark_gpu.py                        # under ten minutes on one GPU
    python experiments/benchmark_gpu.py --device cpu --quick   # to see that all works, without a GPU

In single precision (fp32), with products in TensorFloat-32 (tf32), and under ``torch.autocast`` with bfloat16 (bf16), which
is how lfm.fit offers it too. The contestants of benchmark_training.py that run in PyTorch, one after the other in this
process, with the rows on the device. A step's time is the median over epochs, each timed when the device has finished
it; the first epoch, with compilation, stands beside it. Rows are measured in the order of gpu/rows.py until --minutes are
over, and those left out are named. Writes table.md and results.json into the folder named by --out, after every row.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import torch
from gpu.clock import Clock
from gpu.rows import QUICK, TABLE, Row
from rivals import by_hand, pyro_tutorial
from rivals.configuration import BY_HAND
from rivals.taking_part import Train
from training.contestants import AUTO, COMPILED, EAGER, fit
from training.measures import Contest
from training.table import grid

WARM_UP = 2  # epochs
GRAPHS = 'by hand, torch.compile(mode="reduce-overhead")'
CONTESTANTS: dict[str, Train] = {
    BY_HAND: by_hand.train,
    "by hand, Adam(fused=True)": partial(by_hand.train, fused=True),
    GRAPHS: partial(by_hand.train, fused=True, compiled=True, mode="reduce-overhead"),
    **pyro_tutorial.CONTESTANTS,
    EAGER: partial(fit, engine="eager"),
    AUTO: partial(fit, engine="auto"),
    COMPILED: partial(fit, engine="compiled"),
}
OF_WHOLE_FITS = (BY_HAND, GRAPHS, AUTO)
QUICK_ONES = (BY_HAND, *pyro_tutorial.CONTESTANTS, EAGER, AUTO)


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """TensorFloat-32 in matrix products and convolutions under "tf32", and only there."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def measured(row: Row, name: str, args: argparse.Namespace, contest: Contest) -> dict[str, float | None]:
    """The figures of one contestant."""
    epochs = row.c.epochs if row.is_whole else WARM_UP + args.rounds
    c = replace(row.c, epochs=epochs, device=args.device, autocast=row.precision == "bf16")
    x = contest.data(c).reshape(-1, *c.event)
    torch.compiler.reset()
    with products_in(row.precision), warnings.catch_warnings():
        clock = Clock(epochs, args.device)
        CONTESTANTS[name](c, x, clock)
        return clock.figures(c.steps, 0 if row.is_whole else WARM_UP)


def names_of(row: Row, quick: bool) -> list[str]:
    chosen = OF_WHOLE_FITS if row.is_whole else [name for name in CONTESTANTS if name != AUTO]
    return [name for name in CONTESTANTS if name in (QUICK_ONES if quick else chosen)]


def measure(args: argparse.Namespace, out: Path) -> dict:
    rows, end = QUICK if args.quick else TABLE, perf_counter() + 60 * args.minutes
    contest = Contest(__file__, [], {}, args.rounds, 1)
    on_gpu = args.device.startswith("cuda")
    results = {
        "device": torch.cuda.get_device_name(args.device) if on_gpu else "CPU",
        "versions": {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl")},
        "rows": {}, "failed": {}, "left_out": [], "notes": contest.notes,
    }  # fmt: skip
    longest = 0.0
    for row in rows:
        began = perf_counter()
        if began + longest > end:
            results["left_out"].append(row.title)
            continue
        print(row.title, flush=True)
        own = results["rows"][row.title] = {}
        for name in names_of(row, args.quick):
            try:
                own[name] = measured(row, name, args, contest)
            except Exception as error:  # of anyone's: the other rows are worth having
                results["failed"][f"{row.title}, {name}"] = f"{type(error).__name__}: {error}".splitlines()[0]
        longest = max(longest, perf_counter() - began)
        (out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
        (out / "table.md").write_text(table(results), encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    return results


def table(results: dict) -> str:
    raced, fits = {}, {}
    for title, measured in results["rows"].items():
        (fits if title.endswith("whole fit") else raced)[title] = measured
    lines = [f"# Training on {results['device']}", ""]
    for heading, rows, cell in (
        ("Time of a step, loop included", raced, lambda f: f"{1e6 * f['step']:,.0f} µs"),
        ("First epoch, compilation included", raced, lambda f: f"{f['first_epoch']:.2f} s"),
        ("Whole fits, compilation included", fits, lambda f: f"{f['whole']:.1f} s"),
        ("Training bound of the last epoch, nats per row", {**raced, **fits}, lambda f: f"{f['bound']:.2f}"),
        (
            "Peak memory of the device",
            raced,
            lambda f: "–" if f["memory"] is None else f"{f['memory'] / 1e6:,.0f} MB",
        ),
    ):
        # Contests stand in lines, as there are more of them than contestants.
        lines += [f"{heading}:", "", *turned(rows, cell)] if rows else []
    lines += [f"- {where} failed: {why}" for where, why in results["failed"].items()]
    lines += [f"- {name}: {why}" for name, why in results["notes"].items()]
    if results["left_out"]:
        lines += [f"- Left out, as the minutes were over: {'; '.join(results['left_out'])}"]
    return "\n".join(lines) + "\n"


def turned(rows: dict[str, dict], cell) -> list[str]:
    """A table with a line for each contest."""
    columns: dict[str, dict] = {name: {} for name in CONTESTANTS if any(name in own for own in rows.values())}
    for title, own in rows.items():
        for name, figures in own.items():
            columns[name][title] = figures
    return grid(columns, rows, cell)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="tiny networks: to see that all works")
    parser.add_argument("--device", default="cuda", help="of torch")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of which times are medians")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no further row is begun")
    parser.add_argument("--out", default="runs/benchmark_gpu", help="folder of the results")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(
            "There is no GPU that torch can use here: run this where there is one, or with --device cpu --quick."
        )
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    text = table(measure(args, out))
    (out / "table.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nThe table and every number are in {out}/")


if __name__ == "__main__":
    main()
