"""NumPyro's environment, and that its contestant trains the model of the loop by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTEST = """
import json, sys
from dataclasses import replace
from pathlib import Path
from rivals.configuration import BY_HAND
from rivals.contest import alone
from rivals.environments import Unavailable, default_folder, python_of
from training.configurations import TINY
from training.measures import NUMPYRO, Contest
try:
    python = python_of("numpyro", default_folder())
except Unavailable as error:
    sys.exit(f"unavailable: {error}")
c = replace(TINY, steps=50, epochs=6, **json.loads(sys.argv[1]))
c = replace(c, channels=tuple(c.channels))
contest = Contest("", [BY_HAND, NUMPYRO], {NUMPYRO: python}, 1, 1)
fits, failures = alone(contest.commands([BY_HAND, NUMPYRO], c), c, contest.data(c), 1)
print(json.dumps([[fits[name][0]["bound"] for name in (BY_HAND, NUMPYRO)], failures]))
"""
MAKE = """
import sys
from pathlib import Path
from rivals.environments import Unavailable, python_of
try:
    python_of("numpyro", Path(sys.argv[1]))
except Unavailable as error:
    print(f"UNAVAILABLE {error}")
"""


def run(program, *arguments, **environment):
    paths = os.pathsep.join([str(ROOT / "experiments"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"likelihood": "Gaussian"},
        {"covariance": "full"},
        {"channels": [4, 8]},
        {"particles": 5},
    ],
    ids=["plain", "Gaussian", "full", "convolutional", "IWAE"],
)
def test_numpyro_trains_the_same_model(variant):
    done = run(CONTEST, json.dumps(variant))
    if done.stderr.startswith("unavailable"):
        pytest.skip(done.stderr)
    (by_hand, numpyro), failures = json.loads(done.stdout.splitlines()[-1])
    assert not failures
    # One seed each. Fits of this size end up to 1.5 nats apart; a bound without its KL is off by about 7.
    assert numpyro == pytest.approx(by_hand, abs=3.0)


@pytest.mark.slow
def test_without_a_network_a_sentence_says_so(tmp_path):
    index = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_NO_INDEX": "", "PIP_FIND_LINKS": ""}
    done = run(MAKE, str(tmp_path), **index, PIP_NO_CACHE_DIR="1")
    assert done.returncode == 0, done.stderr
    (sentence,) = [line for line in done.stdout.splitlines() if line.startswith("UNAVAILABLE")]
    assert "no environment for numpyro could be made: ERROR" in sentence
    assert not list(tmp_path.glob("*/complete")), "a part of an environment passes for a whole one"
