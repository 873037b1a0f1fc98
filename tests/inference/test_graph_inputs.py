"""Values that a program reads beside its inputs: compiled steps follow them, or are eager with one warning that names them.

Each case is a small program with one way for a number to reach the graph from outside, and a callback that changes the
number after every epoch. The histories, weights and hidden states of an eager and a compiled fit must agree.
"""

import array
import collections
import contextvars
import copy
import cProfile
import dataclasses
import datetime
import functools
import itertools
import math
import os
import random
import threading
import time
import types
import uuid
import warnings
import weakref
from fractions import Fraction

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn
from torch.nn.utils import parametrizations

import pyro_lfm as lfm
from pyro_lfm.inference.engines import choice, tracing
from pyro_lfm.inference.engines.side_effects import changes_nothing

ROWS = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
EPOCHS = 6


class Net(nn.Module):
    """A part of a program that is scaled by the result of ``read``."""

    def __init__(self, read=lambda net, x: 1.0):
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.register_buffer("beta", torch.tensor(1.0))
        self.register_buffer("sizes", torch.tensor([1.0, 2.0, 0.0]))
        self.gate = nn.Parameter(torch.tensor(-0.01))
        self.plain, self.tensor = 1.0, torch.tensor(1.0)
        self.read = types.MethodType(read, self)

    def forward(self, z):
        return self.linear(z) * self.read(z) + self.gate


class Model(lfm.PyroModel):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=batch["x"])


@dataclasses.dataclass
class Case:
    """One way for a number to reach the graph.

    Args:
        read: gives the factor, of the net and its input.
        change: changes the net after an epoch, of the net and the number of the epoch.
        prepare: changes the net before the fit.
        reason: a part of the warning; None where there must be none.
        hidden: gives a state of the net that must be the same as after an eager fit.
    """

    read: object = lambda net, x: 1.0
    change: object = None
    prepare: object = lambda net: None
    reason: str | None = None
    hidden: object = lambda net: None
    options: dict = dataclasses.field(default_factory=dict)


def table(cases, quick):
    """The names of cases for a test; those that are not quick are marked as slow."""
    assert set(quick.split()) <= set(cases)
    return [name if name in quick.split() else pytest.param(name, marks=pytest.mark.slow) for name in cases]


@pytest.fixture
def replay(monkeypatch):
    """The recorded graph as it is, without the seconds that native code takes to be made."""
    monkeypatch.setattr(tracing, "native", lambda graph, inputs: graph)
    monkeypatch.setattr(choice, "xla_serves", lambda setup: False)


def fitted(engine, case):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    net = Net(case.read)
    case.prepare(net)
    model = Model(net)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))

    def changing(record, fit):
        case.change(net, record["epoch"])

    callbacks = [changing] if case.change else []
    options = {"epochs": EPOCHS, "batch_size": 5, "learning_rate": 0.01, "engine": engine, **case.options}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        svi = lfm.SVI(guide, **options)
        fit = lfm.fit(model, ROWS, svi, seed=0, callbacks=callbacks, progress=False)
    warned = [str(w.message) for w in caught if w.category is lfm.CompilationWarning]
    return fit, warned, case.hidden(net)


def agree(make, engine="compiled"):
    """The warnings of a compiled fit, whose history, weights and hidden state must agree with those of an eager fit."""
    eager, _, hidden = fitted("eager", make())
    compiled, warned, hidden_compiled = fitted(engine, make())
    for one, other in zip(eager.history, compiled.history, strict=True):
        assert one["bound"] == pytest.approx(other["bound"], rel=2e-6, abs=2e-6), warned
    for part, other in ((eager.model, compiled.model), (eager.guide, compiled.guide)):
        state = other.state_dict()
        for name, value in part.state_dict().items():
            assert torch.allclose(value, state[name], rtol=1e-4, atol=1e-5), (name, warned)
    assert repr(hidden_compiled) == repr(hidden), warned
    return warned


def checked(make, engine="compiled"):
    case, warned = make(), agree(make, engine)
    if case.reason is None:
        assert not warned
    else:
        assert len(warned) == 1 and case.reason in warned[0], warned


# A value leaves the graph --------------------------------------------------------------------------------


def raised(net, epoch):
    net.beta.fill_(1 + 0.3 * min(epoch, 4))


def lowered(net, epoch):
    net.gate.data.add_(0.02)


VALUE = "depends on the value of a tensor in test_graph_inputs.py, line"
LEAVING = {
    "item-of-a-buffer": lambda net, x: net.beta.item(),
    "float": lambda net, x: float(net.beta),
    "int": lambda net, x: int(net.beta * 10),
    "bool": lambda net, x: 2.0 if net.beta > 1.5 else 1.0,
    "index": lambda net, x: [1.0, 2.0, 3.0][net.beta.long()],
    "range": lambda net, x: 1.0 + len(range(net.beta.long())),
    "tolist": lambda net, x: net.beta.reshape(1).tolist()[0],
    "numpy": lambda net, x: float(net.beta.numpy()),
    "asarray": lambda net, x: float(np.asarray(net.beta)),
    "numpy-function": lambda net, x: float(np.exp(net.beta) / 3),
    "math": lambda net, x: math.exp(net.beta) / 3,
    "format": lambda net, x: float(f"{net.beta}"),
    "repr": lambda net, x: 1.0 + len(repr(net.beta)) / 20,
    "data-item": lambda net, x: net.beta.data.item(),
    "detach-item": lambda net, x: net.beta.detach().cpu().numpy().item(),
    "equal": lambda net, x: 2.0 if torch.equal(net.beta, torch.tensor(1.0)) else 1.0,
    "allclose": lambda net, x: 2.0 if torch.allclose(net.beta, torch.tensor(1.0)) else 1.0,
    "is-nonzero": lambda net, x: 2.0 if torch.is_nonzero((net.beta - 1).relu()) else 1.0,
    "chain": lambda net, x: 2.0 if 1.2 < net.beta < 2.0 else 1.0,
    "contained": lambda net, x: 2.0 if 1.0 in net.beta.reshape(1) else 1.0,
    "entry-of-a-list": lambda net, x: torch.tensor([net.beta, 1.0])[0],
    "entry-of-as-tensor": lambda net, x: torch.as_tensor([net.beta, 1.0])[0],
    "entry-of-new-tensor": lambda net, x: x.new_tensor([net.beta, 1.0])[0],
    "entry-of-Tensor": lambda net, x: torch.Tensor([net.beta, 1.0])[0],
    "alpha": lambda net, x: torch.add(torch.zeros(()), torch.ones(()), alpha=net.beta),
    "sorted": lambda net, x: sorted([net.beta, torch.tensor(1.5)])[0],
    "max": lambda net, x: float(max(net.beta, net.tensor)),
    "of-a-sum": lambda net, x: (net.beta + net.gate).item(),
    "of-an-attribute": lambda net, x: net.tensor.add(net.beta).item(),
    "deepcopy": lambda net, x: copy.deepcopy(net.beta),
    "storage": lambda net, x: net.beta.untyped_storage().nbytes() + float(net.beta.storage()[0]) - 4,
    "pointer": lambda net, x: 1.0 + (net.beta.data_ptr() == 0),
    "caught": lambda net, x: attempted(net),
    "scalar-index": lambda net, x: net.sizes[net.beta.long()],
}


class Branching(torch.autograd.Function):
    """A gradient that depends on the value of its variable."""

    @staticmethod
    def forward(ctx, value):
        ctx.save_for_backward(value)
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (3.0 if ctx.saved_tensors[0] > 1.2 else 1.0)


LEAVING["backward-pass"] = lambda net, x: Branching.apply(net.beta + net.gate)


def attempted(net):
    try:
        return net.beta.item()
    except Exception:  # a program may catch anything
        return 1.0


@pytest.mark.parametrize(
    "name", table(LEAVING, "item-of-a-buffer tolist numpy math equal entry-of-a-list entry-of-Tensor caught")
)
def test_a_value_of_a_buffer_that_leaves_the_graph_leaves_it_to_eager(name, replay):
    checked(lambda: Case(LEAVING[name], raised, reason="depends on the value of a tensor"))


SHAPES = {
    "nonzero": lambda net, x: torch.nonzero(net.sizes).shape[0] * 1.0,
    "where": lambda net, x: len(torch.where(net.sizes > 0)[0]) * 1.0,
    "mask": lambda net, x: net.sizes[net.sizes > 0].sum() * net.sizes[net.sizes > 0].numel(),
    "masked-select": lambda net, x: net.sizes.masked_select(net.sizes > 0).mean(),
    "unique": lambda net, x: len(net.sizes.unique()) * 1.0,
    "repeat": lambda net, x: net.sizes.repeat_interleave(net.sizes.long()).mean(),
    "bincount": lambda net, x: net.sizes.long().bincount().numel() * 1.0,
}


@pytest.mark.parametrize("name", table(SHAPES, "mask repeat"))
def test_a_shape_that_a_value_decides_is_left_to_eager(name, replay):
    change = lambda net, epoch: net.sizes.copy_(torch.tensor([1.0, 3.0, epoch % 2]))  # noqa: E731
    checked(lambda: Case(SHAPES[name], change, reason="the shapes of its tensors depend on the values"))


def test_the_case_of_the_issue_a_scale_that_a_buffer_gives():
    """A bound that is scaled by ``self.beta.item()``, beta raised by a callback each epoch."""

    class Scaled(Model):
        def forward(self, batch):
            with poutine.scale(scale=self.net.beta.item()):
                super().forward(batch)

    def run(engine):
        torch.manual_seed(0)
        model = Scaled(Net())
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
        raise_it = lambda record, fit: raised(model.net, record["epoch"])  # noqa: E731
        svi = lfm.SVI(guide, epochs=EPOCHS, batch_size=5, engine=engine)
        return lfm.fit(model, ROWS, svi, seed=0, callbacks=[raise_it], progress=False)

    eager = run("eager")
    with pytest.warns(
        lfm.CompilationWarning, match=r"depends on the value of a tensor in test_graph_inputs.py, line"
    ):
        compiled = run("compiled")
    assert [r["bound"] for r in compiled.history] == pytest.approx([r["bound"] for r in eager.history])


FOLLOWED = {
    "buffer": lambda net, x: net.beta,
    "full-of-a-tensor": lambda net, x: torch.zeros(()).fill_(net.beta),
    "clamped-by-a-tensor": lambda net, x: torch.full((), 9.0).clamp(max=net.beta),
    "copied": lambda net, x: net.beta.clone() * torch.tensor(net.beta),
    "data": lambda net, x: net.beta.data,
    "where": lambda net, x: torch.where(net.beta > 1.5, 2.0, 1.0),
    "index": lambda net, x: net.sizes[net.beta.long().reshape(1)],
    "constants": lambda net, x: net.beta * torch.tensor([2.0, 1.0])[0].item(),
    "constants-in-a-list": lambda net, x: net.beta * torch.tensor([torch.tensor(2.0).item(), 1.0]).sum(),
    "list": lambda net, x: net.beta * sum(torch.tensor([1.0, 2.0]).tolist()),
}


@pytest.mark.parametrize("name", table(FOLLOWED, "buffer constants"))
def test_what_stays_in_the_graph_is_followed(name, replay):
    checked(lambda: Case(FOLLOWED[name], raised))


# A value in memory that a callback changes ---------------------------------------------------------------

FACTOR = 1.0
TABLE = {"beta": [1.0]}
SETTINGS = types.SimpleNamespace(inner=types.SimpleNamespace(beta=1.0))
VARIABLE = contextvars.ContextVar("VARIABLE", default=1.0)
LOCAL = threading.local()


class Config:
    beta = 1.0


@dataclasses.dataclass
class Options:
    beta: float = 1.0
    parts: list = dataclasses.field(default_factory=lambda: [1.0])


class Slotted:
    __slots__ = ("beta", "__weakref__")

    def __init__(self):
        self.beta = 1.0


class Computed:
    def __init__(self):
        self._beta = 1.0

    @property
    def beta(self):
        return self._beta

    def __call__(self):
        return self._beta


class Dynamic:
    def __init__(self):
        self.values = {"beta": 1.0}

    def __getattr__(self, name):
        return self.__dict__["values"][name]


def default(net, x, beta=[1.0]):  # noqa: B006
    return beta[0]


def closed():
    beta = 1.0

    def read(net, x):
        return beta

    def write(net, epoch):
        nonlocal beta
        beta = level(epoch)

    return read, write


CLOSED = closed()


def level(epoch):
    """Changes once: what changes again and again is left to eager."""
    return 1.5 if epoch >= 2 else 1.0


def setting(name, value=lambda epoch: level(epoch)):
    return lambda net, epoch: setattr(net, name, value(epoch))


def of(make, read, write):
    """A case of something that the net holds as ``thing``."""
    return {
        "prepare": lambda net: setattr(net, "thing", make()),
        "read": read,
        "change": lambda net, epoch: write(net.thing, level(epoch)),
    }


def put(name):
    return lambda thing, value: setattr(thing, name, value)


def global_factor(net, epoch):
    global FACTOR
    FACTOR = level(epoch)


IN_MEMORY = {
    "float": dict(read=lambda net, x: net.plain, change=setting("plain")),
    "numpy-number": dict(read=lambda net, x: net.plain, change=setting("plain", lambda e: np.float32(level(e)))),
    "small": dict(
        read=lambda net, x: net.plain, change=setting("plain", lambda epoch: 1.0 + 3e-5 * (epoch >= 2))
    ),
    "namespace": of(types.SimpleNamespace, lambda net, x: getattr(net.thing, "beta", 1.0), put("beta")),
    "nested-namespace": dict(
        read=lambda net, x: SETTINGS.inner.beta,
        change=lambda net, epoch: setattr(SETTINGS.inner, "beta", level(epoch)),
    ),
    "dataclass": of(Options, lambda net, x: net.thing.beta, put("beta")),
    "list-in-dataclass": of(Options, lambda net, x: net.thing.parts[0], lambda t, v: t.parts.__setitem__(0, v)),
    "slots": of(Slotted, lambda net, x: net.thing.beta, put("beta")),
    "property": of(Computed, lambda net, x: net.thing.beta, put("_beta")),
    "callable-object": of(Computed, lambda net, x: net.thing(), put("_beta")),
    "getattr": of(Dynamic, lambda net, x: net.thing.beta, lambda t, v: t.values.update(beta=v)),
    "array": of(lambda: np.ones(3), lambda net, x: float(net.thing.sum() / 3), lambda t, v: t.fill(v)),
    "array-as-tensor": of(
        lambda: np.ones(3, np.float32), lambda net, x: torch.from_numpy(net.thing), lambda t, v: t.fill(v)
    ),
    "array-as-copy": of(lambda: np.ones(3), lambda net, x: torch.tensor(net.thing[0]), lambda t, v: t.fill(v)),
    "array-in-a-dict": of(
        lambda: {"a": (np.ones(1),)}, lambda net, x: float(net.thing["a"][0][0]), lambda t, v: t["a"][0].fill(v)
    ),
    "list": of(lambda: [1.0], lambda net, x: net.thing[0], lambda t, v: t.__setitem__(0, v)),
    "list-grows": of(list, lambda net, x: 1.0 + len(net.thing), lambda t, v: v > 1 and not t and t.append(v)),
    "set": of(set, lambda net, x: 1.0 + len(net.thing), lambda t, v: v > 1 and t.add(v)),
    "deque": of(lambda: collections.deque([1.0]), lambda net, x: net.thing[0], lambda t, v: t.__setitem__(0, v)),
    "array-array": of(lambda: array.array("d", [1.0]), lambda net, x: net.thing[0], lambda t, v: t.__setitem__(0, v)),
    "bytearray": of(
        lambda: bytearray(b"\x01"), lambda net, x: float(net.thing[0]), lambda t, v: t.__setitem__(0, int(2 * v) - 1)
    ),
    "defaultdict": of(
        lambda: collections.defaultdict(lambda: 1.0, b=1.0), lambda net, x: net.thing["b"], lambda t, v: t.update(b=v)
    ),
    "fraction": dict(
        read=lambda net, x: float(net.plain), change=setting("plain", lambda epoch: Fraction(level(epoch)))
    ),
    "partial": of(
        lambda: functools.partial(lambda t: t[0], [1.0]),
        lambda net, x: net.thing(),
        lambda t, v: t.args[0].__setitem__(0, v),
    ),
    "weak-reference": of(
        Slotted, lambda net, x: weakref.ref(net.thing)().beta, put("beta")
    ),
    "global": dict(read=lambda net, x: FACTOR, change=global_factor),
    "global-table": dict(
        read=lambda net, x: TABLE["beta"][0], change=lambda net, epoch: TABLE["beta"].__setitem__(0, level(epoch))
    ),
    "class": dict(read=lambda net, x: Config.beta, change=lambda net, epoch: setattr(Config, "beta", level(epoch))),
    "default": dict(
        read=default, change=lambda net, epoch: default.__defaults__[0].__setitem__(0, level(epoch))
    ),
    "new-default": dict(
        read=default, change=lambda net, epoch: setattr(default, "__defaults__", ([level(epoch)],))
    ),
    "closure": dict(read=CLOSED[0], change=CLOSED[1]),
    "function-attribute": dict(
        read=lambda net, x: default.beta, change=lambda net, epoch: setattr(default, "beta", level(epoch)),
        prepare=lambda net: setattr(default, "beta", 1.0),
    ),
    "context-variable": dict(read=lambda net, x: VARIABLE.get(), change=lambda net, epoch: VARIABLE.set(level(epoch)),
        prepare=lambda net: VARIABLE.set(1.0)),
    "thread-local": dict(
        prepare=lambda net: setattr(LOCAL, "beta", 1.0),
        read=lambda net, x: LOCAL.beta, change=lambda net, epoch: setattr(LOCAL, "beta", level(epoch)),
    ),
    "environment": dict(
        prepare=lambda net: os.environ.__setitem__("BETA_OF_A_TEST", "1"),
        read=lambda net, x: float(os.environ["BETA_OF_A_TEST"]),
        change=lambda net, epoch: os.environ.__setitem__("BETA_OF_A_TEST", str(level(epoch))),
    ),
    "imported": dict(
        prepare=lambda net: setattr(math, "beta_of_a_test", 1.0),
        read=lambda net, x: math.beta_of_a_test,
        change=lambda net, epoch: setattr(math, "beta_of_a_test", level(epoch)),
    ),
    "attribute-of-a-tensor": dict(
        prepare=lambda net: setattr(net.gate, "beta", 1.0), read=lambda net, x: net.gate.beta,
        change=lambda net, epoch: setattr(net.gate, "beta", level(epoch)),
    ),
    "new-tensor": dict(read=lambda net, x: net.tensor, change=setting("tensor", lambda e: torch.tensor(level(e)))),
    "method": dict(
        change=lambda net, epoch: setattr(net, "read", (lambda x: 2.0) if epoch >= 2 else net.read)
    ),
    "submodule": dict(
        change=lambda net, epoch: setattr(net, "linear", copy.deepcopy(net.linear)) if epoch == 2 else None
    ),
    "activation": dict(
        prepare=lambda net: setattr(net, "act", nn.ReLU()), read=lambda net, x: net.act(x).sum(-1, keepdim=True),
        change=lambda net, epoch: setattr(net, "act", nn.Tanh()) if epoch == 2 else None,
    ),
    "hook": dict(
        change=lambda net, epoch: net.linear.register_forward_hook(lambda m, i, o: 2 * o) if epoch == 2 else None
    ),
    "hook-of-a-parameter": dict(
        change=lambda net, epoch: net.gate.register_hook(lambda g: 3 * g) if epoch == 2 else None
    ),
    "mode": dict(
        prepare=lambda net: setattr(net, "drop", nn.Dropout(0.5)), read=lambda net, x: net.drop(torch.ones(3)),
        change=lambda net, epoch: net.eval() if epoch == 2 else None,
    ),
    "rate-of-dropout": dict(
        prepare=lambda net: setattr(net, "drop", nn.Dropout(0.5)), read=lambda net, x: net.drop(torch.ones(3)),
        change=lambda net, epoch: setattr(net.drop, "p", 0.1) if epoch == 2 else None,
    ),
    "default-dtype": dict(
        read=lambda net, x: 1.5 if torch.get_default_dtype() == torch.float64 else 1.0,
        change=lambda net, epoch: torch.set_default_dtype(
            torch.float64 if epoch == 2 else torch.float32
        ),
    ),
    "spectral-norm": dict(prepare=lambda net: parametrizations.spectral_norm(net.linear)),
    "weight-norm": dict(prepare=lambda net: parametrizations.weight_norm(net.linear), change=lowered),
}  # fmt: skip


RATE = {"beta": 1.0}


class Backward(torch.autograd.Function):
    """A gradient that a global number scales."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * RATE["beta"]


IN_MEMORY["backward-pass"] = dict(
    prepare=lambda net: RATE.update(beta=1.0),
    read=lambda net, x: Backward.apply(net.gate) + 1.0,
    change=lambda net, epoch: RATE.update(beta=level(epoch)),
)
IN_MEMORY["parameter-dict"] = dict(
    prepare=lambda net: setattr(net, "thing", nn.ParameterDict({"a": nn.Parameter(torch.ones(3))})),
    read=lambda net, x: net.thing["a"],
    change=lambda net, epoch: net.thing["a"].requires_grad_(epoch >= 2),
)


@pytest.fixture
def as_before():
    """What the cases above change in this process."""
    kept = FACTOR, Config.beta, default.__defaults__
    yield
    globals()["FACTOR"], Config.beta, default.__defaults__ = kept
    default.__defaults__[0][0] = TABLE["beta"][0] = SETTINGS.inner.beta = 1.0
    CLOSED[1](None, 0)
    os.environ.pop("BETA_OF_A_TEST", None)
    vars(math).pop("beta_of_a_test", None)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", table(IN_MEMORY, "namespace array closure class small"))
def test_what_a_callback_changes_in_memory_is_followed(name, replay, as_before):
    def make():
        os.environ.pop("BETA_OF_A_TEST", None)
        if case := IN_MEMORY[name]:
            # Each fit starts from the same.
            for reset in (CLOSED[1], global_factor, IN_MEMORY["class"]["change"]):
                reset(None, 0)
            SETTINGS.inner.beta = TABLE["beta"][0] = 1.0
            default.__defaults__ = ([1.0],)
        return Case(**case)

    checked(make)


# State that a run changes ---------------------------------------------------------------------------------

COUNT = [0]


def counted(net, x):
    net.plain += 0.1
    return net.plain


def counted_without_use(net, x):
    net.plain += 0.1
    return 1.0


def counted_globally(net, x):
    COUNT[0] += 1
    return 1 + COUNT[0] / 100


def remembered(net, x):
    net.last = x.detach()
    return 1.0


def repr_of_state(generator):
    return generator.get_state().sum()


def generated():
    yield from itertools.count(1)


def of_thing(make, read, reason="it changes model.net.thing", hidden=lambda thing: thing):
    """A case of state that the net holds as ``thing``."""
    return dict(
        prepare=lambda net: setattr(net, "thing", make()),
        read=lambda net, x: read(net.thing),
        reason=reason,
        hidden=lambda net: hidden(net.thing),
    )


def drawn(make, draw):
    return of_thing(make, lambda thing: 1 + draw(thing), "it draws from model.net.thing", draw)


def seeded():
    return torch.Generator().manual_seed(0)


STATE = {
    "counter": dict(read=counted, reason="it changes model.net.plain", hidden=lambda net: net.plain),
    "counter-without-use": dict(
        read=counted_without_use, reason="it changes model.net.plain", hidden=lambda net: net.plain
    ),
    "global-counter": dict(
        prepare=lambda net: COUNT.__setitem__(0, 0),
        read=counted_globally,
        reason="it changes test_graph_inputs.COUNT",
        hidden=lambda net: COUNT,
    ),
    "list": of_thing(list, lambda thing: thing.append(len(thing)) or 1.0),
    "dict": of_thing(dict, lambda thing: thing.update({len(thing): 0}) or 1.0),
    "set": of_thing(set, lambda thing: thing.add(len(thing)) or 1.0),
    "deque": of_thing(collections.deque, lambda thing: thing.append(0) or 1.0),
    "namespace": of_thing(
        lambda: types.SimpleNamespace(n=0), lambda thing: setattr(thing, "n", thing.n + 1) or 1.0
    ),
    "array": of_thing(lambda: np.zeros(2), lambda thing: thing.__iadd__(1).sum() / 99),
    "remembered-draw": dict(
        read=remembered, reason="it changes model.net.last", hidden=lambda net: net.last.sum()
    ),
    "numpy-generator": drawn(lambda: np.random.default_rng(0), lambda g: g.random()),
    "numpy-old-generator": drawn(lambda: np.random.RandomState(0), lambda g: g.rand()),
    "numpy-bits": drawn(lambda: np.random.PCG64(0), lambda g: g.random_raw() / 2**64),
    "bound-method-of-a-generator": drawn(lambda: np.random.default_rng(0).random, lambda draw: draw()),
    "python-generator": drawn(lambda: random.Random(0), lambda g: g.random()),
    "torch-generator": drawn(seeded, lambda g: torch.randn((), generator=g)),
    "torch-generator-in-place": drawn(seeded, lambda g: torch.empty(()).normal_(generator=g)),
    "torch-generator-made-anew": dict(
        read=lambda net, x: torch.randn((), generator=seeded()), reason="it seeds random numbers"
    ),
    "torch-generator-cloned": of_thing(
        seeded,
        lambda g: torch.randn((), generator=g.clone_state()),
        "a torch.Generator of its own",
        repr_of_state,
    ),
    "python-random": dict(
        read=lambda net, x: 1 + random.random(),
        reason="Python's or NumPy's random numbers",
        hidden=lambda net: random.random(),
    ),
    "numpy-random": dict(
        read=lambda net, x: 1 + np.random.random(),
        reason="Python's or NumPy's random numbers",
        hidden=lambda net: np.random.random(),
    ),
    "seeded": dict(
        read=lambda net, x: torch.manual_seed(3) and torch.rand(()), reason="it seeds random numbers"
    ),
    "iterator": of_thing(lambda: iter([k / 9 for k in range(99)]), next, hidden=next),
    "count": of_thing(lambda: itertools.count(1), lambda thing: 1 / next(thing), hidden=next),
    "generator": of_thing(
        generated,
        lambda thing: 1 / next(thing),
        "model.net.thing is a generator, which cannot be watched",
        next,
    ),
    "written-into-globals": dict(
        prepare=lambda net: globals().update(RUNS=0),
        read=lambda net, x: globals().update(RUNS=globals()["RUNS"] + 1) or 1.0,
        reason="it changes test_graph_inputs.RUNS",
        hidden=lambda net: globals()["RUNS"],
    ),
    "written-into-a-class": dict(
        prepare=lambda net: setattr(Net, "runs", 0),
        read=lambda net, x: setattr(Net, "runs", Net.runs + 1) or 1.0,
        reason="it changes Net.runs",
        hidden=lambda net: Net.runs,
    ),
    "hook-that-counts": dict(
        prepare=lambda net: net.linear.register_forward_hook(
            lambda m, i, o: setattr(m, "runs", getattr(m, "runs", 0) + 1)
        ),
        reason="it changes model.net.linear.runs",
        hidden=lambda net: net.linear.runs,
    ),
    "frozen-by-the-program": dict(
        read=lambda net, x: net.gate.requires_grad_(not net.gate.requires_grad) is not None and 1.0,
        reason="it changes model.net.gate",
    ),
}


@pytest.mark.parametrize(
    "name",
    table(
        STATE,
        "counter global-counter remembered-draw numpy-generator torch-generator iterator generator list",
    ),
)
def test_a_program_with_state_is_not_run_for_trial(name, replay):
    """Its hidden state afterwards is that of eager, as it ran as often."""
    checked(lambda: Case(**STATE[name]))


def reading_a_file(net, x):
    with open(__file__) as file:
        return 1.0 + 0 * len(file.read(10))


OUTSIDE = {
    "clock": (lambda net, x: 1.0 + 0 * time.time(), "reads values outside the program (time) in test_graph"),
    "date": (
        lambda net, x: 1.0 + 0 * datetime.datetime.now().year,
        "reads values outside the program (now)",
    ),
    "file": (reading_a_file, "outside the program"),
    "entropy": (lambda net, x: 1.0 + 0 * len(os.urandom(3)), "outside the program (urandom)"),
    "uuid": (lambda net, x: 1.0 + 0 * uuid.uuid4().int, "outside the program"),
    "system-random": (lambda net, x: 1.0 + 0 * random.SystemRandom().random(), "outside the program"),
    "unseeded": (lambda net, x: 1.0 + 0 * np.random.default_rng().random(), "it "),
    "print": (lambda net, x: print(end="") or 1.0, "a file or the screen (print)"),
}


@pytest.mark.parametrize("name", table(OUTSIDE, "clock file print"))
def test_what_no_memory_holds_is_left_to_eager(name, replay):
    read, reason = OUTSIDE[name]
    checked(lambda: Case(read, reason=reason))


def test_a_gradient_or_a_version_that_is_read_is_left_to_eager(replay):
    checked(
        lambda: Case(lambda net, x: 1.0 if net.gate.grad is None else 2.0, reason="it reads grad of a tensor")
    )
    checked(
        lambda: Case(
            lambda net, x: 1.0 + net.beta._version / 9, raised, reason="it reads version of a tensor"
        )
    )


BEYOND = {
    "array": (lambda: np.ones(3_000_000), lambda thing: float(thing[0]), "is an array of 24000000 bytes"),
    "objects": (lambda: [[1.0] for _ in range(20_000)], lambda thing: thing[0][0], "too many to be watched"),
    "entries": (lambda: [1.0] * 2_000_000, lambda thing: thing[0], "holds 2000000 entries: too many"),
    "file": (lambda: open(os.devnull), lambda thing: 1.0 + thing.closed, "TextIOWrapper"),
}  # fmt: skip


@pytest.mark.parametrize("name", table(BEYOND, "objects"))
def test_what_is_too_much_to_be_watched_is_left_to_eager(name, replay):
    make, read, reason = BEYOND[name]
    checked(lambda: Case(**of_thing(make, read, reason, hidden=lambda thing: None)))


def test_what_the_program_does_not_read_may_change_at_will(replay):
    def change(net, epoch):
        net.epochs_done, net.log = epoch, [*getattr(net, "log", []), epoch]
        net.unread, net.lock = generated(), threading.Lock()

    checked(lambda: Case(change=change))


def test_what_changes_again_and_again_is_left_to_eager(replay):
    case = dict(read=lambda net, x: net.plain, change=setting("plain", lambda epoch: 1 + epoch / 10))
    checked(lambda: Case(**case, reason="model.net.plain changes again and again"))


def test_what_changes_without_a_change_of_the_graph_is_not_compiled_anew(replay, monkeypatch):
    made = []
    monkeypatch.setattr(tracing, "native", lambda graph, inputs: made.append(graph) or graph)
    case = dict(
        read=lambda net, x: 1.0 if net.plain < 9 else 2.0, change=setting("plain", lambda epoch: 1 + epoch)
    )
    checked(lambda: Case(**case))
    assert len(made) == 1


# Freezing and unfreezing ----------------------------------------------------------------------------------


def held(net, epoch):
    net.linear.requires_grad_(epoch not in (2, 3))
    net.gate.requires_grad_(epoch >= 4)


def all_held(net, epoch):
    net.requires_grad_(epoch % 2 == 0)


def unfrozen(net):
    net.linear.requires_grad_(False)


FREEZING = {
    "held-and-released": dict(change=held),
    "released": dict(prepare=unfrozen, change=lambda net, epoch: net.linear.requires_grad_(epoch >= 2)),
    "all-of-the-model": dict(change=all_held),
    "alternate": dict(change=held, options={"alternate": 1, "epochs": 12}),
    "alternate-all": dict(change=all_held, options={"alternate": 1}),
    "patience": dict(change=held, options={"patience": 5}),
    "weight-decay": dict(change=held, options={"optimizer": functools.partial(torch.optim.AdamW, weight_decay=0.1)}),
    "momentum": dict(change=held, options={"optimizer": functools.partial(torch.optim.SGD, momentum=0.9)}),
}  # fmt: skip


@pytest.mark.parametrize("name", table(FREEZING, "held-and-released"))
def test_freezing_and_unfreezing_by_a_callback(name, replay):
    checked(lambda: Case(**FREEZING[name]))


@pytest.mark.parametrize("engine", ["eager", "pyro", "compiled"])
def test_what_is_held_rests_and_what_is_released_moves(engine, replay):
    """Between every two epochs: the weights of the net are held in epochs 3 and 4, its gate until epoch 4."""
    moved = []

    def change(net, epoch):
        now = {n: p.detach().clone() for n, p in net.named_parameters()}
        if change.before:
            moved.append({n for n, p in now.items() if not torch.equal(p, change.before[n])})
        change.before = now
        held(net, epoch)

    change.before = {}
    prepare = lambda net: net.gate.requires_grad_(False)  # noqa: E731
    _, warned, _ = fitted(engine, Case(prepare=prepare, change=change))
    weights = {"linear.weight", "linear.bias"}
    assert moved == [weights, set(), set(), {*weights, "gate"}, {*weights, "gate"}] and not warned


def with_table(engine, change, epochs=4):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.PerRow()))
    callbacks = [lambda record, fit: change(fit.guide, record["epoch"])]
    svi = lfm.SVI(guide, epochs=epochs, batch_size=5, engine=engine)
    with warnings.catch_warnings():
        warnings.simplefilter("error", lfm.CompilationWarning)
        return lfm.fit(model, ROWS, svi, seed=0, callbacks=callbacks, progress=False)


def test_the_rows_of_a_table_are_held_and_released(replay):
    """By both engines alike, from before the fit on too."""
    seen = {"eager": [], "compiled": []}

    def change(engine, guide, epoch):
        (table,) = guide.tables
        seen[engine].append(table.rows.detach().clone())
        table.rows.requires_grad_(epoch not in (1, 2))

    fits = {engine: with_table(engine, functools.partial(change, engine)) for engine in seen}
    for rows in seen.values():
        assert torch.equal(rows[0], rows[1]) and torch.equal(rows[1], rows[2])
        assert not torch.equal(rows[2], rows[3])
    assert torch.allclose(seen["eager"][-1], seen["compiled"][-1], atol=1e-6)
    assert fits["eager"].history[-1]["bound"] == pytest.approx(
        fits["compiled"].history[-1]["bound"], rel=1e-5
    )


def test_a_fit_that_can_move_nothing_is_refused_still():
    with pytest.raises(lfm.DeclarationError, match="depends on no trainable parameter"):
        net = Net()
        model = Model(net).requires_grad_(False)
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))).requires_grad_(False)
        lfm.fit(model, ROWS, lfm.SVI(guide, epochs=1, engine="eager"), progress=False)


# The other ways to a compiled step -------------------------------------------------------------------------


def test_auto_follows_and_falls_back_without_a_warning(replay, monkeypatch):
    monkeypatch.setattr(choice, "COMPILING", 0.0)
    for case in (STATE["numpy-generator"], dict(read=LEAVING["math"], change=raised)):
        assert not agree(lambda case=case: Case(**case), engine="auto")


def test_what_a_schedule_changes_beside_is_followed(replay):
    """From the very step at which it does."""
    nets = []

    def schedule(fraction):
        nets[-1].plain = 1.5 if fraction > 0.6 else 1.0
        return 1.0

    case = dict(prepare=nets.append, read=lambda net, x: net.plain, options={"schedule": schedule})
    checked(lambda: Case(**case))


def test_what_is_proved_of_a_schedule():
    assert changes_nothing(lambda t: 0.5 * (1 + math.cos(math.pi * t)))
    assert changes_nothing(lambda t: level(t) * float(np.exp(-t))) and changes_nothing(lfm.schedules.linear())
    for doubtful in (
        lambda t: TABLE["beta"].append(t),
        lambda t: setattr(Config, "beta", t),
        lambda t: global_factor(None, t),
        functools.partial(level),
        Computed(),
        CLOSED[1],
    ):
        assert not changes_nothing(doubtful)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [IN_MEMORY["namespace"], FREEZING["held-and-released"], dict(read=FOLLOWED["buffer"], change=raised)],
    ids=["namespace", "freezing", "buffer"],
)
def test_native_code_follows_as_the_graph_does(case):
    checked(lambda: Case(**case))


def test_a_profiler_that_runs_already_leaves_a_fit_in_eager():
    def run(engine):
        torch.manual_seed(0)
        model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
        svi = lfm.SVI(guide, epochs=3, batch_size=5, engine=engine)
        return lfm.fit(model, ROWS, svi, seed=0, progress=False)

    profiler = cProfile.Profile()
    with pytest.warns(lfm.CompilationWarning, match="a profiler is running"):
        profiled = profiler.runcall(run, "compiled")
    assert [r["bound"] for r in profiled.history] == [r["bound"] for r in run("eager").history]
