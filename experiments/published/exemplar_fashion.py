"""The priors of Exemplar-VAE on Fashion-MNIST: does this library reach the published log-likelihoods?

    python experiments/published/exemplar_fashion.py --model vae            # hours: the published protocol
    python experiments/published/exemplar_fashion.py --model vae --short    # minutes

The protocol is that of Norouzi, Fleet and Norouzi (2020), "Exemplar VAE: linking generative models, nearest neighbor
retrieval, and data augmentation", and of their code (github.com/sajadn/Exemplar-VAE), which follows Tomczak and Welling
(2018), "VAE with a VampPrior". Pixels in [0, 1] are binarized anew each time that a row is read. Held-out rows and test
rows are binarized once. Encoder and decoder have two gated layers of 300 units. The latent has 40 entries. The likelihood
is Bernoulli. Training is by Adam with a learning rate of 5e-4 in batches of 100 rows. The weight of the KL rises from 0 to
1 in 100 epochs. The training stops when the bound of 10,000 held-out rows has not risen for 50 epochs, and the best weights
are kept. log p(x) of the test rows is estimated by importance weighting with 5,000 draws from the guide.

Five things differ. Their Adam normalises the gradient of each tensor first, and ours starts anew after the warm-up. Their
weights start from He's normal distribution, ours from PyTorch's uniform one. Their log variances are clamped to [-6, 2].
Their pseudo-inputs start near 0.05, ours at training rows. With two layers, their decoder has a gated layer for each latent
and one for both, ours two layers for both.

A run that was stopped goes on where it stopped: the training from its checkpoint, the test rows from those that are done.
Writes NAME.json into the folder named by --out, and, with --store, among the stored figures.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from exemplar.models import MODELS, PUBLISHED, declared, objective_of
from exemplar.pictures import Pictures, pictures
from exemplar.setting import FULL, QUICK, SHORT, Setting
from protocol import forms, records
from protocol.row_pieces import in_pieces

import pyro_lfm as lfm

# Draws of the bound of each test row.
_BOUND_DRAWS = 20


def trained(name: str, setting: Setting, data: Pictures, seed: int, out: Path) -> tuple[lfm.Fit, list[dict]]:
    """The fit and its history: first the epochs in which the weight of the KL rises, then those that count.

    They are two fits, so that the second can go on with more epochs.
    """
    choice, history = MODELS[name], []
    model, guide = declared(choice, setting, data.greys, seed)
    lengths = {"warm_up": setting.warm_up, "training": setting.epochs - setting.warm_up}
    for number, (part, epochs) in enumerate(lengths.items()):
        svi = lfm.SVI(
            guide,
            objective=objective_of(choice, warming=part == "warm_up"),
            epochs=epochs,
            batch_size=setting.batch_size,
            learning_rate=setting.learning_rate,
            patience=None if part == "warm_up" else setting.patience,
        )
        fit = lfm.fit(
            model,
            lfm.data.Binarized(data.greys, seed=seed),
            svi,
            validation=data.held_out,
            seed=seed + 1000 * number,
            callbacks=[report],
            progress=False,
            checkpoint=lfm.Checkpoint(out / part, epochs=10),
        )
        history += fit.history
        if fit.interrupted:
            raise SystemExit(f"stopped by {fit.interrupted}: the same command goes on")
    return fit, history


def report(record: dict, fit: lfm.Fit) -> None:
    """A line for an epoch."""
    bounds = f"bound {record['bound']:.2f}, held out {record['validation_bound']:.2f}"
    print(f"epoch {record['epoch']}: {bounds}, {record['seconds']:.1f} s", flush=True)


def measured(fit: lfm.Fit, setting: Setting, data: Pictures, folder: Path, until: float) -> dict:
    """The figures of the test rows.

    Where only some rows have an estimate yet, log p(x) of all is the mean of all bounds, and of the differences between
    estimate and bound of the rows that have one.
    """
    bounds = torch.cat([fit.bound(rows, draws=_BOUND_DRAWS) for rows in data.test.split(1000)]).double()
    rows = in_pieces(fit, data.test, setting.draws, folder, until=until)
    gap = rows.log_p - bounds[rows.index]
    done = len(rows.index)
    left = 1 - done / len(bounds)
    return {
        "log_likelihood": float(bounds.mean() + gap.mean()),
        "error_of_draws": float(rows.error.square().sum().sqrt() / done),
        "error_of_rows_left_out": float(gap.std() * (left / done) ** 0.5),
        "error_of_rows": float(rows.log_p.std() / len(bounds) ** 0.5),
        "test_rows": len(bounds),
        "rows_estimated": done,
        "rows_with_large_k": int(rows.unreliable.sum()),
        "median_k": float(rows.k.median()),
        "bound": float(bounds.mean()),
        "seconds_of_evaluation": round(rows.seconds),
    }


def main() -> None:
    parser = forms.parser(
        __doc__,
        short="5,000 rows, 25 epochs, 500 draws for each of 500 test rows",
        quick="digits, few epochs: to see that all works",
        out=None,
    )
    parser.add_argument("--model", choices=list(MODELS), default="vae")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="at most; a run can go on with more")
    parser.add_argument("--minutes", type=float, help="after which no further piece of test rows is begun")
    parser.add_argument("--folder", help="folder of the .gz files of Fashion-MNIST")
    args = parser.parse_args()
    until = time.time() + 60 * args.minutes if args.minutes else float("inf")
    form = forms.form_of(args)
    setting = {"quick": QUICK, "short": SHORT, "full": FULL}[form]
    setting = replace(setting, epochs=args.epochs or setting.epochs)
    name = f"exemplar_fashion-{args.model}-{form}-{args.seed}"
    out = Path(args.out or f"runs/exemplar_fashion/{name}")
    data = pictures(setting, args.folder)
    fit, history = trained(args.model, setting, data, args.seed, out)
    record = {
        "model": args.model,
        "form": form,
        "seed": args.seed,
        "settings": asdict(setting),
        "parts": asdict(MODELS[args.model]),
        "epochs": len(history),
        "most_epochs_reached": len(history) == setting.epochs,
        "held_out_bound": max(each["validation_bound"] for each in fit.history),
        "seconds_of_training": round(sum(each["seconds"] for each in history)),
        **measured(fit, setting, data, out / f"rows_after_{len(history)}_epochs", until),
        "published": PUBLISHED.get(args.model) if form == "full" else None,
    }
    records.write(record, out, name, args.store)
    print(
        f"log p(x) {record['log_likelihood']:.2f} ± {record['error_of_draws']:.2f} of the draws, "
        f"bound {record['bound']:.2f}, {record['epochs']} epochs"
    )


if __name__ == "__main__":
    main()
