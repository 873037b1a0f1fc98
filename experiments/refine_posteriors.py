"""How large is the amortization gap, and how much of it do a few steps for each row remove?

    python experiments/refine_posteriors.py

One deep latent Gaussian model of digits is trained with a mean-field and with a full-covariance encoder. Of the held-out
rows the bound is then measured with what the encoder proposes and with proposals refined by more and more steps of Adam
on each row's own bound, the model held. log p(x) is estimated once for each guide, by importance sampling from the most
refined one: what a bound is below it is the inference gap.

Writes table.md and results.json into the folder named by --out.
"""

import argparse
import json
from pathlib import Path

import torch

import pyro_lfm as lfm


def measure(covariance, epochs: int, steps: list[int], draws: int, rows: int) -> dict:
    """Bounds of the held-out rows by the number of steps, and log p(x); nats per row."""
    train, test = lfm.data.digits().split(test=0.2, seed=0)
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.StandardNormal(8),
        x=lfm.Gaussian(64, mean=lfm.MLP(128), covariance=lfm.Diagonal(lfm.MLP(128), min_scale=1 / 16)),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=covariance, network=lfm.MLP(128)))
    svi = lfm.SVI(guide, epochs=epochs, batch_size=64, learning_rate=2e-3, engine="eager")
    fit = lfm.fit(model, train.x, svi, seed=0, progress=False)
    bounds = {}
    for count in steps:
        fit.guide = lfm.Refined(guide, steps=count)
        bounds[count] = fit.bound(test.x[:rows], draws=draws).double()
    estimate = lfm.evaluate.log_likelihood(fit, test.x[:rows], draws=20 * draws)
    first = bounds[steps[0]]
    return {
        "log_p": estimate.mean,
        "log_p_error": estimate.mean_error,
        "bounds": {
            count: {
                "mean": float(bound.mean()),
                "won": float((bound - first).mean()),
                "error": float((bound - first).std() / len(bound) ** 0.5),
            }
            for count, bound in bounds.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a run that shows that everything works, and no more"
    )
    parser.add_argument("--out", default="runs/refine_posteriors")
    options = parser.parse_args()
    epochs, steps, draws, rows = (2, [0, 5], 10, 50) if options.quick else (150, [0, 5, 20, 100], 50, 10**6)
    guides = {"mean-field": lfm.Diagonal(), "full covariance": lfm.Full()}
    results = {name: measure(kind, epochs, steps, draws, rows) for name, kind in guides.items()}
    lines = ["| guide | steps | held-out bound | over the proposal | gap |", "|---|---:|---:|---:|---:|"]
    for name, estimate in results.items():
        for count, bound in estimate["bounds"].items():
            won = f"{bound['won']:+.2f} ± {bound['error']:.2f}" if count else "–"
            lines.append(
                f"| {name} | {count} | {bound['mean']:.2f} | {won} | {estimate['log_p'] - bound['mean']:.2f} |"
            )
    table = "\n".join(lines)
    print(table)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(table + "\n", encoding="utf-8")
    (out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
