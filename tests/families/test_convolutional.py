"""Convolutional networks with every likelihood of pictures, and with pictures beside other parents."""

import pytest
import torch
from torch import nn
from torch.distributions import constraints

import pyro_lfm as lfm

PICTURE = (3, 8, 8)


def grey(rows=6, shape=PICTURE):
    return torch.randint(0, 5, (rows, *shape)).float() / 4


CONVOLUTION = lfm.Convolutional(4, 5)
LIKELIHOODS = {
    "gaussian": lambda **n: lfm.Gaussian(PICTURE, **n),
    "isotropic": lambda **n: lfm.Gaussian(PICTURE, covariance=lfm.Isotropic(), **n),
    "low-rank": lambda **n: lfm.Gaussian(PICTURE, covariance=lfm.LowRank(2), **n),
    "full": lambda **n: lfm.Gaussian((1, 3, 3), covariance=lfm.Full(), **n),
    "laplace": lambda **n: lfm.Laplace(PICTURE, **n),
    "student-t": lambda **n: lfm.StudentT(PICTURE, **n),
    "mixture-of-gaussians": lambda **n: lfm.MixtureOfGaussians(PICTURE, 3, **n),
    "gamma": lambda **n: lfm.Gamma(PICTURE, **n),
    "log-normal": lambda **n: lfm.LogNormal(PICTURE, **n),
    "beta": lambda **n: lfm.Beta(PICTURE, **n),
    "continuous-bernoulli": lambda **n: lfm.ContinuousBernoulli(PICTURE, **n),
    "bernoulli": lambda **n: lfm.Bernoulli(PICTURE, **n),
    "ordered-logistic": lambda **n: lfm.OrderedLogistic(PICTURE, 5, **n),
    "poisson": lambda **n: lfm.Poisson(PICTURE, **n),
    "negative-binomial": lambda **n: lfm.NegativeBinomial(PICTURE, **n),
    "zero-inflated-poisson": lambda **n: lfm.ZeroInflatedPoisson(PICTURE, **n),
    "zero-inflated-negative-binomial": lambda **n: lfm.ZeroInflatedNegativeBinomial(PICTURE, **n),
    "binomial": lambda **n: lfm.Binomial(PICTURE, total_count=4, **n),
    "discretized-logistic": lambda **n: lfm.DiscretizedLogistic(PICTURE, levels=5, **n),
    "discretized-logistic-mixture": lambda **n: lfm.DiscretizedLogisticMixture(PICTURE, 3, levels=5, **n),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_of_pictures_takes_all_its_parameters_from_convolutions(name):
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(2), x=LIKELIHOODS[name](network=CONVOLUTION))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=CONVOLUTION))
    rows = model.sample(6, seed=0)["x"]
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=2, engine="eager"), seed=0, progress=False)
    assert torch.tensor([record["bound"] for record in fit.history]).isfinite().all()
    factor, z = model.factors["x"], torch.randn(5, 2)
    assert factor(z).event_shape == rows.shape[1:]
    # Every parameter follows the latent: draws side by side are those one by one.
    several = factor(z).log_prob(rows[:1])
    torch.testing.assert_close(several, torch.cat([factor(one[None]).log_prob(rows[:1]) for one in z]))
    assert several.unique().numel() == 5


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name != "full"])
def test_each_parameter_is_a_picture_whose_pixels_hang_together(name):
    """Far from a pixel of the narrowest layer nothing changes: parameters have their pixels where the event has them."""
    torch.manual_seed(0)
    factor = LIKELIHOODS[name](network=lfm.Convolutional(4)).build("x", [latent()])
    network = factor.parts["network"].network
    narrow = torch.randn(1, 4, 4, 4)
    moved = narrow.clone()
    moved[:, :, 0, 0] += 3.0

    def parameters(layer):
        output = network._in_order(network.up(layer.flatten(1)), torch.zeros(1, 99))
        return torch.split(output, [prod.numel() for prod in factor._heads.values()], 1)

    for shape, before, after in zip(
        factor._heads.values(), parameters(narrow), parameters(moved), strict=True
    ):
        changed = (before != after).reshape(shape)
        if shape.numel() < 192:
            continue  # numbers of the whole picture
        place = [tuple(shape[i : i + 3]) for i in range(len(shape) - 2)].index(PICTURE)
        by_pixel = changed.movedim((place + 1, place + 2), (0, 1)).flatten(2).any(-1)
        assert by_pixel[:2, :2].any()
        assert not by_pixel[4:].any()
        assert not by_pixel[:, 4:].any()


def latent(size=2, name="z"):
    return lfm.StandardNormal(size).build(name, []) and _variable(name, (size,))


def _variable(name, shape, support=constraints.real):
    from pyro_lfm.factors.variables import Variable

    return Variable(name, torch.Size(shape), support)


@pytest.mark.parametrize("parameter", ["loc", "logits", "scale"])
def test_one_parameter_alone_with_an_axis_beyond_the_event(parameter):
    factor = lfm.DiscretizedLogisticMixture(PICTURE, 4, **{parameter: lfm.Convolutional(8)})
    model = lfm.Model(z=lfm.StandardNormal(2), x=factor)
    assert model.factors["x"](torch.zeros(3, 2)).log_prob(grey(3)).shape == (3,)
    assert model.factors["x"].declaration.raw_shape(parameter) == (*PICTURE, 4)


SECOND = {
    "number": lambda: (lfm.Covariate(2), torch.randn(6, 2)),
    "many-numbers": lambda: (lfm.Covariate(40), torch.randn(6, 40)),
    "label": lambda: (lfm.Covariate(support=constraints.integer_interval(0, 4)), torch.randint(0, 5, (6,))),
    "picture": lambda: (lfm.Covariate((1, 8, 8)), torch.randn(6, 1, 8, 8)),
    "picture-of-another-size": lambda: (lfm.Covariate((2, 5, 7)), torch.randn(6, 2, 5, 7)),
}


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("order", [("x", "t"), ("t", "x")])
def test_a_guide_reads_a_picture_and_a_covariate_and_a_decoder_a_latent_and_it(second, order):
    torch.manual_seed(0)
    declared, values = SECOND[second]()
    given = ("z", "t") if order[0] == "x" else ("t", "z")
    model = lfm.Model(
        z=lfm.StandardNormal(2),
        t=declared,
        x=lfm.DiscretizedLogisticMixture(PICTURE, 3, levels=5, network=CONVOLUTION, given=given),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=CONVOLUTION, covariance=lfm.Full(), given=order))
    rows = {"x": grey(), "t": values}
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=2, engine="eager"), seed=0, progress=False)
    assert fit.posterior(rows).mean.shape == (6, 2)
    # Both parents count, wherever they stand.
    other = values.roll(1, 0)
    read = [values if name == "t" else rows["x"] for name in order]
    swapped = [other if name == "t" else rows["x"] for name in order]
    factor = guide.factors["z"]
    assert (factor(*read).mean != factor(*swapped).mean).any()
    shuffled = [value.roll(1, 0) if name == "x" else value for name, value in zip(order, read, strict=True)]
    assert (factor(*read).mean != factor(*shuffled).mean).any()


def test_two_pictures_of_one_size_and_latents_that_are_pictures():
    torch.manual_seed(0)
    model = lfm.Model(
        z=lfm.Gaussian((2, 4, 4), mean=lfm.Fixed(0.0), covariance=lfm.Diagonal(lfm.Fixed(1.0))),
        left=lfm.Bernoulli((1, 8, 8), logits=CONVOLUTION),
        right=lfm.Laplace((2, 8, 8), network=lfm.Convolutional(4), given="z"),
    )
    guide = lfm.Guide(model, z=lfm.Gaussian(network=CONVOLUTION, given=("left", "right")))
    rows = {name: value for name, value in model.sample(6, seed=0).items() if name != "z"}
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=2, engine="eager"), seed=0, progress=False)
    assert fit.posterior(rows).mean.shape == (6, 2, 4, 4)


def test_a_covariate_beside_a_picture_is_learned():
    """x = picture of one grey, z | x, t: the guide's mean must tell rows apart by t alone."""
    torch.manual_seed(0)
    network = lfm.Convolutional(8).assemble([(1, 6, 6), (1,)], [(1,)])
    x, t = torch.randn(64, 1, 6, 6), torch.randn(64, 1)
    target = t * x.mean((1, 2, 3))[:, None]  # a product: no sum of a function of each
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(300):
        loss = (network(torch.cat([x.flatten(1), t], 1)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05 * target.var()


def test_shapes_that_hold_no_picture_are_refused_with_what_came():
    with pytest.raises(lfm.DeclarationError, match=r"x\.mean: Convolutional .* got \(2,\) -> \(16,\)"):
        lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(16, mean=lfm.Convolutional(2)))
    with pytest.raises(lfm.DeclarationError, match=r"\(2,\) and \(3,\) -> \(8, 8\)"):
        lfm.Model(
            z=lfm.StandardNormal(2),
            t=lfm.Covariate(3),
            x=lfm.Gaussian((8, 8), mean=lfm.Convolutional(2), given=("z", "t")),
        )


class Halves:
    """A network of pictures as a user writes one, by ``build``."""

    def build(self, in_shape, out_shape):
        if len(in_shape) == 3:
            return nn.Sequential(nn.Flatten(), nn.LazyLinear(*out_shape))
        return nn.Sequential(
            nn.Linear(*in_shape, torch.Size(out_shape).numel()), nn.Unflatten(1, tuple(out_shape))
        )


def test_an_object_with_build_still_maps_one_shape_to_one_other():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian((1, 4, 4), network=Halves()))
    distribution = model.factors["x"](torch.zeros(3, 2))
    assert distribution.mean.shape == distribution.variance.shape == (3, 1, 4, 4)
