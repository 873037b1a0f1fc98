"""The tables of docs/results/published.md."""

from __future__ import annotations

import json
from pathlib import Path

FIGURES = Path(__file__).parents[1] / "published/figures"


def only(pattern: str) -> dict:
    """The stored record whose file has such a name: the full form where there is one, else the short one."""
    paths = sorted(FIGURES.glob(pattern))
    if not paths:
        raise FileNotFoundError(pattern)
    return json.loads(paths[0].read_text(encoding="utf-8"))


def of_models(form: str) -> list[dict]:
    """The stored records of Exemplar-VAE's protocol in one form, in the order of the models."""
    order = [
        "vae",
        "vamp",
        "exemplar",
        "vae2",
        "vamp2",
        "exemplar2",
        "mixture",
        "flow",
        "full",
        "iwae",
        "vamp-iwae",
    ]
    records = [json.loads(path.read_text()) for path in FIGURES.glob(f"exemplar_fashion-*-{form}-*.json")]
    if not records:
        raise FileNotFoundError(form)
    return sorted(records, key=lambda record: (order.index(record["model"]), record["seed"]))


NAMES = {
    "vae": "VAE, standard normal prior",
    "vamp": "VampPrior",
    "exemplar": "ExemplarPrior",
    "vae2": "two layers, standard normal prior",
    "vamp2": "two layers, VampPrior",
    "exemplar2": "two layers, ExemplarPrior",
    "mixture": "mixture of Gaussians as prior",
    "flow": "flow as prior",
    "full": "guide of full covariance",
    "iwae": "importance-weighted bound of 5 draws",
    "vamp-iwae": "VampPrior, importance-weighted bound of 5 draws",
}


def exemplar_full() -> str:
    lines = [
        "| model, seed | published log p(x) | log p(x) here | bound here | epochs | end of the training |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for record in of_models("full"):
        published, error = record["published"]
        spread = "" if error is None else f" ± {error:.2f}"
        uncertain = (record["error_of_draws"] ** 2 + record["error_of_rows_left_out"] ** 2) ** 0.5
        end = "limit of epochs reached" if record["most_epochs_reached"] else "early stopping"
        lines.append(
            f"| {NAMES[record['model']]}, {record['seed']} | {published:.2f}{spread} | "
            f"{record['log_likelihood']:.2f} ± {uncertain:.3f} | {record['bound']:.2f} | {record['epochs']} | {end} |"
        )
    return "\n".join(lines)


def exemplar_full_details() -> str:
    """How far the estimates can be trusted, a sentence or two for each run."""
    sentences = []
    for record in of_models("full"):
        done, rows = record["rows_estimated"], record["test_rows"]
        share = f"All {rows:,}" if done == rows else f"{done:,} of the {rows:,}"
        order = "" if done == rows else ", in random order"
        hours = record["seconds_of_training"] / 3600
        sentences.append(
            f"- {NAMES[record['model']]}: {share} test rows have an estimate with 5,000 draws{order}. k̂ is above its limit "
            f"in {record['rows_with_large_k']:,} of them. Its median is {record['median_k']:.2f}. The training took "
            f"{hours:.1f} hours of a shared core."
        )
    return "\n".join(sentences)


def exemplar_short() -> str:
    lines = ["| model | log p(x) | bound | epochs | training |", "|---|---:|---:|---:|---:|"]
    for record in of_models("short"):
        lines.append(
            f"| {NAMES[record['model']]} | {record['log_likelihood']:.2f} | {record['bound']:.2f} | {record['epochs']} | "
            f"{record['seconds_of_training']} s |"
        )
    return "\n".join(lines)


def miwae() -> str:
    record = only("miwae_breast_cancer-*.json")
    errors, published = record["mean squared error"], record["published"]
    seeds = list(errors)
    methods = [name for name in errors[seeds[0]] if name not in ("bound", "seconds")]
    lines = [
        "| method | " + " | ".join(f"gaps of seed {seed}" for seed in seeds) + " |",
        "|---|" + "---:|" * len(seeds),
        f"| MIWAE, published | {published['MIWAE']:.4f} |" + " – |" * (len(seeds) - 1),
    ]
    for name in methods:
        shown = "MIWAE, here" if name == "MIWAE" else name
        lines.append(f"| {shown} | " + " | ".join(f"{errors[seed][name]:.4f}" for seed in seeds) + " |")
    return "\n".join(lines)


def notmiwae() -> str:
    record = only("notmiwae-*.json")
    lines = ["| method | root mean squared error |", "|---|---:|"]
    for name, values in record["root mean squared error"].items():
        lines.append(f"| {name} | {', '.join(f'{value:.3f}' for value in values)} |")
    settings = record["settings"]
    return (
        "\n".join(lines)
        + f"\n\n{settings['steps']:,} steps, {settings['draws']:,} draws, {record['form']} form."
    )


def m2() -> str:
    record = only("m2_100_labels-*.json")
    lines = ["| method | error on held-out rows |", "|---|---:|"]
    for name, values in record["error"].items():
        lines.append(f"| {name} | {', '.join(f'{100 * value:.1f}%' for value in values)} |")
    settings = record["settings"]
    return "\n".join(lines) + (
        f"\n\n{record['data']}, {record['rows']:,} rows, {settings['labels']} of them with a label, {settings['epochs']} "
        f"epochs, {record['form']} form."
    )


def inference_gaps() -> str:
    record = only("inference_gaps-*.json")
    names = ["log p(x)", "L[q*]", "L[q]", "approximation", "amortization"]
    lines = [f"| guide | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for guide, result in record["guides"].items():
        cells = [f"{result[name][0]:.2f} ± {result[name][1]:.2f}" for name in names]
        lines.append(f"| {guide} | {' | '.join(cells)} |")
    settings = record["settings"]
    return "\n".join(lines) + (
        f"\n\n{settings['rows']:,} of the {settings['train_rows']:,} rows that were trained on, "
        f"{settings['epochs']} epochs, {settings['latent']} factors, {record['form']} form."
    )
