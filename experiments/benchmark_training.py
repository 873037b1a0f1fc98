"""How fast training is: one step of a variational autoencoder here, against PyTorch by hand, Pyro and pythae.

    python experiments/benchmark_training.py
    python experiments/benchmark_training.py --quick
    python experiments/benchmark_training.py --pythae FOLDER/bin/python   # an environment that has pythae

Every contestant trains in a process of its own and all take turns, an epoch at a time (rivals/contest.py). What counts
is the time of whole epochs, with all that surrounds the steps: batches, shuffling, history. Speed is that of the loop
written by hand with torch.optim.Adam's defaults, 1.00, by the same architecture, likelihood, guide and number of draws;
the limit is what the bare matrix products of one step would reach.

Also measured: peak memory, the time to the first finished epoch, compilation included, and what the loop adds to a step.
Writes table.md, results.json and training.png into the folder named by --out.
"""

import argparse
import json
import math
import statistics
import sys
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rivals import by_hand, pyro_tutorial
from rivals.contest import BY_HAND, LIMIT, Configuration, Turn, race, take_part
from rivals.report import picture, table

import pyro_lfm as lfm

PYTHAE, BESIDE_PYTHAE = "pythae's trainer", "by hand, beside pythae"
EAGER, AUTO = "lfm, eager engine", "lfm, default engine (auto)"
ENGINES = {EAGER: "eager", AUTO: "auto", "lfm, compiled engine": "compiled"}
WARM_UP = 2  # epochs

MEDIUM = Configuration(784, 400, 20, batch=128)
SMALL = Configuration(64, 64, 8, batch=128)
CONFIGURATIONS = {
    "784-400-20, B=32": replace(MEDIUM, batch=32),
    "784-400-20, B=128": MEDIUM,
    "784-400-20, B=1024": replace(MEDIUM, batch=1024, steps=50),
    "64-64-8, B=32": replace(SMALL, batch=32),
    "64-64-8, B=128": SMALL,
    "Gaussian, μ and σ networks, B=128": replace(MEDIUM, likelihood="Gaussian", steps=100),
    "full-covariance q, B=128": replace(MEDIUM, covariance="full", steps=100),
    "convolutional 32-64, B=128": replace(MEDIUM, channels=(32, 64), steps=30),
}
TINY = Configuration(64, 16, 4, batch=32, steps=10)
QUICK = {
    "64-16-4, B=32": TINY,
    "Gaussian, full-covariance q, convolutional 4-8": replace(
        TINY, likelihood="Gaussian", covariance="full", channels=(4, 8)
    ),
}
# A fit of a single epoch over all rows.
WHOLE = {"digits": replace(SMALL, steps=14), "Fashion-MNIST": replace(MEDIUM, steps=468)}


# Ours ----------------------------------------------------------------------------------------------------


def declare(c: Configuration) -> tuple[lfm.Model, lfm.Guide]:
    network = lfm.Convolutional(*c.channels) if c.channels else lfm.MLP(c.hidden)
    observed = lfm.Bernoulli(c.event, logits=network)
    if c.likelihood == "Gaussian":
        spread = lfm.Diagonal(network, min_scale=by_hand.PIXEL_FLOOR)
        observed = lfm.Gaussian(c.event, mean=network, covariance=spread)
    model = lfm.Model(z=lfm.StandardNormal(c.latent), x=observed)
    covariance = {"diagonal": lfm.Diagonal, "full": lfm.Full}[c.covariance](min_scale=by_hand.FLOOR)
    return model, lfm.Guide(model, z=lfm.Gaussian(covariance=covariance, network=network))


def fit(c: Configuration, x: torch.Tensor, turn: Turn, engine: str) -> None:
    warnings.simplefilter("error", lfm.CompilationWarning)  # eager steps under another name are no result
    model, guide = declare(c)
    inference = lfm.SVI(guide, epochs=c.epochs, batch_size=c.batch, engine=engine)
    report = [lambda record, _: turn(record["seconds"])]
    lfm.fit(model, x, inference, callbacks=report, progress=False, seed=0, device="cpu")


class Watched(lfm.ELBO):
    """Records the seconds from the start of each step's bound to the end of its Adam, without those of the loop."""

    spent = began = 0.0

    def differentiable_loss(self, *args, **kwargs) -> torch.Tensor:
        Watched.began = perf_counter()
        return super().differentiable_loss(*args, **kwargs)


class WatchedAdam(torch.optim.Adam):
    def step(self, *args, **kwargs) -> None:
        super().step(*args, **kwargs)
        Watched.spent += perf_counter() - Watched.began


def watched_fit(c: Configuration, x: torch.Tensor, turn: Turn, around: bool, progress: bool = False) -> None:
    def report(record: dict, _: lfm.Fit) -> bool:
        spent, Watched.spent = Watched.spent, 0.0
        return turn(record["seconds"] - spent if around else spent)

    model, guide = declare(c)
    watch = {"objective": Watched(), "optimizer": WatchedAdam, "engine": "eager"}
    inference = lfm.SVI(guide, epochs=c.epochs, batch_size=c.batch, **watch)
    lfm.fit(model, x, inference, callbacks=[report], progress=progress, seed=0, device="cpu")


OURS = {name: partial(fit, engine=engine) for name, engine in ENGINES.items()}
LOOP = {
    "bound, gradients and Adam": partial(watched_fit, around=False),
    "all around them": partial(watched_fit, around=True),
    "the same with a progress bar": partial(watched_fit, around=True, progress=True),
}
RIVALS = {
    **dict.fromkeys(by_hand.CONTESTANTS, "rivals.by_hand"),
    **dict.fromkeys(pyro_tutorial.CONTESTANTS, "rivals.pyro_tutorial"),
    **dict.fromkeys((PYTHAE, BESIDE_PYTHAE), "rivals.pythae_trainer"),
}
NAMES = [*(name for name in RIVALS if name != LIMIT), *OURS, LIMIT]


def parameters(c: Configuration) -> int:
    """The number of parameters. Stops if the loss by hand, with the same values and noise, is not the declared one."""
    vae, (model, guide) = by_hand.VAE(c), declare(c)
    ours, theirs = [*guide.parameters(), *model.parameters()], [*vae.parameters()]
    x = torch.rand(c.batch, *c.event).round()
    with torch.no_grad():
        for mine, copy in zip(ours, theirs, strict=True):
            copy.copy_(mine)
        torch.manual_seed(0)
        declared = lfm.ELBO().differentiable_loss(model, guide, lfm.Batch(x)) / c.batch
        torch.manual_seed(0)
        written = vae.loss(x) + (c.likelihood == "Gaussian") * c.columns * math.log(2 * math.pi) / 2
    if not torch.allclose(declared, written, rtol=1e-5):
        raise SystemExit(f"{c}: a loss of {declared:.6f} is declared, one of {written:.6f} written by hand")
    return sum(p.numel() for p in ours)


# The race ------------------------------------------------------------------------------------------------


def data(c: Configuration, notes: dict[str, str]) -> np.ndarray:
    """The rows of an epoch, of Fashion-MNIST or the digits, repeated where there are too few."""
    try:
        pictures = lfm.data.fashion_mnist() if c.columns == MEDIUM.columns else lfm.data.digits()
        x = pictures.x.numpy()
    except lfm.DataError as error:
        notes["Fashion-MNIST"] = f"noise stands in for it: {error}"
        x = np.random.default_rng(0).random((10_000, c.columns), np.float32)
    x = x[np.arange(c.steps * c.batch) % len(x)]
    return (x > 0.5).astype(np.float32) if c.likelihood == "Bernoulli" else x


def command(name: str, c: Configuration, pythae: str | None) -> list[str] | None:
    """The command that starts a contestant, or None if it does not take part."""
    if name not in RIVALS:
        return [sys.executable, __file__, "--contestant", name]
    if name in (PYTHAE, BESIDE_PYTHAE):
        plain = c.likelihood == "Bernoulli" and c.covariance == "diagonal"
        return [pythae, "-m", RIVALS[name], name] if pythae and plain else None
    return None if name == LIMIT and c.channels else [sys.executable, "-m", RIVALS[name], name]


def run(
    names: Iterable[str], c: Configuration, args: argparse.Namespace, threads: int = 1
) -> dict[str, list]:
    """The reports of all contestants that finish this configuration, epoch by epoch."""
    commands = {name: measured for name in names if (measured := command(name, c, args.pythae))}
    reports, failures = race(commands, c, data(c, args.notes), threads)
    args.notes |= {name: f"left out where it failed: {why}" for name, why in failures.items()}
    return reports


def figures(reports: dict[str, list[dict]], c: Configuration) -> dict[str, dict]:
    """Medians over the epochs after the first. Ratios are of epochs that were next to each other in time."""
    measured = {}
    for name, own in reports.items():
        ratios = [b["seconds"] / r["seconds"] for b, r in zip(reports[BY_HAND], own, strict=True)][WARM_UP:]
        measured[name] = {
            "step": statistics.median(r["seconds"] for r in own[WARM_UP:]) / c.steps,
            "speed": statistics.median(ratios),
            "speed_quartiles": statistics.quantiles(ratios, n=4)[::2],
            "peak_memory": own[-1]["memory"],
        }
    return measured


def contestants(c: Configuration, quick: bool) -> list[str]:
    """All, or for a quick run few, as each is a process that starts anew."""
    if not quick:
        return NAMES
    return [BY_HAND, EAGER, *([*pyro_tutorial.CONTESTANTS, AUTO, LIMIT] if c is TINY else [])]


def measure(args: argparse.Namespace) -> dict:
    every = QUICK if args.quick else CONFIGURATIONS
    configurations = {name: c for name, c in every.items() if args.quick or name in args.only}
    results = {"parameters": {name: parameters(c) for name, c in configurations.items()}}
    results |= {"speed": {str(threads): {} for threads in args.threads}, "loop": {}, "first_epoch": {}}
    for threads, (name, c) in product(args.threads, configurations.items()):
        print(f"{name}, {threads} thread{'s' * (threads > 1)}", flush=True)
        reports = run(contestants(c, args.quick), replace(c, epochs=WARM_UP + args.rounds), args, threads)
        results["speed"][str(threads)][name] = figures(reports, c)
    for name, c in configurations.items():
        if c in (TINY, SMALL, MEDIUM) and len(configurations) == len(every):
            print(f"{name}, the loop", flush=True)
            reports = run(LOOP, replace(c, epochs=WARM_UP + args.rounds), args)
            medians = {n: statistics.median(r["seconds"] for r in rs[WARM_UP:]) for n, rs in reports.items()}
            results["loop"][name] = {n: seconds / c.steps for n, seconds in medians.items()}
    whole = 0 if len(configurations) < len(every) else 1 if args.quick else None
    for name, c in list(WHOLE.items())[:whole]:
        print(f"{name}, the first epoch", flush=True)
        alone = [EAGER] if args.quick else [BY_HAND, *OURS]
        reports = {n: measured for one in alone for n, measured in run([one], c, args).items()}
        results["first_epoch"][name] = {n: measured[0]["since_start"] for n, measured in reports.items()}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny networks: to see that all works")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of them to measure")
    parser.add_argument("--rounds", type=int, default=20, help="epochs of which times are medians")
    names = {
        "nargs": "+",
        "default": list(CONFIGURATIONS),
        "choices": list(CONFIGURATIONS),
        "metavar": "NAME",
    }
    parser.add_argument("--only", **names, help="configurations by the names that the table gives them")
    parser.add_argument("--pythae", help="the python of an environment that has pythae")
    parser.add_argument("--out", default="runs/benchmark_training", help="folder of the results")
    parser.add_argument("--contestant", nargs=3, metavar=("NAME", "CONFIGURATION", "DATA"), help="one only")
    args = parser.parse_args()
    if args.contestant:
        return take_part({**OURS, **LOOP}, *args.contestant)
    if args.quick:
        args.threads, args.rounds = [1], 3
    args.notes = {} if args.pythae else {PYTHAE: "left out: --pythae names no Python that has it"}
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    results = {**measure(args), "settings": vars(args)}
    results["versions"] = {name: version(name) for name in ("pyro_lfm", "torch", "pyro-ppl", "numpy")}
    (out / "table.md").write_text(text := table(results, NAMES, list(OURS)), encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1, allow_nan=False), encoding="utf-8")
    picture(results, NAMES, list(OURS)).savefig(out / "training.png")
    print(f"\n{text}\nThe table, every number and the picture are in {out}/")


if __name__ == "__main__":
    main()
