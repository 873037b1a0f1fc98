"""The tables of README and docs by the name that stands in the pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from peers.table import table

from results_pages import published_tables, transcribed

FIGURES = Path(__file__).parents[1] / "figures"
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKED = re.compile(r"(<!-- figures: (.+?) -->\n)(.*?)(<!-- end of figures -->)", re.S)


def stored(name: str) -> dict:
    return json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))


def theory() -> str:
    record = stored("linear_theory")
    ppca, gaps = record["ppca"], list(record["mean-field gap"].values())
    betas, weights = record["beta-VAE"]["betas"], record["importance weights"]
    reached = ", ".join(f"{each['data']} −{abs(each['EM']):.9f}" for each in ppca)
    rates = [pair for beta in betas.values() for pair in zip(beta["optimum"], beta["theory"], strict=True)]
    largest = max(weights["bias"], key=int)
    bias, half = int(largest) * weights["bias"][largest][0], weights["variance"] / 2
    rows = [
        (
            "maximum likelihood of probabilistic PCA",
            f"log-likelihood by EM: {reached}",
            max(abs(each["EM"] - each["maximum"]) for each in ppca),
        ),
        (
            "mean-field gap",
            f"{len(gaps)} angles, gaps from 0 to {max(gap['library'] for gap in gaps):.3f}",
            max(abs(gap["library"] - gap["formula"]) for gap in gaps),
        ),
        (
            "rates of linear β-VAEs",
            f"{len(rates)} rates at {len(betas)} values of β, from 0 to {max(a for a, _ in rates):.3f}",
            max(abs(a - b) for a, b in rates),
        ),
        (
            f"K times the bias of the importance-weighted bound, K = {int(largest):,}",
            f"{bias:.5f}; in the limit {half:.5f}",
            abs(bias - half),
        ),
    ]
    lines = ["| identity | checked on, nats per row | largest difference, nats |", "|---|---|---:|"]
    return "\n".join(lines + [f"| {name} | {on} | {difference:.1e} |" for name, on, difference in rows])


def theory_slope() -> str:
    weights = stored("linear_theory")["importance weights"]
    return (
        f"The slope of the logarithm of the bias against that of K, fitted from K = {weights['from']} on, is "
        f"−{abs(weights['slope']):.4f}. The theory says −1 in the limit."
    )


def few_labels(name: str) -> str:
    record = stored(name)
    methods = list(next(iter(record["accuracy"].values())))
    lines = ["| labels | " + " | ".join(methods) + " |", "|---:|" + "---:|" * len(methods)]
    for count, by_name in record["accuracy"].items():
        cells = []
        for method in methods:
            scores = np.array(by_name[method])
            spread = f" ± {scores.std(ddof=1):.3f}" if len(scores) > 1 else ""
            cells.append(f"{scores.mean():.3f}{spread}")
        lines.append(f"| {int(count):,} | " + " | ".join(cells) + " |")
    settings = record["settings"]
    notes = (
        f"{settings['rows']:,} rows to learn from, {settings['held_out']:,} held out, {settings['latent']} factors, "
        f"{settings['epochs']} epochs, {settings['seeds']} seeds, each with labelled rows of its own. Mean ± standard "
        "deviation over the seeds."
    )
    return "\n".join(lines) + f"\n\n{notes}"


def peers() -> str:
    record = stored("against_peers")
    settings = record["settings"]
    notes = (
        f"{settings['columns']}-{settings['hidden']}-{settings['latent']}, {settings['rows']:,} rows, batches of "
        f"{settings['batch']} rows, one thread, one run. The seconds are processor time."
    )
    missing = [f"Left out: {name}, because {why}." for name, why in record["left out"].items()]
    return "\n\n".join([table(record["programs"]), notes, *missing])


def whole_fits() -> str:
    """The first column of the whole fits: one model, three programs, two machines."""
    tables = transcribed.records()["training_speed"]["tables"]
    programs = {
        "PyTorch by hand": "by hand, Adam",
        "NumPyro 0.22": "NumPyro 0.22",
        "pyro_lfm": "lfm, default engine (auto)",
    }
    lines = [f"| machine | {' | '.join(programs)} |", "|---|---:|---:|---:|"]
    for machine, name in (("AMD Zen 5", "fits"), ("Intel Xeon", "fits, Intel")):
        rows = tables[name]["rows"]
        seconds = [transcribed.number_of(next(iter(rows[row].values()))) for row in programs.values()]
        lines.append(f"| {machine} | {' | '.join(f'{each} s' for each in seconds)} |")
    return "\n".join(lines)


def fewer_seconds() -> str:
    sentences = []
    for machine, name in (("AMD", "fits"), ("Intel", "fits, Intel")):
        rows = transcribed.records()["training_speed"]["tables"][name]["rows"]
        ours, theirs = rows["lfm, default engine (auto)"], rows["NumPyro 0.22"]
        saved = [
            str(round(100 * (1 - transcribed.number_of(ours[each]) / transcribed.number_of(theirs[each]))))
            for each in ours
        ]
        sentences.append(
            f"On {machine}, pyro_lfm takes {', '.join(saved[:-1])} and {saved[-1]}% less wall time than NumPyro."
        )
    return " ".join(sentences)


TRANSCRIBED: dict[str, Callable[[], str]] = {
    f"{record}, {name}": partial(transcribed.table, record, name)
    for record, stored in transcribed.records().items()
    for name in stored["tables"]
}

TABLES: dict[str, Callable[[], str]] = TRANSCRIBED | {
    "theory": theory,
    "slope of the bias": theory_slope,
    "few labels, digits": lambda: few_labels("few_labels_digits"),
    "few labels, Fashion-MNIST": lambda: few_labels("few_labels_fashion"),
    "peers": peers,
    "Exemplar-VAE": published_tables.exemplar_full,
    "Exemplar-VAE, details": published_tables.exemplar_full_details,
    "Exemplar-VAE, short form": published_tables.exemplar_short,
    "MIWAE": published_tables.miwae,
    "not-MIWAE": published_tables.notmiwae,
    "M2": published_tables.m2,
    "inference gaps": published_tables.inference_gaps,
    "whole fits": whole_fits,
    "fewer seconds": fewer_seconds,
}


def with_tables(text: str) -> str:
    """A page with each marked table made anew. A table that differs in bold type alone stays as it is."""

    def made_anew(mark: re.Match[str]) -> str:
        made = f"{mark[1]}\n{_table(mark[2])}\n\n{mark[4]}"
        return mark[0] if mark[0].replace("**", "") == made.replace("**", "") else made

    return MARKED.sub(made_anew, text)


def _table(name: str) -> str:
    try:
        return TABLES[name]()
    except FileNotFoundError:
        return "This has not been measured yet."
