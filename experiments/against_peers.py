"""One variational autoencoder in several libraries: how much code does it take, how fast is it, how good in equal time?

    python experiments/against_peers.py

The model is z ~ N(0, I), x | z ~ Bernoulli(f(z)) with a guide N(μ(x), diag σ²(x)), each network with one hidden layer, on
Fashion-MNIST thresholded at one half, trained by Adam in batches of 128 rows. The programs stand in experiments/peers, as a
user of each library writes them. Each runs in a process of its own, on one thread, and all take turns, an epoch each.

Three figures for each: the lines of code of its classes and functions; the rows that it trains on per second of processor
time, the median over its epochs after the first two; and the mean bound of its last epoch that ends within some budgets of
processor time, compilation included. Processor time, unlike wall time, hardly depends on what else the machine does.

NumPyro and pythae get environments of their own (experiments/rivals). A library without one is named, with the reason.
scvi-tools is left out: its models are of counts with a size factor, which none of these programs is.

Writes against_peers.json and table.md into the folder named by --out.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from peers.table import table
from rivals.configuration import Configuration
from rivals.contest import Report, race
from rivals.environments import Unavailable, default_folder, python_of

import pyro_lfm as lfm

PROGRAMS = {
    "pyro_lfm": ("program_lfm", None),
    "PyTorch, by hand": ("program_torch", None),
    "Pyro, as in its tutorial": ("program_pyro", None),
    "NumPyro": ("program_numpyro", "numpyro"),
    "pythae": ("program_pythae", "pythae"),
}
FOLDER = Path(__file__).parent / "peers"
SHOWN = {"pyro_lfm": "pyro_lfm", "PyTorch, by hand": "torch", "Pyro, as in its tutorial": "pyro-ppl"}


def lines_of(program: str) -> int:
    """The lines of the classes and functions of a program that are neither blank nor a comment nor a docstring."""
    source = (FOLDER / f"{program}.py").read_text(encoding="utf-8")
    kept = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    text = "\n".join(ast.get_source_segment(source, node) or "" for node in kept)
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.splitlines())


def commands(wanted: list[str], folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """How to start each program, and why others are left out."""
    started, left_out = {}, {}
    for name in wanted:
        program, environment = PROGRAMS[name]
        try:
            python = sys.executable if environment is None else python_of(environment, folder)
        except Unavailable as error:
            left_out[name] = str(error)
        else:
            started[name] = [python, "-m", f"peers.{program}", name]
    return started, left_out


def figures(name: str, reports: list[Report], c: Configuration, budgets: list[float]) -> dict:
    """What one program did. The bound for a budget is that of the last epoch that ends within it."""
    bounds: dict[str, float | None] = {f"{budget:g}": None for budget in budgets}
    spent = 0.0
    for report in reports:
        spent += report["processor"]
        bounds |= {key: report["bound"] for key in bounds if spent <= float(key)}
    late = [report["processor"] for report in reports[2:]] or [reports[-1]["processor"]]
    return {
        "lines": lines_of(PROGRAMS[name][0]),
        "rows per second": c.steps * c.batch / statistics.median(late),
        "seconds of the first epoch": reports[0]["processor"],
        "seconds": spent,
        "bounds": bounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--programs", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--folder", help="folder of the .gz files of Fashion-MNIST")
    parser.add_argument("--environments", default=default_folder(), help="folder of the rivals' environments")
    parser.add_argument("--steps", type=int, default=100, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument(
        "--budgets", type=float, nargs="+", default=[6, 12, 18], help="seconds of processor time"
    )
    parser.add_argument(
        "--quick", action="store_true", help="digits, no further environment: to see that all works"
    )
    parser.add_argument("--store", action="store_true", help="keep the figures for the documentation")
    parser.add_argument("--out", default="runs/against_peers", help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.epochs, args.budgets, args.programs = 5, 3, [60.0], list(PROGRAMS)[:3]
        x, hidden, latent = lfm.data.digits().x, 16, 4
    else:
        x, hidden, latent = lfm.data.fashion_mnist(args.folder).x, 400, 20
    c = Configuration(x.shape[1], hidden, latent, 128, steps=args.steps, epochs=args.epochs)
    rows = (x[: c.steps * c.batch] > 0.5).float().numpy()
    started, left_out = commands(args.programs, Path(args.environments))
    reports, failures = race(started, c, rows, threads=1)
    measured = {name: figures(name, own, c, args.budgets) for name, own in reports.items()}
    text = table(measured)
    record = {
        "command": "python experiments/against_peers.py",
        "settings": {"rows": len(rows), "columns": c.columns, "hidden": hidden, "latent": latent,
                     "batch": c.batch, "budgets": args.budgets, "epochs": c.epochs},
        "versions": {name: version(package) for name, package in SHOWN.items()},
        "programs": measured,
        "left out": left_out | failures,
    }  # fmt: skip
    out = Path(args.out)
    for folder in [out] + args.store * [Path(__file__).parent / "figures"]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "against_peers.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    for name, why in record["left out"].items():
        print(f"Left out: {name}: {why}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
