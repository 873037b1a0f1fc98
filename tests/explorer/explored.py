"""Fits and rows that the tests of the explorer share: pictures, a mixed table in a CSV file, labels and covariates."""

import numpy as np
import pandas as pd
import torch

import pyro_lfm as lfm
from pyro_lfm.explorer.known_attributes import known_attributes
from pyro_lfm.explorer.page_answers import Answers
from pyro_lfm.explorer.session import Session
from pyro_lfm.explorer.user_rows import user_rows


def linear(rows=60, entries=64, latents=3):
    """A linear Gaussian model with its exact posterior, and rows of it."""
    torch.manual_seed(1)
    weight = torch.randn(entries, latents)
    x = lfm.Gaussian(
        entries,
        mean=lfm.Linear(weight=lfm.Fixed(weight), bias=lfm.Fixed(0.5)),
        covariance=lfm.Isotropic(lfm.Fixed(0.4)),
    )
    model = lfm.Model(z=lfm.StandardNormal(latents), x=x)
    data = model.sample(rows, seed=0)["x"]
    return lfm.fit(model, data, lfm.EM(iterations=1), seed=0, progress=False), data, weight


def pets():
    """A table of numbers, counts, labels and gaps."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=80)
    frame = pd.DataFrame(
        {
            "name": [f"pet {k}" for k in range(80)],
            "kg": np.round(4 + 2 * size + 0.3 * rng.normal(size=80), 2),
            "kittens": rng.poisson(np.exp(1 + 0.6 * size)),
            "fur": np.where(size + 0.5 * rng.normal(size=80) > 0, "long", "short"),
        }
    )
    frame.loc[3, "kg"] = np.nan
    frame.loc[5, "fur"] = None
    return frame


def of_pets(folder):
    """A fit of the pets, and the path of their file; their names are no part of the model."""
    frame = pets()
    path = folder / "pets.csv"
    text = frame.to_csv(index=False, sep=";", decimal=",")
    path.write_bytes(text.replace("\n", "\r\n").encode("latin-1"))
    kinds = {"kg": "continuous", "kittens": "count"}
    table = lfm.heterogeneous(frame.drop(columns="name"), kinds=kinds, network=lfm.MLP(8))
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(16)))
    inference = lfm.SVI(guide, epochs=60, learning_rate=3e-2, engine="eager")
    return lfm.fit(model, table.data, inference, seed=0, progress=False), path


def labelled(rows=40):
    """A model with a label of each row as a latent, a number and a label as covariates."""
    torch.manual_seed(0)
    model = lfm.Model(
        y=lfm.Categorical(3),
        z=lfm.StandardNormal(2),
        dose=lfm.Covariate(value=0.0),
        arm=lfm.Covariate(value=0.0, support=torch.distributions.constraints.integer_interval(0, 1)),
        x=lfm.Gaussian(4, mean=lfm.MLP(8), given=("y", "z", "dose", "arm")),
    )
    guide = lfm.Guide(model, y=lfm.Categorical(network=lfm.MLP(8)), z=lfm.Gaussian(network=lfm.MLP(8)))
    arms = pd.Series(["drug", "sugar"] * (rows // 2), name="arm")
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 4)), columns=["a", "b", "c", "d"])
    data = {"x": x, "dose": np.linspace(0, 2, rows), "arm": arms}
    return lfm.fit(model, data, lfm.SVI(guide, steps=5), seed=0, progress=False), data


def answers_of(fit, data=None, labels=None, shape=None, attributes=None):
    rows = user_rows(fit, data)
    known = known_attributes(fit, rows, labels or {}, attributes)
    return Answers(Session(fit, rows, labels or {}, shape, known))
