"""Networks and sources: sizes, shapes and values."""

import pytest
import torch
from torch import nn

import pyro_lfm as lfm
from pyro_lfm.factors.variables import Variable


@pytest.mark.parametrize("size", [(5, 5), (8, 8), (9, 7), (28, 28), (1, 3)])
@pytest.mark.parametrize("channels", [(4,), (4, 8), (4, 8, 8)])
def test_convolutions_of_any_picture(size, channels):
    image = (3, *size)
    network = lfm.Convolutional(*channels)
    assert network.build(image, (6,))(torch.zeros(2, *image)).shape == (2, 6)
    assert network.build((6,), image)(torch.zeros(2, 6)).shape == (2, *image)


def test_a_convolutional_autoencoder_fits():
    torch.manual_seed(0)
    digits = lfm.data.digits()
    images = digits.x[:64].reshape(-1, *digits.shape)
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(
            (1, 8, 8), mean=lfm.Convolutional(4, 8), covariance=lfm.Diagonal(lfm.Convolutional(4))
        ),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Convolutional(4, 8), covariance=lfm.Full()))
    fit = lfm.fit(model, images, lfm.SVI(guide, epochs=30, learning_rate=1e-2), seed=0, progress=False)
    assert fit.history[-1]["bound"] > fit.history[0]["bound"] + 20
    assert fit.reconstruct(images[:3]).shape == (3, 1, 8, 8)
    assert fit.model.sample(2, seed=0)["x"].shape == (2, 1, 8, 8)
    holed = images.clone()
    holed[:, :, 2:4] = float("nan")
    assert fit.reconstruct(holed).isfinite().all()


def test_one_trunk_for_an_image_gives_a_head_per_channel():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian((1, 8, 8), network=lfm.Convolutional(4)))
    distribution = model.factors["x"](torch.zeros(3, 2))
    assert distribution.mean.shape == distribution.variance.shape == (3, 1, 8, 8)


def test_a_module_given_as_a_source_is_the_very_one_and_is_shared_on_purpose():
    net = nn.Linear(2, 4)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=net))
    assert any(p is net.weight for p in model.parameters())
    again = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=net))
    assert any(p is net.weight for p in again.parameters())


def test_a_factory_makes_new_weights_for_every_use():
    declared = lfm.Gaussian(4, mean=lfm.MLP(3))
    first, second = (lfm.Model(z=lfm.StandardNormal(2), x=declared) for _ in range(2))
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


def test_learned_and_fixed_values_are_in_natural_units():
    model = lfm.Model(
        z=lfm.Gaussian(2, mean=lfm.Learned([1.0, 2.0]), covariance=lfm.Full(lfm.Fixed([[2.0, 0.5], [0.5, 1.0]]))),
        x=lfm.Poisson(3, rate=lfm.Learned(4.0), given="z"),
    )  # fmt: skip
    distribution = model.factors["z"]()
    assert torch.allclose(distribution.mean, torch.tensor([1.0, 2.0]))
    assert torch.allclose(distribution.covariance_matrix, torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
    assert torch.allclose(model.factors["x"](torch.zeros(2)).mean, torch.full((3,), 4.0))
    assert [name for name, _ in model.named_parameters()] == [
        "factors.z.parts.mean.value",
        "factors.x.parts.rate.value",
    ]


@pytest.mark.parametrize("covariance", [lfm.Isotropic, lfm.Diagonal, lfm.Full])
def test_variances_survive_the_round_trip(covariance):
    value = {"Isotropic": 0.3, "Diagonal": [0.1, 0.2, 5.0]}.get(covariance.__name__, torch.eye(3) * 0.7)
    factor = lfm.Gaussian(3, covariance=covariance(lfm.Fixed(value))).build("z", [])
    expected = torch.as_tensor(value)
    expected = expected.diagonal() if expected.dim() == 2 else expected.expand(3)
    assert torch.allclose(factor().variance, expected, rtol=1e-5)


def test_several_parents_are_joined_and_categories_read_one_hot():
    parents = [
        Variable("z", torch.Size((2,)), torch.distributions.constraints.real),
        Variable("c", torch.Size(()), torch.distributions.constraints.integer_interval(0, 3)),
    ]
    factor = lfm.Gaussian(3, mean=lfm.Linear()).build("x", parents)
    weight = factor.parts["mean"].network.weight(None)
    z, c = torch.randn(5, 2), torch.tensor([0, 1, 2, 3, 1])
    expected = z @ weight[:, :2].T + weight[:, 2:].T[c] + factor.parts["mean"].network.bias(None)
    assert torch.allclose(factor(z, c).mean, expected, atol=1e-6)
    # Draws of one parent broadcast over rows of the other.
    assert factor(torch.randn(7, 1, 2), c).mean.shape == (7, 5, 3)


def test_dropout_is_active_in_training_alone():
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(50, dropout=0.5)))
    z = torch.randn(3, 2)
    model.eval()
    assert torch.equal(model.factors["x"](z).mean, model.factors["x"](z).mean)
    model.train()
    assert not torch.equal(model.factors["x"](z).mean, model.factors["x"](z).mean)


def test_a_gated_layer_is_a_linear_one_times_a_sigmoid():
    network = lfm.MLP(3, activation="glu")(2, 4)
    x = torch.randn(5, 2)
    values, gates = network[0](x).chunk(2, -1)
    assert torch.allclose(network(x), network[-1](values * gates.sigmoid()))
    with pytest.raises(lfm.DeclarationError, match="glu"):
        lfm.MLP(3, activation="swoosh")
