"""Linear latent factor models, where theory gives numbers: does the library reach them, and to how many digits?

    python experiments/linear_theory.py

Four identities, in double precision:

1. Probabilistic PCA. The maximum of the likelihood has a closed form (Tipping and Bishop 1999). EM reaches it.
2. The mean-field gap. For x | z ~ N(W z, Ψ) and M = I + Wᵀ Ψ⁻¹ W, the best factorised q has
   log p(x) − L = ½ [Σⱼ ln Mⱼⱼ − ln |M|] for every row.
3. Linear β-VAEs (after Lucas, Tucker, Grosse and Norouzi 2019). The noise has variance σ², and the covariance of the data
   has eigenvalues λⱼ. A unit is active where λⱼ > β σ². Its rate, the mean KL of q(zⱼ | x) from the prior, is
   ½ ln (λⱼ / β σ²).
4. The importance-weighted bound. log p(x) − L_K = Var[w / p(x)] / 2K + O(K⁻²) (Domke and Sheldon 2018; Nowozin 2018). So
   the bias falls like 1/K.

Writes linear_theory.json, table.md and pictures into the folder named by --out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from linear_models.identities import beta_vaes, bias_of_bounds, gaps_by_angle, ppca
from linear_models.pictures import picture_of_bias, picture_of_gaps, picture_of_rates
from sklearn.datasets import load_digits, load_iris


def largest_difference(values: list[tuple[float, float]]) -> float:
    """The largest relative difference between two columns of numbers."""
    return max(abs(a - b) / max(1.0, abs(b)) for a, b in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=2**21, help="of the importance weights")
    parser.add_argument("--quick", action="store_true", help="iris, few draws: to see that all works")
    parser.add_argument(
        "--store", action="store_true", help="keep figures and pictures for the documentation"
    )
    parser.add_argument("--out", default="runs/linear_theory", help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.draws = 2**16
    tables = [("iris", load_iris().data, 2), ("digits", load_digits().data, 10)]
    record = {
        "ppca": [ppca(*each) for each in tables[: 1 if args.quick else 2]],
        "mean-field gap": gaps_by_angle(),
        "beta-VAE": beta_vaes(args.quick),
        "importance weights": bias_of_bounds(args.draws),
    }
    record["differences"] = {
        "ppca": largest_difference([(each["EM"], each["maximum"]) for each in record["ppca"]]),
        "mean-field gap": largest_difference(
            [(g["library"], g["formula"]) for g in record["mean-field gap"].values()]
        ),
        "beta-VAE": largest_difference(
            [
                p
                for b in record["beta-VAE"]["betas"].values()
                for p in zip(b["optimum"], b["theory"], strict=True)
            ]
        ),
    }
    root = Path(__file__).parents[1]
    pictures = {
        "theory_gap": picture_of_gaps(record["mean-field gap"]),
        "theory_rates": picture_of_rates(record["beta-VAE"]),
        "theory_bias": picture_of_bias(record["importance weights"]),
    }
    for folder, images in [(Path(args.out), Path(args.out))] + args.store * [
        (root / "experiments/figures", root / "docs/images")
    ]:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"command": "python experiments/linear_theory.py", **record}, indent=1)
        (folder / "linear_theory.json").write_text(text + "\n", encoding="utf-8")
        for name, figure in pictures.items():
            figure.savefig(images / f"{name}.png")
    print(json.dumps(record["differences"], indent=1), record["importance weights"]["slope"])


if __name__ == "__main__":
    main()
