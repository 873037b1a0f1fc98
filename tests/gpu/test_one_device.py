"""Every prior, likelihood, guide and objective computes on one device, checked where there is no GPU.

Tensors are fake ones of torch on the device "meta", which has shapes and no numbers. An operation that meets a tensor of the
CPU beside them raises, as it would beside those of a GPU. Where a program looks at a number, it gets 0 or False, and tensors
are equal.
"""

import cases
import pyro
import pytest
import torch
from pyro import poutine
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import pyro_lfm as lfm
from pyro_lfm.runtime import isolated

# They look at numbers in ways that zeros do not satisfy: rows that an encoder is shown, shapes above 0, covariates.
LOOKS = {"exemplar", "gaussian-with-priors"}


class Zeros(TorchDispatchMode):
    """Answers every look at a number."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.aten._local_scalar_dense.default:
            return False if args[0].dtype == torch.bool else 0
        if operation is torch.ops.aten.equal.default:
            return True
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def elsewhere():
    """A function that turns tensors and programs into fake ones on another device, and the context to run them in."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fake(value):
        if isinstance(value, torch.nn.Module):
            # Past the digests of weights, which read numbers.
            return torch.nn.Module._apply(value.requires_grad_(False), fake)
        return FakeTensor(mode, value.detach().to("meta"), torch.device("meta"))

    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    with torch.no_grad(), pyro.validation_enabled(False):
        yield fake, (lambda: (mode, Zeros(), isolated(device="meta")))
    torch.__future__.set_overwrite_module_params_on_conversion(before)


def log_densities(model, guide, elsewhere):
    """The log densities of all sites of guide and model, on the other device."""
    fake, context = elsewhere
    drawn = {name: fake(torch.as_tensor(value).float()) for name, value in cases.rows_of(model).items()}
    fake(model), fake(guide)
    mode, zeros, place = context()
    with mode, zeros, place:
        batch = lfm.Batch(drawn, torch.arange(cases.N), cases.N)
        of_guide = poutine.trace(guide).get_trace(batch)
        of_model = poutine.trace(poutine.replay(model, of_guide)).get_trace(batch)
        of_guide.compute_log_prob(), of_model.compute_log_prob()
    nodes = [*of_guide.nodes.values(), *of_model.nodes.values()]
    return [node["log_prob"] for node in nodes if node["type"] == "sample"]


def check(model, guide, elsewhere):
    values = log_densities(model, guide, elsewhere)
    assert len(values) >= 3 and all(value.device.type == "meta" for value in values)


@pytest.mark.parametrize("name", [name for name in cases.PRIORS if name not in LOOKS])
def test_priors(name, elsewhere):
    model = cases.one_latent(name)
    check(model, lfm.Guide(model, z=cases.GUIDES["gaussian-diagonal"]()), elsewhere)


@pytest.mark.parametrize(
    "name", [n for n, make in cases.LIKELIHOODS.items() if n not in LOOKS and not make().named]
)
def test_likelihoods(name, elsewhere):
    model = cases.one_latent(likelihood=name)
    check(model, lfm.Guide(model, z=cases.GUIDES["gaussian-diagonal"]()), elsewhere)


@pytest.mark.parametrize("name", cases.GUIDES)
def test_guides(name, elsewhere):
    model = cases.one_latent()
    check(model, lfm.Guide(model, z=cases.GUIDES[name]()), elsewhere)


@pytest.mark.parametrize("name", cases.OBJECTIVES)
def test_objectives(name, elsewhere):
    fake, context = elsewhere
    model = cases.one_latent()
    guide = lfm.Guide(model, z=cases.GUIDES["gaussian-diagonal"]())
    x = fake(torch.zeros(cases.N, cases.D))
    fake(model), fake(guide)
    mode, zeros, place = context()
    with mode, zeros, place:
        objective = cases.OBJECTIVES[name]()
        objective = objective.at(0.5) if isinstance(objective, lfm.Objective) else objective
        loss = objective.differentiable_loss(model, guide, lfm.Batch(x))
    assert loss.device.type == "meta"


def test_a_tensor_left_on_the_cpu_is_noticed(elsewhere):
    class Left(lfm.Prior):
        def forward(self):
            zero = torch.zeros(self.dim, device="cpu")
            return pyro.distributions.Normal(zero, torch.ones(self.dim)).to_event(1)

    model = lfm.Model(z=Left(cases.K), x=lfm.Gaussian(cases.D, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=cases.GUIDES["gaussian-diagonal"]())
    with pytest.raises(Exception, match="device"):
        log_densities(model, guide, elsewhere)
