"""Declaring, describing and checking change nothing: modes, buffers, attributes and random states stay."""

import copy
import random
import threading
from collections import deque
from types import SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_lfm as lfm
from pyro_lfm.probes import evaluating, probing

# Whose weights are not drawn while the random state is looked at.
ENCODER = nn.Linear(4, 4)


class Restless(nn.Module):
    """A network with every kind of hidden state that a run may change."""

    def __init__(self, in_size, out_size):
        super().__init__()
        self.linear = nn.Linear(in_size, out_size)
        self.norm = nn.BatchNorm1d(in_size)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(in_size, in_size))
        self.dropout = nn.Dropout(0.5)
        self.codes = nn.Embedding(3, in_size, max_norm=0.1)
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("replaced", torch.zeros(1))
        self.calls, self.log, self.last = 0, [], deque(maxlen=2)
        self.state = SimpleNamespace(count=0, inner={"sizes": set()})
        self.rng, self.old = np.random.default_rng(0), np.random.RandomState(0)
        self.python, self.torch = random.Random(0), torch.Generator().manual_seed(0)
        self.array, self.plain = np.zeros(2), torch.zeros(2)

    def forward(self, value):
        self.calls += 1
        self.log.append(len(value))
        self.last.append(len(value))
        self.state.count += 1
        self.state.inner["sizes"].add(len(value))
        self.array += 1
        self.plain += 1
        self.seen += 1
        self.replaced = self.replaced + 1
        self.newest = len(value)
        noise = self.rng.normal() + self.old.normal() + self.python.gauss(0, 1) + random.gauss(0, 1)
        noise = noise + np.random.normal() + float(torch.randn((), generator=self.torch))
        noise = noise + torch.randn(()) + self.codes(torch.tensor(0)).sum()
        return self.linear(self.dropout(self.spectral(self.norm(value)))) + 0.0 * noise


def state_of(*modules):
    """Everything that a run could change, by copies."""
    state = [torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()]
    for module in modules:
        state.append({n: v.clone() for n, v in module.state_dict().items()})
        for part in module.modules():
            state.append(part.training)
            if isinstance(part, Restless):
                held = {n: v for n, v in vars(part).items() if not n.startswith("_")}
                generators = [part.rng.bit_generator.state, part.old.get_state()[1].tolist()]
                generators += [part.python.getstate(), part.torch.get_state()]
                plain = {
                    n: held.get(n) for n in ("calls", "log", "last", "state", "array", "plain", "newest")
                }
                state += [copy.deepcopy(plain), generators]
    return state


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[n], other[n]) for n in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def modes_of_the_users(module):
    """Some submodules in evaluation mode, others not, as a user may have chosen."""
    for k, part in enumerate(module.modules()):
        part.training = k % 3 != 1
    return module


@pytest.fixture
def declared():
    decoder, encoder = (modes_of_the_users(Restless(*sizes)) for sizes in ((2, 4), (4, 4)))
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=decoder))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=encoder)), decoder, encoder


def test_declaring_leaves_networks_as_they_are():
    decoder, encoder = (modes_of_the_users(Restless(*sizes)) for sizes in ((2, 4), (4, 4)))
    before, log = state_of(decoder, encoder), decoder.log
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=decoder, covariance=lfm.Isotropic()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=encoder))
    assert same(before, state_of(decoder, encoder))
    assert decoder.log is log  # in place: who else holds the list sees the same
    assert model.factors["x"].parts["mean"].network is decoder
    assert guide.factors["z"].parts["network"].network is encoder


@pytest.mark.parametrize(
    "look",
    [
        lambda m, g: lfm.describe(m, g),
        lambda m, g: lfm.describe(m, g, lfm.ImportanceWeightedELBO(3)),
        lambda m, g: lfm.Guide(m, z=lfm.Gaussian(network=ENCODER)),
        lambda m, g: lfm.ELBO(particles=3).plan(m, g, (lfm.Batch(torch.ones(2, 4)),), {}),
        lambda m, g: lfm.testing.check_guide(g, m),
        lambda m, g: copy.deepcopy((m, g)),
        lambda m, g: repr((m, g)),
    ],
    ids=["describe", "describe-weighted", "declare-another", "plan", "check", "copy", "print"],
)
def test_looking_at_programs_changes_nothing(declared, look):
    model, guide, *_ = declared
    model.eval(), modes_of_the_users(guide)
    before = state_of(model, guide)
    try:
        look(model, guide)
    except lfm.testing.ContractError:
        pass  # so restless a network keeps no contract
    assert same(before, state_of(model, guide))


def test_declaring_draws_first_weights_and_nothing_else():
    """What torch's stream gives to two networks that are declared is what it gives to them alone."""
    factory = lfm.MLP(3)
    torch.manual_seed(0)
    factory(2, 4), factory(4, 4)
    drawn = torch.get_rng_state()
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=factory))
    lfm.describe(model, lfm.Guide(model, z=lfm.Gaussian(network=factory)))
    assert torch.equal(drawn, torch.get_rng_state())


def test_check_factor_leaves_the_network_that_it_is_given():
    decoder = modes_of_the_users(Restless(2, 4))
    before = state_of(decoder)
    with pytest.raises(lfm.testing.ContractError):
        lfm.testing.check_factor(lfm.Gaussian(4, mean=decoder))
    assert same(before, state_of(decoder))
    assert {p.dtype for p in decoder.parameters()} == {torch.float32}


def test_batch_norm_has_seen_nothing_before_the_fit():
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3))
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=net))
    guide = lfm.Guide(
        model, z=lfm.Gaussian(network=lambda i, o: nn.Sequential(nn.BatchNorm1d(i), nn.Linear(i, o)))
    )
    lfm.describe(model, guide)
    first, second = model.sample(4, seed=0), model.sample(4, seed=0)
    assert torch.equal(first["x"], second["x"])
    norms = [m for part in (model, guide) for m in part.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(norms) == 2 and all(int(norm.num_batches_tracked) == 0 for norm in norms)
    assert all(m.training for m in net.modules())
    fit = lfm.fit(model, torch.randn(40, 3), lfm.SVI(guide, epochs=2, batch_size=20), seed=0, progress=False)
    assert all(
        int(norm.num_batches_tracked) >= 4 for norm in norms
    )  # a step is a run of each in training mode
    tracked = [int(norm.num_batches_tracked) for norm in norms]
    fit.model.train()
    fit.model.sample(3, seed=0), fit.posterior(), fit.reconstruct(), fit.bound(), fit.impute()
    assert tracked == [int(norm.num_batches_tracked) for norm in norms] and net[1].training


def test_a_program_by_hand_is_looked_at_without_a_trace():
    class Counting(lfm.PyroModel):
        def __init__(self):
            super().__init__()
            self.net, self.runs = Restless(2, 3), 0

        def forward(self, batch):
            self.runs += 1
            with batch.plate():
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=batch["x"])

    model = Counting()
    before = state_of(model)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=nn.Linear(3, 4)))  # no weights to be drawn but the user's
    lfm.describe(model, guide)
    assert same(before[1:], state_of(model)[1:]) and model.runs == 0


def test_a_network_that_makes_its_parts_when_it_first_runs_keeps_them():
    class Late(nn.Module):
        def __init__(self, out_size):
            super().__init__()
            self.out_size, self.made = out_size, False

        def forward(self, value):
            if not self.made:
                self.inner, self.made = nn.Linear(value.shape[-1], self.out_size), True
            return self.inner(value)

    late, lazy = Late(4), nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.LazyLinear(4))
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=late), y=lfm.Gaussian(4, mean=lazy))
    held = {n: id(p) for n, p in model.named_parameters()}
    model.sample(3, seed=0)
    assert held == {n: id(p) for n, p in model.named_parameters()} and late.made
    assert lazy[0].in_features == 2 and int(lazy[1].num_batches_tracked) == 0


def test_a_probe_that_fails_leaves_all_as_it_was():
    class Failing(Restless):
        def forward(self, value):
            super().forward(value)
            raise ValueError("no")

    net = modes_of_the_users(Failing(2, 4))
    before = state_of(net)
    with pytest.raises(lfm.ShapeError, match="it failed: no"):
        lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=net))
    assert same(before, state_of(net))


def test_gradients_that_wait_survive_a_probe():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    loss = net(torch.randn(4, 2)).square().sum()
    with probing(net):
        net(torch.ones(3, 2))
    loss.backward()
    assert net[0].weight.grad is not None


def test_two_threads_that_evaluate_one_network_leave_its_mode_and_see_the_other_mode_never():
    """The first leaves while the second is inside; without turns it would switch the second's network to training."""
    network, entered, left = nn.Sequential(nn.Dropout()), threading.Event(), threading.Event()
    modes = []

    def second():
        entered.wait()
        with evaluating(network):
            left.wait(0.2)
            modes.append(network.training or network[0].training)

    thread = threading.Thread(target=second)
    thread.start()
    with evaluating(network):
        entered.set()
        # The second thread asks for the network before this one leaves it.
        thread.join(0.1)
    left.set()
    thread.join()
    assert modes == [False] and network.training and network[0].training
