"""Short fits under the default engine replay recorded steps, with the numbers of eager bit for bit."""

import logging
import subprocess
import sys

import cases
import pytest
import torch
from native_code import apart, fitted, with_guide

import pyro_lfm as lfm
from pyro_lfm.inference.engines import choice
from pyro_lfm.inference.engines.plain_function import plain_function
from pyro_lfm.inference.engines.pure_graph import without_changes
from pyro_lfm.inference.engines.recorder import record

ROWS = torch.randn(43, cases.D, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def from_the_first_step(monkeypatch):
    monkeypatch.setattr(choice, "RECORDING", -1.0)
    monkeypatch.setattr(choice, "FIRST_REPLAYED", 0)


def equal_to_eager(caplog, make, data, **options):
    caplog.set_level(logging.INFO, "pyro_lfm")
    eager, _ = fitted("eager", make, data, **options)
    caplog.clear()
    auto, _ = fitted("auto", make, data, **options)
    assert [message for message in caplog.messages if "engine" in message or "eager" in message] == [
        "engine: steps are replayed after 0 steps, as compiling them takes longer than it saves"
    ]
    assert apart(eager, auto) == 0.0
    # Pyro's own objectives sum the bound in double precision.
    assert [r["bound"] for r in eager.history] == pytest.approx([r["bound"] for r in auto.history], rel=1e-6)


@pytest.mark.parametrize("name", cases.GUIDES)
def test_every_guide_ends_at_the_same_numbers(name, caplog):
    equal_to_eager(caplog, lambda: with_guide(cases.plain(), name), ROWS, epochs=4, batch_size=16)


@pytest.mark.parametrize("name", cases.OBJECTIVES)
def test_every_objective_ends_at_the_same_numbers(name, caplog):
    objective = cases.OBJECTIVES[name]()
    equal_to_eager(caplog, lambda: with_guide(cases.plain()), ROWS, objective=objective, epochs=4)


@pytest.mark.parametrize(
    "options",
    [
        {"clip_norm": 0.1},
        {"optimizer": torch.optim.SGD},
        {"schedule": lfm.schedules.cosine()},
        {"objective": lfm.ELBO(kl_weight=lfm.schedules.linear(until=1.0))},
    ],
    ids=["clipped", "SGD", "rates", "weights"],
)
def test_options_of_the_inference_are_followed(options, caplog):
    equal_to_eager(caplog, lambda: with_guide(cases.plain()), ROWS, epochs=4, **options)


def test_a_short_fit_does_not_import_the_compiler():
    program = """
import sys, torch, pyro_lfm as lfm
model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Bernoulli(4, logits=lfm.MLP(8)))
guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
fit = lfm.fit(model, torch.ones(400, 4), lfm.SVI(guide, epochs=40, batch_size=64), seed=0, progress=False)
assert not {"torch._dynamo", "sympy", "jax"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_plain_function_leaves_out_what_changes_nothing():
    x = torch.randn(3, 4)

    def function(x):
        unread = x.exp()
        del unread
        return [x.t().t().detach() * 2, x.view(4, 3).view(3, 4), x.t().reshape(12)]

    graph, external = record(function, [x])
    assert not external
    replayed = plain_function(graph)
    assert all(torch.equal(one, other) for one, other in zip(function(x), replayed(x), strict=True))
    assert "exp" not in replayed.__code__.co_varnames and replayed(x)[1] is x
    assert len(replayed.__code__.co_varnames) < len(graph.graph.nodes)


def test_a_plain_function_transposes_what_looked_the_same_transposed():
    graph, _ = record(lambda x: [x.t() * 2], [torch.ones(1).expand(3, 3)])
    x = torch.arange(9.0).view(3, 3)
    assert torch.equal(plain_function(graph)(x)[0], x.t() * 2)


@pytest.mark.parametrize("pure", [True, False])
def test_operations_in_place_become_others(pure):
    """Also where a view that was made before sees the change, which takes another road."""
    x = torch.randn(3, 4)

    def function(x):
        y = x * 2
        row = y[0]
        y.add_(1).mul_(3)
        return [y.sum(0) if pure else y * row.sum(), row * 0 if not pure else y]

    graph, _ = record(function, [x])
    changed = without_changes(graph)
    assert isinstance(changed, torch.fx.GraphModule) == pure
    assert all(torch.equal(one, other) for one, other in zip(function(x), changed(x), strict=True))
    if pure:
        assert not any("add_" in str(node.target) for node in changed.graph.nodes)
