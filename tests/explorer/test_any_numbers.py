"""Whatever numbers a request holds, it has an answer or a sentence: no error of Python, and no NaN in JSON."""

import json
import logging
import random

import cases
import explored
import pytest

import pyro_lfm as lfm
from pyro_lfm.explorer.page_application import FIELDS
from pyro_lfm.web.answering import answered
from pyro_lfm.web.refusal import Refusal

PLAIN = [0, 1, -1, 2, 0.5]
ODD = [1e-30, 1e6, -1e6, 1e30, -1e30, 3.4e38, 1e39, 1e308, 2**53, 10**400, None, True, "1", -0.0]
LIKELIHOODS = (
    "poisson",
    "dirichlet",
    "beta",
    "ordered-logistic",
    "multinomial-observed-total",
    "negative-binomial",
)


def of_case(model):
    guide, data = cases.guide_for(model, cases.GUIDES["gaussian-full"]), cases.rows_of(model)
    fit = lfm.fit(model, data, lfm.SVI(guide, steps=2), seed=0, progress=False)
    return explored.answers_of(fit, data)


SESSIONS = {
    "pets": lambda folder: explored.answers_of(*explored.of_pets(folder)),
    "labelled": lambda folder: explored.answers_of(*explored.labelled()),
    "gamma-dirichlet": lambda folder: of_case(cases.MODELS["gamma-dirichlet"]()),
    **{name: lambda folder, name=name: of_case(cases.one_latent(likelihood=name)) for name in LIKELIHOODS},
}


def request_of(answers, numbers):
    """A request of the right form with any numbers, and the name of its answer."""
    session = answers.session

    def some(count):
        return [numbers.choice(ODD if numbers.random() < 0.1 else PLAIN) for _ in range(count)]

    if numbers.random() < 0.4:
        name, request = "decode", {"z": some(len(session.axes.names))}
        request["labels"] = {
            label: numbers.choice([0, 2, 3, -1, 0.5, None]) for label in session.shown_labels()
        }
    else:
        name, request = "encode", {"views": [some(view.size) for view in session.views]}
    request["covariates"] = {entry.name: numbers.choice([0, 1, *ODD]) for entry in session.decoder.covariates}
    return name, request


@pytest.mark.parametrize(
    ("name", "count"),
    [("labelled", 60), *(pytest.param(name, 500, marks=pytest.mark.slow) for name in SESSIONS)],
)
def test_any_numbers_have_an_answer_or_a_sentence(name, count, tmp_path):
    answers, numbers, answered_ones = SESSIONS[name](tmp_path), random.Random(0), 0
    for _ in range(count):
        asked, request = request_of(answers, numbers)
        body, log = json.dumps(request).encode(), logging.getLogger("test")
        try:
            content = answered(f"/api/{asked}", FIELDS[asked], getattr(answers, asked), body, log)
        except Refusal as refusal:
            assert "\n" not in str(refusal) and len(str(refusal)) < 500
        else:
            answered_ones += 1
            json.loads(content, parse_constant=pytest.fail)
    assert answered_ones > 0
