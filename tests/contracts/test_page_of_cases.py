"""docs/maintainers/tested.md lists the combinations that are tested, by the cases that the contract tests run over.

python tests/contracts/test_page_of_cases.py        writes it anew
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import cases  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "maintainers" / "tested.md"


def table(corner, columns, rows):
    """Rows {name: cells} under columns that are numbered, since their names are long."""
    lines = [f"| {corner} | " + " | ".join(map(str, range(1, len(columns) + 1))) + " |"]
    lines.append("|---|" + ":-:|" * len(columns))
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]
    return "\n".join(
        [*lines, "", "Columns: " + ", ".join(f"{i} {n}" for i, n in enumerate(columns, 1)) + "."]
    )


def page():
    guides = list(cases.GUIDES)
    number = {guide: str(i) for i, guide in enumerate(guides, 1)}
    triples = {(prior, likelihood): guide for prior, likelihood, guide in cases.triples()}
    refused = [
        f"- {objective}, {model}: refused, naming `{words}`"
        for objective, models in cases.REFUSALS.items()
        for model, words in models.items()
    ]

    def objective_serves(objective, model):
        if model in cases.REFUSALS.get(objective, {}):
            return "–"
        left_out = objective == "pyro-mean-field" and not cases.is_continuous(cases.MODELS[model]())
        return "–" if left_out else "✓"

    parts = [
        "# What is tested together",
        "This page lists the combinations of parts that the contract tests run. `python "
        "tests/contracts/test_page_of_cases.py` makes it, and a test compares it with the cases. ✓: one optimisation step "
        "gives finite gradients to every parameter, "
        "with one draw and with several, and all shapes are right. –: the combination is impossible, and a test checks that "
        "the error says why. The names are those of `tests/cases.py`. A new part gets one line there.",
        "## Priors and guides\n\nEach pair is tested in a model with one layer, and in a model with two layers. There the "
        "state is also saved and loaded.",
        table(
            "prior",
            guides,
            {prior: ["–" if cases.refuses(prior, g) else "✓" for g in guides] for prior in cases.PRIORS},
        ),
        "## Likelihoods and priors\n\nThe number is that of the guide, as above. – means that this guide cannot "
        "serve the prior. Every "
        "likelihood is also tested with missing entries, in float64, and its `log_prob` against its draws.",
        table(
            "likelihood",
            list(cases.PRIORS),
            {
                likelihood: [
                    "–"
                    if cases.refuses(prior, triples[prior, likelihood])
                    else number[triples[prior, likelihood]]
                    for prior in cases.PRIORS
                ]
                for likelihood in cases.LIKELIHOODS
            },
        ),
        "## Structures and guides\n\nThe test of each pair runs a whole fit, computes the posterior of every latent, "
        "and calls `lfm.testing.check_guide`.",
        table("structure", guides, {model: ["✓"] * len(guides) for model in cases.MODELS}),
        "## Structures and objectives\n\nThe test of each pair runs a fit of a few steps. Other tests compare compiled with "
        "eager steps, for every structure and every objective.",
        table(
            "objective",
            list(cases.MODELS),
            {
                objective: [objective_serves(objective, model) for model in cases.MODELS]
                for objective in cases.OBJECTIVES
            },
        ),
        "\n".join(refused),
    ]
    return "\n\n".join(parts) + "\n"


def test_the_page_is_of_these_cases():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/contracts/test_page_of_cases.py"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
