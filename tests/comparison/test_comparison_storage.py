"""A folder stores the fits of a comparison: interruptions, other arguments, edited code."""

import copy
import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from comparison_cases import QUICK, fixed_model, guides, same, small, state_of

import pyro_lfm as lfm
from pyro_lfm.identity import identity_of


class Interrupted(Exception):
    pass


def interrupting(at_call):
    calls = []

    def callback(record, fit):
        calls.append(record["epoch"])
        if len(calls) == at_call:
            raise Interrupted

    return calls, callback


def test_an_interrupted_comparison_goes_on_with_the_same_result(tmp_path):
    model, x = small()
    candidates = {**guides(), "em": lfm.EM(iterations=3)}
    options = {"test": x[40:], "seeds": 2, "epochs": 3, "draws": 30, "progress": False}
    whole = lfm.compare(model, x[:40], candidates, **options)
    # In the second candidate, after its first epoch.
    calls, callback = interrupting(5)
    with pytest.raises(Interrupted):
        lfm.compare(model, x[:40], candidates, folder=tmp_path, callbacks=[callback], **options)
    assert len(list(tmp_path.glob("*/record.json"))) == 1 and len(list(tmp_path.glob("*.unfinished"))) == 1
    seen = []
    went_on = lfm.compare(
        model,
        x[:40],
        candidates,
        folder=tmp_path,
        callbacks=[lambda record, fit: seen.append(record["epoch"])],
        **options,
    )
    # The first candidate is not fitted again, and the second continues after the stored epoch.
    assert seen[:2] == [2, 3] and sorted(seen) == sorted([2, 3] + [1, 2, 3] * 2 + [0, 1, 2, 3] * 2)
    assert not list(tmp_path.glob("*.unfinished"))
    unseen = []
    again = lfm.compare(
        model,
        x[:40],
        candidates,
        folder=tmp_path,
        callbacks=[lambda *record: unseen.append(record)],
        **options,
    )
    assert not unseen
    for result in (went_on, again):
        for metric in ("bound", "kl", "log_likelihood", "gap"):
            for candidate in candidates:
                assert torch.equal(result.rows[metric][candidate], whole.rows[metric][candidate]), (
                    metric,
                    candidate,
                )
        for candidate, done in result.fits.items():
            assert same(
                state_of(done.model, done.guide),
                state_of(whole.fits[candidate].model, whole.fits[candidate].guide),
            )
            assert torch.equal(done.posterior(x[40:]).mean, whole.fits[candidate].posterior(x[40:]).mean)
            assert len(done.history) == len(whole.fits[candidate].history)
            for what in ("converged", "ends", "schema"):
                assert repr(getattr(done, what)) == repr(getattr(whole.fits[candidate], what))
    assert again.table.drop(columns=[c for c in again.table if "seconds" in c]).equals(
        whole.table.drop(columns=[c for c in whole.table if "seconds" in c])
    )


def test_an_interruption_while_measuring_loses_no_training(tmp_path):
    model, x = small()
    candidates, counts, fails = guides(), [], [False, True]

    def flaky(fit, rows):
        if fails and fails.pop(0):
            raise Interrupted
        return 0.0

    options = {**QUICK, "metrics": ["bound", {"flaky": flaky}], "folder": tmp_path}
    with pytest.raises(Interrupted):
        lfm.compare(model, x, candidates, **options)
    # The function holds a list that has changed, so it is another metric, and stored numbers are not valid.
    with pytest.raises(
        lfm.DeclarationError, match=r"'mean-field', seed 0, of another comparison: metrics.flaky"
    ):
        lfm.compare(model, x, candidates, **options)
    del counts


def test_a_folder_of_another_comparison_is_refused_in_words(tmp_path):
    model, x = small()
    candidates = guides()
    lfm.compare(model, x, candidates, folder=tmp_path, **QUICK)
    more = lfm.compare(model, x, {**candidates, "em": lfm.EM()}, folder=tmp_path, seeds=2, **QUICK)
    assert more.values["bound"]["em"].shape == (2,)
    for given, options, word in (
        (x, {"epochs": 3}, "inference.epochs was 2, now it is 3"),
        (x, {"draws": 31}, "draws was 30, now it is 31"),
        (x, {"learning_rate": 1e-2}, "inference.learning_rate"),
        (x, {"metrics": ["bound"]}, "metrics"),
        (x, {"test": x[:5]}, "test_rows was 'none'"),
        (x + 1, {}, "fitted_rows"),
    ):
        with pytest.raises(lfm.DeclarationError, match=word) as error:
            lfm.compare(model, given, candidates, folder=tmp_path, **{**QUICK, **options})
        assert "another folder" in str(error.value)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        next(changed.parameters()).add_(1.0)
    with pytest.raises(lfm.DeclarationError, match=r"model.factors.*manual_seed"):
        lfm.compare(changed, x, candidates, folder=tmp_path, **QUICK)
    next(tmp_path.glob("full*seed-0/record.json")).write_bytes(b"no file of ours")
    with pytest.raises(lfm.DataError, match="(?s)cannot be read.*remove it"):
        lfm.compare(model, x, candidates, folder=tmp_path, **QUICK)


def test_arguments_are_compared_by_their_values():
    def schedule(rate):
        return lambda done: rate * done

    one, other = (identity_of(of=schedule(rate), model=fixed_model()) for rate in (1.0, 2.0))
    assert [name for name in one if one[name] != other[name]] == ["of.holds.0"]
    assert identity_of(of=lambda done: done) != identity_of(of=lambda done: done**2)
    assert identity_of(of=schedule(1.0), model=fixed_model()) == one


CODE = {
    "a method": "class Of:\n    def forward(self):\n        return V\nof = Of()",
    "a method of a base": "class A:\n    def f(self):\n        return V\nclass B(A):\n    pass\nof = B()",
    "a method of a module": "class Of(nn.Module):\n    def forward(self, x):\n        return V * x\nof = Of()",
    "a prior": "class Of(lfm.Prior):\n    def forward(self):\n        return dist.Normal(0.0, V)\nof = Of(2)",
    "a property": "class Of:\n    @property\n    def rate(self):\n        return V\nof = Of()",
    "a static method": "class Of:\n    @staticmethod\n    def f():\n        return V\nof = Of()",
    "a value of a class": "class Of:\n    rate = V\nof = Of()",
    "a method of a dict": "class Of(dict):\n    def f(self):\n        return V\nof = Of(a=1)",
    "nothing in a list": "of = [[], {}][V - 1]",
    "a class": "class Of:\n    rate = V\nof = Of",
    "a helper": "def helper():\n    return V\ndef of():\n    return helper()",
    "another helper": "def a():\n    return V\ndef b():\n    return a() + of()\ndef of():\n    return [b() for _ in [1]]",
    "a global": "rate = V\nof = lambda: rate",
    "a class that is called": "class A:\n    rate = V\nof = lambda: A().rate",
    "a partial": "of = functools.partial(print, end=V)",
    "a partial of": "of = functools.partial(lambda: V)",
    "a cache": "@functools.lru_cache\ndef of():\n    return V",
    "a keyword": "def of(*, rate=V):\n    return rate",
    "a private attribute": "class Of:\n    def __init__(self, rate):\n        self._rate = rate\nof = Of(V)",
    "a private one of a module": "class Of(nn.Module):\n    pass\nof = Of()\nof._rate = V",
    "a slot": "class Of:\n    __slots__ = ('rate', '__dict__')\nof = Of()\nof.rate = V",
    "an entry of a set": "class Of:\n    rate = V\nof = {Of, 3}",
    "a range": "of = range(V)",
    "an array": "of = np.array(['a', str(V)], dtype=object)",
    "closures": "def make(rate):\n    return lambda: rate\nof = [make(1), make(V)]",
}


@pytest.mark.parametrize("name", CODE)
def test_edited_code_and_changed_globals_change_the_identity(name):
    def result(value):
        here = {
            "__name__": "mine",
            "lfm": lfm,
            "dist": dist,
            "nn": torch.nn,
            "functools": functools,
            "np": np,
        }
        exec(CODE[name].replace("V", str(value)), here)
        return identity_of(of=here["of"])

    assert result(1) == result(1) != result(2)


def test_edited_code_is_refused_by_a_folder(tmp_path):
    model, x = small()
    scores = []
    for value in (1.0, 2.0):
        here: dict = {"__name__": "mine"}
        exec(f"def helper():\n    return {value}\ndef score(fit, data):\n    return helper()", here)
        scores.append({"score": here["score"]})
    candidates = {"em": lfm.EM(iterations=1)}
    for _ in range(2):
        result = lfm.compare(model, x, candidates, metrics=scores[0], folder=tmp_path, progress=False)
        assert result.values["score"]["em"].tolist() == [1.0]
    with pytest.raises(lfm.DeclarationError, match=r"metrics.score.function.reads.helper was"):
        lfm.compare(model, x, candidates, metrics=scores[1], folder=tmp_path, progress=False)


def test_tensors_of_any_layout_are_compared_by_their_values():
    one = torch.ones(1).expand(1).as_strided((1,), (0,))
    assert one.stride() == (0,) and identity_of(of=one) == identity_of(of=torch.ones(1))
    assert identity_of(of=torch.eye(2).to_sparse()) == identity_of(of=torch.eye(2))
    assert identity_of(of=torch.tensor([1j]).conj()) == identity_of(of=torch.tensor([complex(0, -1)]))


def test_the_identity_of_arguments_is_the_same_in_another_process():
    """The order of a set's entries, addresses and the state of counters differ between processes."""
    script = """
import functools
import logging
import torch
import pyro_lfm as lfm
from pyro_lfm.identity import identity_of
torch.manual_seed(0)
model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
svi = lfm.SVI(guide, schedule=lambda done: done in {"a", "b", "c", "d"} or {"e", "f", "g"})
class Prior(lfm.Prior):
    known = {"a", "b", "c"}
    def __init__(self):
        super().__init__(2)
        self._keep, self._same = object(), self
    def forward(self):
        return helper(self._keep)
class Slots:
    __slots__ = ("a",)
class Loud(dict):
    def louder(self):
        return 2
log, slots = logging.getLogger("loud"), Slots()
linear = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(3, mean=lfm.Linear()))
fit = lfm.fit(linear, torch.eye(3), lfm.EM(iterations=1), seed=0, progress=False)
slots.a = {Prior, Slots, ("u", "v")}
def helper(value, *, by=functools.partial(max, slots)):
    return [prior, slots, torch.randn(2), print] if value in {"p", "q", "r"} else (log, fit, loud)
prior, loud, values = Prior(), Loud(), {slots: object(), Prior: (1, 2)}
digests = identity_of(model=model, inference=svi, of={"x", "y", "z"}, code=[helper, prior, values])
print(digests)
"""
    here: dict = {"__name__": "__main__"}
    exec(script, here)
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(here["digests"]) and "inference.schedule" in here["digests"]
