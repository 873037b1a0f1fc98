"""What a factor holds is what its module holds, also under the name of a default of its class."""

import copy
import pickle

import pyro.distributions as dist
import torch
from torch import nn

import pyro_lfm as lfm
from pyro_lfm.factors.variables import Code


class Shifted(lfm.Prior):
    network = None
    width = 2.0

    def __init__(self, dim, width=None):
        super().__init__(dim)
        self.network = nn.Linear(1, dim)
        if width is not None:
            self.width = width

    def forward(self):
        return dist.Normal(self.network(torch.ones(1)), self.width).to_event(1)


def conditional():
    total = lfm.Covariate(value=1000.0).coded(Code(torch.tensor(7.0), torch.tensor(2.0), "log"))
    return lfm.Model(
        total=total,
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(3, mean=lfm.MLP(4), given=("z", "total")),
    )


def test_networks_read_the_code_of_a_covariate():
    model = conditional()
    z, total = torch.zeros(4, 2), torch.tensor([10.0, 100.0, 1000.0, 1e4])
    expected = torch.stack([(total.log() - 7) / 2, torch.ones(4)], 1)
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.allclose(each.factors["x"].context([z, total])[:, 2:], expected)
        assert torch.allclose(each.observed["total"].encode(total), expected)


def test_a_guide_reads_the_code_of_a_covariate():
    guide = lfm.Guide(conditional(), z=lfm.Gaussian(network=lfm.MLP(4)))
    read = guide.factors["z"].context([torch.tensor([9.0]).exp(), torch.zeros(1, 3)])
    assert torch.allclose(read, torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]]))


def test_a_submodule_comes_before_a_default_of_its_class():
    torch.manual_seed(0)
    built = Shifted(3).build("z", [])
    assert torch.equal(built().mean, built.network(torch.ones(1))) and built.width == 2.0
    assert Shifted(3, width=5.0).build("z", []).width == 5.0
