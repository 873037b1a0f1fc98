"""Folders of fits that earlier releases saved. They load for good: no folder here is ever written again."""

import json
from pathlib import Path

import pytest
import torch

import pyro_lfm as lfm

FOLDERS = sorted((Path(__file__).parent / "releases").glob("*/*"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_fit_of_a_release_loads_and_gives_its_numbers(folder):
    expected = json.loads((folder / "expected.json").read_text())
    fit = lfm.load(folder)
    rows = {name: torch.tensor(values) for name, values in expected["rows"].items()}
    posterior = fit.posterior(rows)
    for name, mean in expected["means"].items():
        q = posterior[name] if isinstance(posterior, dict) else posterior
        values = q.probs if name == "c" else q.mean
        assert torch.allclose(values.double(), torch.tensor(mean).double(), atol=1e-5), name
    assert len(fit.history) == expected["epochs"]
    assert fit.model.sample(2, seed=0).keys() == set(expected["names"])


def test_there_are_folders_of_this_release():
    assert len(FOLDERS) >= 4
