"""Hostile text and folders: typed errors, no code is run, no file is made, and memory stays below twice the file + 100 MB.

The environment variable FUZZ_EXAMPLES is the number of cases of each kind, as for the other readers.
"""

import os
import random
import shutil
import tracemalloc

import cases
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyro_lfm as lfm

CASES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
WITHIN = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
TYPED = (lfm.DeclarationError, lfm.DataError)
NAMES = [
    "StandardNormal", "Gaussian", "MLP", "Linear", "Diagonal", "Full", "LowRank", "Learned", "Fixed", "Poisson", "Lookup",
    "Flow", "NeuralSpline", "ELBO", "SVI", "EM", "schedules.linear", "parameter_priors.ARD", "Zuko", "Covariate",
    "os.system", "__import__", "eval", "open", "Gausian", "package>Mine", "torch.tensor", "constraints.positive", "python",
    "heterogeneous", "GaussianProcess", "VampPrior", "tensor", "partial",
]  # fmt: skip
ARGUMENTS = [
    "event",
    "mean",
    "covariance",
    "network",
    "given",
    "hidden",
    "rank",
    "type",
    "source",
    "init",
    "value",
    "prior",
]
numbers = st.one_of(st.integers(-3, 40), st.floats(allow_nan=True), st.booleans(), st.none())
words = st.one_of(st.sampled_from([*NAMES, "z", "x", "relu", "auto", "Adam"]), st.text(max_size=8))


def expressions():
    """Text like an expression, of names and arguments that mostly do not fit."""
    leaf = st.one_of(
        numbers.map(repr),
        words.map(repr),
        st.sampled_from(NAMES),
        st.text("()[]{}=,.'\"\\ \n-+*:@", max_size=6),
    )

    def call(inner):
        argument = st.one_of(inner, st.tuples(st.sampled_from(ARGUMENTS), inner).map("=".join))
        return st.tuples(st.sampled_from(NAMES), st.lists(argument, max_size=4)).map(
            lambda c: f"{c[0]}({', '.join(c[1])})"
        )

    return st.recursive(leaf, call, max_leaves=8)


def documents():
    """Nested dicts with the keys and values of documents, mostly in wrong places."""
    value = st.recursive(
        st.one_of(numbers, words, expressions()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from([*ARGUMENTS, "z", "x", "table", "shared", "function", "name"]),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=10,
    )
    section = st.dictionaries(
        st.sampled_from(["z", "x", "y", "type", "table", "shared", "guide", "epochs"]), value, max_size=4
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "model": section, "guide": section, "inference": st.one_of(section, expressions()), "data": section,
            "lfm": numbers, "dtype": words, "modle": value,
        },
    )  # fmt: skip


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """The working folder of a test, in which nothing may appear."""
    place = tmp_path / "empty"
    place.mkdir()
    monkeypatch.chdir(place)
    yield
    assert not list(place.iterdir())


def refused_or_read(read, *arguments):
    try:
        return read(*arguments)
    except TYPED as error:
        assert str(error) and "Traceback" not in str(error)
        return None


@given(expressions())
@WITHIN
def test_expressions(text):
    refused_or_read(lfm.part, text)


@given(st.text())
@WITHIN
def test_text(text):
    refused_or_read(lfm.part, text)
    refused_or_read(lfm.declare, text + "\n")


@given(documents())
@WITHIN
def test_documents(document):
    refused_or_read(lfm.declare, document)


TEXT = (
    lfm.Declaration(model=cases.two_views()).toml()
    + '[guide]\nz = "Gaussian(network=MLP(6))"\n[inference]\ntype = "SVI"\nepochs = 3\n'
)


def mutated(data, chance):
    """Bytes that were changed, cut, doubled or moved in a few places."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not data:
            break
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.randint(1, 12))
        kind = chance.randrange(5)
        if kind == 0:
            data[start] = chance.randrange(256)
        elif kind == 1:
            del data[start:end]
        elif kind == 2:
            data[start:start] = data[start:end]
        elif kind == 3:
            data[start:end] = bytes(
                chance.choice(b"0123456789()[]{}\"'=,.-+eE \n") for _ in range(end - start)
            )
        else:
            del data[chance.randrange(len(data)) :]
    return bytes(data)


def test_texts_that_were_changed():
    chance = random.Random(0)
    for _ in range(CASES):
        data = mutated(TEXT.encode(), chance)
        refused_or_read(lfm.declare, data.decode("utf-8", "replace") + "\n")


def test_folders_that_were_changed(tmp_path):
    """With the digests as they were, and with those of the changed files."""
    import hashlib
    import json

    model = cases.two_views()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    svi = lfm.SVI(guide, epochs=1, engine="eager")
    lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False).save(tmp_path / "run")
    files = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    largest = 2 * sum(map(len, files.values())) + 100 * 2**20
    chance, folder = random.Random(0), tmp_path / "changed"
    tracemalloc.start()
    # Each takes as long as ten texts.
    for k in range(max(40, CASES // 10)):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "run", folder)
        name = chance.choice(list(files))
        (folder / name).write_bytes(mutated(files[name], chance))
        if k % 2 and name != "fit.json":
            entries = json.loads(files["fit.json"])
            entries["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            (folder / "fit.json").write_text(json.dumps(entries))
        tracemalloc.reset_peak()
        refused_or_read(lfm.load, folder)
        assert tracemalloc.get_traced_memory()[1] < largest
    tracemalloc.stop()


class Canary:
    """Makes a file where it is unpickled."""

    def __reduce__(self):
        return (open, ("canary", "w"))


@pytest.mark.parametrize("name", ["weights.safetensors", "fit.json", "history.csv", "declaration.toml"])
def test_a_pickle_with_side_effects_is_refused(name, tmp_path):
    import pickle

    import torch

    model = cases.plain()
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    svi = lfm.SVI(guide, epochs=1, engine="eager")
    lfm.fit(model, cases.rows_of(model), svi, seed=0, progress=False).save(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(pickle.dumps(Canary()))
    with pytest.raises(TYPED):
        lfm.load(tmp_path / "run")
    torch.save(Canary(), tmp_path / "run" / name)
    with pytest.raises(TYPED):
        lfm.load(tmp_path / "run")
