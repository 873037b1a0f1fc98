"""not-MIWAE: entries that are missing because they are large, with and without a model of why they are missing.

    python experiments/published/notmiwae.py            # the authors' protocol
    python experiments/published/notmiwae.py --short    # a twentieth of the steps

The protocol is that of Ipsen, Mattei and Frellsen (2021), "not-MIWAE: deep generative modelling with missing not at random
data", as in their code (github.com/nbip/notMIWAE, task01.py). In the first half of the columns every entry above the
column's mean is hidden. MIWAE models the observed entries alone. not-MIWAE also models which entries are observed: the log
odds of being observed fall with the entry, by a slope and from a point that are learned for each column. The authors call
this "self-masking, known".

Both models have D − 1 factors, a Gaussian likelihood and a Gaussian guide. Their networks have two hidden layers of 128 tanh
units. The bound is importance-weighted, with 20 draws. Adam takes 100,000 steps of 16 rows with a learning rate of 1e-3. An
entry is filled in by its mean under 10,000 draws with importance weights. The error is the root mean square over the hidden
entries.

The authors measure six UCI tables that are not on every machine. Breast cancer of scikit-learn is measured here.
--data FILE takes another CSV, such as winequality-white.csv, on which their script runs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from protocol import forms, records
from protocol.gaps import hidden_above_the_mean, standardised, with_gaps
from torch import Tensor, nn
from torch.nn.functional import softplus

import pyro_lfm as lfm

# The likelihood is unbounded where a standard deviation can go to 0.
_MIN_SCALE = 1e-2


class SelfMasked(lfm.PyroModel):
    """z ~ N(0, I), x | z ~ N(μ(z), σ²(z)), and, with ``explains``, s | x. Here s is 1 for an observed entry, else 0.

    A missing entry is μ(z) + σ(z) e, with e ~ N(0, 1).
    """

    def __init__(self, columns: int, latent: int, hidden: int, explains: bool):
        super().__init__()
        self.columns, self.latent, self.explains = columns, latent, explains
        self.network = lfm.MLP(hidden, hidden, activation="tanh")(latent, 2 * columns)
        self.slope, self.middle = nn.Parameter(torch.zeros(columns)), nn.Parameter(torch.zeros(columns))

    def moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.network(z).chunk(2, -1)
        return mean, softplus(raw) + _MIN_SCALE

    def seen_given(self, x: Tensor) -> dist.Distribution:
        """The distribution of s, given all entries of a row."""
        return dist.Bernoulli(logits=-softplus(self.slope) * (x - self.middle)).to_event(1)

    def forward(self, batch: lfm.Batch) -> None:
        x, seen = batch["x"], batch.mask("x")
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(self.latent), 1.0).to_event(1))
            e = pyro.sample("e", dist.Normal(torch.zeros(self.columns), 1.0).to_event(1))
            mean, scale = self.moments(z)
            entries = dist.Normal(mean, scale)
            drawn = pyro.sample("x", (entries if seen is None else entries.mask(seen)).to_event(1), obs=x)
            if self.explains:
                whole = drawn if seen is None else torch.where(seen, drawn, mean + scale * e)
                pyro.sample("s", self.seen_given(whole), obs=batch["s"])


def fitted(rows: Tensor, explains: bool, seed: int, args: argparse.Namespace) -> lfm.Fit:
    torch.manual_seed(seed)
    model = SelfMasked(rows.shape[1], rows.shape[1] - 1, args.hidden, explains)
    network = lfm.MLP(args.hidden, args.hidden, activation="tanh")
    guide = lfm.Guide(
        model,
        z=lfm.Gaussian(network=network, given="x"),
        # The noise of missing entries keeps its prior, which the bound cancels.
        e=lfm.Gaussian(mean=lfm.Fixed(0.0), covariance=lfm.Diagonal(lfm.Fixed(1.0))),
    )
    svi = lfm.SVI(
        guide,
        objective=lfm.ImportanceWeightedELBO(20),
        steps=args.steps,
        batch_size=16,
        learning_rate=1e-3,
    )
    data = {"x": rows, "s": (~rows.isnan()).float()} if explains else {"x": rows}
    return lfm.fit(model, data, svi, seed=seed, progress=False)


@torch.no_grad()
def filled(fit: lfm.Fit, rows: Tensor, draws: int) -> Tensor:
    """The mean of each entry under self-normalised importance weights."""
    means, model = [], fit.model
    torch.manual_seed(0)
    for block in rows.split(8):
        seen = ~block.isnan()
        given = {"x": block, "s": seen.float()} if model.explains else block
        q = fit.posterior(given)["z"]
        z = q.sample((draws,))
        mean, scale = model.moments(z)
        log_w = dist.Normal(mean, scale).log_prob(block.nan_to_num()).mul(seen).sum(-1)
        log_w = log_w + dist.Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z)
        if model.explains:
            whole = torch.where(seen, block, mean + scale * torch.randn_like(mean))
            log_w = log_w + model.seen_given(whole).log_prob(seen.float())
        means.append(torch.einsum("sb,sbd->bd", log_w.softmax(0), mean))
    return torch.cat(means)


def main() -> None:
    parser = forms.parser(
        __doc__,
        short="a twentieth of the steps, a fifth of the draws",
        quick="few steps: to see that all works",
        out="runs/notmiwae",
    )
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=1, help="of the weights and of the training")
    parser.add_argument("--data", help="another CSV of numbers, with a header")
    args = parser.parse_args()
    form = forms.form_of(args)
    if args.short:
        args.steps, args.draws = 5000, 2000
    if args.quick:
        args.steps, args.draws, args.hidden = 100, 100, 16
    values = standardised(args.data)
    hidden = hidden_above_the_mean(values)
    rows = with_gaps(values, hidden)

    def error(imputed: np.ndarray) -> float:
        return float(((imputed - values)[hidden] ** 2).mean() ** 0.5)

    errors: dict[str, list[float]] = {"not-MIWAE": [], "MIWAE": []}
    seconds: dict[str, list[int]] = {"not-MIWAE": [], "MIWAE": []}
    for seed in range(args.seeds):
        for name in errors:
            began = time.perf_counter()
            fit = fitted(rows, name == "not-MIWAE", seed, args)
            errors[name].append(error(filled(fit, rows, args.draws).numpy()))
            seconds[name].append(round(time.perf_counter() - began))
            print(f"seed {seed}, {name}: {errors[name][-1]:.3f}, {seconds[name][-1]} s", flush=True)
    by_mean = np.broadcast_to(np.nanmean(rows.numpy(), 0), values.shape)
    record = {
        "form": form,
        "rows": len(values),
        "columns": values.shape[1],
        "hidden": float(hidden.mean()),
        "settings": {"steps": args.steps, "draws": args.draws, "seeds": args.seeds},
        "root mean squared error": {**errors, "mean": [error(by_mean)]},
        "seconds": seconds,
    }
    records.write(record, Path(args.out), f"notmiwae-{form}", args.store)


if __name__ == "__main__":
    main()
