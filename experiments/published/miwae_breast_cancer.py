"""MIWAE on breast cancer: half of the entries hidden completely at random, and filled in.

    python experiments/published/miwae_breast_cancer.py            # the authors' protocol
    python experiments/published/miwae_breast_cancer.py --short    # a fifth of the epochs

The model and the protocol are those of Mattei and Frellsen (2019), "MIWAE: deep generative modelling and imputation of
incomplete data sets", as the authors run them on this table in their notebook
(github.com/pamattei/miwae, MIWAE_UCI_single_multiple-imputation.ipynb): ten factors, a Student t likelihood and a Student t
guide, networks of ReLUs with two hidden layers of 128 units (three in the guide), the importance-weighted bound of 20 draws
of the observed entries, Adam with a learning rate of 2e-4, batches of 32 rows, 1,001 epochs. An entry is filled in by its
mean under 10,000 draws with importance weights. The first set of gaps is that of the notebook, entry by entry. Further seeds
have gaps of their own.

Three things differ. Their weights start from He's normal distribution, ours from PyTorch's uniform one. Their network reads
a learned number for a gap, ours the column's mean. Their degrees of freedom are at least 3, ours are above 1.

Beside MIWAE stand this library's LatentImputer, scikit-learn's IterativeImputer with trees, as in the notebook, and the
column's mean. --data FILE takes another CSV of numbers, without a published figure beside it.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from protocol import forms, records
from protocol.gaps import hidden_at_random, standardised, with_gaps
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from torch import Tensor

import pyro_lfm as lfm

# Mean squared error after 1,001 epochs, as the output of the authors' notebook shows it, for the gaps of its seed.
PUBLISHED, SEED = 0.286728, 1234


def miwae(rows: Tensor, seed: int, args: argparse.Namespace) -> lfm.Fit:
    torch.manual_seed(seed)
    two, three = (lfm.MLP(*[args.hidden] * layers) for layers in (2, 3))
    model = lfm.Model(
        z=lfm.StandardNormal(args.latent), x=lfm.StudentT(rows.shape[1], network=two, min_scale=1e-3)
    )
    guide = lfm.Guide(model, z=lfm.StudentT(network=three))
    svi = lfm.SVI(
        guide,
        objective=lfm.ImportanceWeightedELBO(20),
        epochs=args.epochs,
        batch_size=32,
        learning_rate=2e-4,
    )
    with warnings.catch_warnings():
        # Some columns follow from others, so that scales reach the floor of the protocol.
        warnings.simplefilter("ignore", lfm.ScaleFloorWarning)
        return lfm.fit(model, rows, svi, seed=seed, progress=False)


@torch.no_grad()
def filled(fit: lfm.Fit, rows: Tensor, draws: int) -> Tensor:
    """E[x | observed entries] of each row by self-normalised importance sampling (equation 13 there)."""
    means = []
    prior, likelihood = fit.model.factors["z"](), fit.model.factors["x"]
    torch.manual_seed(0)
    for block in rows.split(8):
        q, seen = fit.posterior(block), ~block.isnan()
        z = q.sample((draws,))
        x = likelihood(z)
        log_p = x.base_dist.log_prob(block.nan_to_num()).mul(seen).sum(-1)
        weights = (log_p + prior.log_prob(z) - q.log_prob(z)).softmax(0)
        means.append(torch.einsum("sb,sbd->bd", weights, x.mean))
    return torch.cat(means)


def errors(values: np.ndarray, hidden: np.ndarray, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """The mean squared error of each method, over the hidden entries."""
    rows = with_gaps(values, hidden)

    def error(imputed: np.ndarray) -> float:
        return float(((imputed - values)[hidden] ** 2).mean())

    began = time.perf_counter()
    fit = miwae(rows, seed, args)
    seconds = time.perf_counter() - began
    trees = IterativeImputer(
        ExtraTreesRegressor(args.trees, max_depth=8, random_state=0), max_iter=args.rounds, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        by_trees = trees.fit_transform(rows.numpy())
    imputer = lfm.estimators.LatentImputer(args.imputer, random_state=seed)
    observed_mean = np.nanmean(np.where(hidden, np.nan, values), 0)
    return {
        "MIWAE": error(filled(fit, rows, args.draws).numpy()),
        "LatentImputer": error(imputer.fit_transform(rows.numpy())),
        "IterativeImputer, trees": error(by_trees),
        "mean": error(np.broadcast_to(observed_mean, values.shape)),
        "bound": fit.history[-1]["bound"],
        "seconds": round(seconds),
    }


def main() -> None:
    parser = forms.parser(
        __doc__,
        short="a fifth of the epochs and of the draws",
        quick="few epochs: to see that all works",
        out="runs/miwae_breast_cancer",
    )
    parser.add_argument("--epochs", type=int, default=1001)
    parser.add_argument("--latent", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--seeds", type=int, default=1, help="sets of gaps; the first is that of the notebook"
    )
    parser.add_argument("--share", type=float, default=0.5, help="of the entries that are hidden")
    parser.add_argument("--data", help="another CSV of numbers, with a header")
    args = parser.parse_args()
    # The linear imputer is quick.
    args.imputer = "linear" if args.quick else "auto"
    form = forms.form_of(args)
    if args.short:
        args.epochs, args.draws = 201, 2000
    if args.quick:
        args.epochs, args.draws, args.trees, args.rounds = 20, 200, 10, 2
    values = standardised(args.data)
    seeds = [SEED, *range(1, args.seeds)]
    by_gaps = {}
    for seed in seeds:
        by_gaps[str(seed)] = errors(values, hidden_at_random(values.shape, args.share, seed), seed, args)
        print(f"gaps of seed {seed}: {by_gaps[str(seed)]}", flush=True)
    comparable = args.data is None and args.share == 0.5
    settings = {"epochs": args.epochs, "draws": args.draws, "latent": args.latent, "share": args.share}
    record = {
        "form": form,
        "rows": len(values),
        "columns": values.shape[1],
        "settings": settings,
        "mean squared error": by_gaps,
        "published": {"MIWAE": PUBLISHED, "gaps of seed": SEED} if comparable else None,
    }
    records.write(record, Path(args.out), f"miwae_breast_cancer-{form}", args.store)


if __name__ == "__main__":
    main()
