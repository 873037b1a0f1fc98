"""``fit(seed=)`` draws the initial weights of an unchanged model and guide, and keeps weights that were trained or set."""

import copy
import pickle
import random
import warnings

import numpy as np
import pyro
import pytest
import torch
from torch import nn
from torch.distributions import constraints

import pyro_lfm as lfm

ROWS = torch.randn(24, 4, generator=torch.Generator().manual_seed(1))
IMAGES = torch.rand(24, 1, 5, 5, generator=torch.Generator().manual_seed(1))


class Perceptron(nn.Sequential):
    def __init__(self, in_size, out_size):
        super().__init__(nn.Linear(in_size, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, out_size))


def plain(**options):
    return lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(5), **options))


def guide_of(model, factor=None):
    return lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(5)) if factor is None else factor)


def pair():
    model = plain()
    return model, guide_of(model)


def with_guide(model, factor=None):
    return model, guide_of(model, factor)


def grouped():
    model = lfm.Model(
        site=lfm.Covariate(support=constraints.integer_interval(0, 2)),
        g=lfm.PerGroup(lfm.StandardNormal(2), given="site"),
        z=lfm.StandardNormal(2),
        x=lfm.Gaussian(4, mean=lfm.Linear(), given=("g", "z")),
    )
    return with_guide(model)


def images():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian((1, 5, 5), mean=lfm.Convolutional(2, 3)))
    return with_guide(model, lfm.Gaussian(network=lfm.Convolutional(2, 3)))


DECLARED = {
    "MLP": pair,
    "Linear": lambda: with_guide(lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))),
    "Convolutional": images,
    "factory": lambda: with_guide(
        lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, network=Perceptron)), lfm.Gaussian(network=Perceptron)
    ),
    "covariances": lambda: with_guide(
        plain(covariance=lfm.LowRank(1, lfm.MLP(3))), lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(3))
    ),
    "learned low rank": lambda: with_guide(plain(covariance=lfm.LowRank(2))),
    "Lookup": lambda: with_guide(
        lfm.Model(c=lfm.Categorical(3), z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Lookup(lfm.Linear()))),
    ),
    "mixture": lambda: with_guide(
        lfm.Model(z=lfm.MixtureOfGaussians(2, 3), x=lfm.Gaussian(4, mean=lfm.MLP(5))),
        lfm.MixtureOfGaussians(components=2, network=lfm.MLP(5)),
    ),
    "flows": lambda: with_guide(
        lfm.Model(z=lfm.FlowPrior(2, layers=2), x=lfm.Gaussian(4, mean=lfm.MLP(5))),
        lfm.Flow(flow=lfm.NeuralSpline(layers=1), network=lfm.MLP(5)),
    ),
    "VampPrior": lambda: with_guide(lfm.Model(z=lfm.VampPrior(2, components=3), x=lfm.Gaussian(4, mean=lfm.MLP(5)))),
    "priors of parameters": lambda: with_guide(
        lfm.Model(
            z=lfm.StandardNormal(2),
            x=lfm.Gaussian(
                4,
                mean=lfm.Linear(prior=lfm.parameter_priors.Horseshoe()),
                covariance=lfm.Isotropic(prior=lfm.parameter_priors.Gamma(9.0, 9.0)),
            ),
        )
    ),
    "groups": grouped,
    "experts": lambda: with_guide(plain(), lfm.ProductOfExperts(network=lfm.MLP(5))),
    "rows": lambda: with_guide(plain(), lfm.Gaussian(network=lfm.PerRow())),
    "refined": lambda: (model := plain(), lfm.Refined(guide_of(model), steps=2)),
    "message": lambda: (model := plain(), guide_of(model, lfm.GaussianMessage(network=lfm.MLP(5)))),
}  # fmt: skip
DECLARED["Lookup"] = lambda: (
    model := lfm.Model(
        c=lfm.Categorical(3), z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Lookup(lfm.Linear()))
    ),
    lfm.Guide(model, c=lfm.Categorical(logits=lfm.MLP(5)), z=lfm.Gaussian(network=lfm.MLP(5))),
)


def data_of(model):
    if "site" in model.observed:
        return {"x": ROWS, "site": torch.arange(24.0) % 3}
    return IMAGES if model.observed["x"].shape != (4,) else ROWS


def bounds(model, guide, seed=0, steps=3, **options):
    fit = lfm.fit(
        model,
        data_of(model),
        lfm.SVI(guide, steps=steps, batch_size=12, **options),
        seed=seed,
        progress=False,
    )
    return [record["bound"] for record in fit.history]


def weights(*parts):
    return [value.detach().clone() for part in parts for value in part.parameters()]


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", DECLARED)
def test_a_program_with_one_seed_repeats(name):
    repeats = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance), random.seed(disturbance), np.random.seed(disturbance)
        model, guide = DECLARED[name]()
        repeats.append((bounds(model, guide), weights(model, guide)))
    assert repeats[0][0] == repeats[1][0] and same(repeats[0][1], repeats[1][1])
    model, guide = DECLARED[name]()
    assert bounds(model, guide, seed=1) != repeats[0][0]


def test_without_a_seed_the_weights_are_drawn_anew():
    states = [torch.get_rng_state()]
    repeats = [bounds(*pair(), seed=None) for _ in range(2)]
    states.append(torch.get_rng_state())
    assert repeats[0] != repeats[1] and not torch.equal(*states)
    torch.manual_seed(5)
    first = bounds(*pair(), seed=None)
    torch.manual_seed(5)
    assert first == bounds(*pair(), seed=None)


def test_a_seed_leaves_every_random_state_alone():
    model, guide = pair()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    bounds(model, guide)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])


def test_weights_are_drawn_in_place_and_those_of_guide_and_model_have_nothing_to_do_with_each_other():
    model = lfm.Model(z=lfm.StandardNormal(4), x=lfm.Gaussian(4, mean=lfm.MLP(4)))
    guide = lfm.Guide(model, z=lfm.Gaussian(mean=lfm.MLP(4)))
    held, before = [id(p) for part in (model, guide) for p in part.parameters()], weights(model, guide)
    optimizer = torch.optim.Adam([*model.parameters(), *guide.parameters()])
    bounds(model, guide)
    assert held == [id(p) for part in (model, guide) for p in part.parameters()]
    assert held == [id(p) for p in optimizer.param_groups[0]["params"]]
    moved = [
        (a - b).abs().max() > 0.05 for a, b in zip(before, weights(model, guide), strict=True) if a.dim() == 2
    ]
    assert all(moved)
    layers = [m.weight for part in (model, guide) for m in part.modules() if isinstance(m, nn.Linear)]
    pairs = torch.corrcoef(torch.stack([layer.detach().flatten() for layer in layers]))
    assert len(layers) == 4 and (pairs - torch.eye(4)).abs().max() < 0.9


TOUCHES = {
    "one entry": lambda model: model.factors["x"].parts["mean"].network[0].bias.data.__setitem__(0, 0.125),
    "no_grad": lambda model: next(model.parameters()).add_(0.5),
    "load_state_dict": lambda model: model.load_state_dict(plain().state_dict()),
    "optimizer": lambda model: stepped(model),
    "assignment": lambda model: setattr(
        model.factors["x"].parts["mean"].network[0], "bias", nn.Parameter(torch.ones(5))
    ),
    "initialiser": lambda model: nn.init.zeros_(model.factors["x"].parts["mean"].network[0].weight),
    "fit": torch.enable_grad()(lambda model: bounds(model, guide_of(model), steps=1)),
    "vector": lambda model: nn.utils.vector_to_parameters(
        0.5 * nn.utils.parameters_to_vector(model.parameters()), model.parameters()
    ),
}


def stepped(model):
    with torch.enable_grad():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        sum(p.square().sum() for p in model.parameters()).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("touch", TOUCHES)
def test_what_was_trained_loaded_or_assigned_to_goes_on_from_where_it_is(touch):
    model, guide = pair()
    assert model.is_as_declared and guide.is_as_declared
    with torch.no_grad():
        TOUCHES[touch](model)
    assert not model.is_as_declared
    before = weights(model)
    lfm.fit(model, ROWS, lfm.SVI(guide, steps=1, learning_rate=1e-12), seed=0, progress=False)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, weights(model), strict=True))


def test_each_program_is_asked_for_itself():
    histories = []
    for _ in range(2):
        model, guide = pair()
        with torch.no_grad():
            for parameter in guide.parameters():
                parameter.fill_(0.1)
        histories.append(bounds(model, guide))
    assert histories[0] == histories[1]  # the model's are drawn, the guide's stay
    assert not guide.is_as_declared


UNTOUCHED = {
    "double": lambda model, guide: (model.double(), guide.double()),
    "there and back": lambda model, guide: (model.double().float(), guide.half().float()),
    "copy": lambda model, guide: copy.deepcopy((model, guide)),
    "pickle": lambda model, guide: pickle.loads(pickle.dumps((model, guide))),
    "looked at": lambda model, guide: (
        lfm.describe(model, guide) and model.sample(2, seed=0) and model,
        guide,
    ),
    "bound": lambda model, guide: (lfm.ELBO().bound(model, guide, ROWS) and model, guide),
    "modes": lambda model, guide: (model.eval(), guide.train()),
    "a fit that failed": lambda model, guide: (failed(model, guide), guide),
}


def failed(model, guide):
    before = weights(model, guide)
    rows = ROWS.clone()
    rows[0] = 1e38
    with pytest.raises(lfm.TrainingError):
        lfm.fit(model, rows, lfm.SVI(guide, epochs=1), seed=3, progress=False)
    with pytest.raises(lfm.DeclarationError):
        lfm.fit(model, ROWS, lfm.EM(), seed=3, progress=False)
    assert same(before, weights(model, guide))
    return model


@pytest.mark.parametrize("change", UNTOUCHED)
def test_what_changes_no_weight_is_as_it_was_declared(change):
    model, guide = UNTOUCHED[change](*pair())
    assert model.is_as_declared and guide.is_as_declared
    wanted, kind = pair(), next(model.parameters()).dtype
    wanted = [part.to(kind) for part in wanted]
    assert bounds(model, guide) == bounds(*wanted)


def test_lossy_types_round_the_weights_and_do_not_change_them():
    model, guide = pair()
    assert model.half().is_as_declared and model.float().is_as_declared
    first = weights(model)
    model.draw_first_weights(0)
    assert not same(first, weights(model)) and next(model.parameters()).dtype == torch.float32


def test_what_has_run_in_training_mode_is_as_it_was_declared():
    """Running statistics are none of the weights, and start anew with them."""
    histories = []
    for runs in (0, 3):
        model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, network=Perceptron))
        guide = guide_of(model)
        model.train()
        for _ in range(runs):
            lfm.ELBO().bound(model, guide, ROWS)
        assert model.is_as_declared
        histories.append(bounds(model, guide))
    assert histories[0] == histories[1]


def test_what_the_declaration_gives_a_value_has_it():
    torch.manual_seed(0)
    given, frozen = nn.Linear(2, 4), nn.Linear(2, 4).requires_grad_(False)
    mean = torch.randn(4)
    model = lfm.Model(
        z=lfm.Gaussian(
            2, mean=lfm.Learned(torch.tensor([1.0, 2.0])), covariance=lfm.Isotropic(lfm.Fixed(0.5))
        ),
        a=lfm.Gaussian(4, mean=given, covariance=lfm.Diagonal(lfm.Learned(0.3))),
        b=lfm.Gaussian(4, mean=frozen, covariance=lfm.Diagonal(lfm.MLP(3))),
        c=lfm.Gaussian(4, mean=lfm.Linear(bias=lfm.Learned(mean), weight=lfm.Fixed(torch.ones(4, 2)))),
        d=lfm.Gaussian(4, mean=lambda i, o: given),
    )
    before = model.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    model.draw_first_weights(7)
    drawn = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert drawn and all(name.startswith("factors.b.parts.covariance.network") for name in drawn)
    assert (
        model.factors["a"].parts["mean"].network is given
        and model.factors["d"].parts["mean"].network is given
    )


def test_modules_of_the_users_own_prior_are_the_users():
    class Bent(lfm.Prior):
        def __init__(self, dim):
            super().__init__(dim)
            self.shift = nn.Linear(1, dim)

        def forward(self):
            return pyro.distributions.Normal(self.shift(self.shift.weight.new_ones(1)), 1.0).to_event(1)

    model = lfm.Model(z=Bent(2), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
    before, likelihood = weights(model.factors["z"]), weights(model.factors["x"])
    model.draw_first_weights(0)
    assert same(before, weights(model.factors["z"])) and not same(likelihood, weights(model.factors["x"]))


def test_weights_that_were_frozen_stay():
    model, guide = pair()
    frozen = model.factors["x"].parts["mean"].network[0].requires_grad_(False)
    before = weights(frozen)
    bounds(model, guide)
    assert same(before, weights(frozen))


def test_a_second_fit_is_a_continuation_and_ways_take_turns():
    model = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
    ).double()
    guide = guide_of(model)
    first, second = (bounds(model, guide, steps=40, learning_rate=0.01) for _ in range(2))
    assert second[0] > first[0] + 0.1
    after = (
        lfm.fit(model, ROWS, lfm.EM(start="model", iterations=30), seed=0, progress=False)
        .log_likelihood()
        .mean()
    )
    held = weights(model)
    again = lfm.fit(
        model, ROWS, lfm.SVI(lfm.ExactPosterior(model), steps=1, learning_rate=1e-9), seed=0, progress=False
    )
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(held, weights(model), strict=True))
    assert abs(float(again.log_likelihood().mean() - after)) < 1e-5


def test_em_from_the_model_repeats_by_its_seed():
    def reached(seed):
        model = lfm.Model(
            z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
        )
        em = lfm.EM(start="model", iterations=2, accelerate=False)
        return lfm.fit(model.double(), ROWS, em, seed=seed, progress=False).history[-1]["log_likelihood"]

    assert reached(0) == reached(0) != reached(1)


def test_compare_starts_where_fit_does():
    model, guide = pair()
    ways = {"guide": guide, "factor": lfm.Gaussian(network=lfm.MLP(5))}
    budget = {"epochs": 2, "batch_size": 12, "progress": False}
    comparison = lfm.compare(model, ROWS, ways, seeds=(0, 4), draws=2, **budget)
    for seed in (0, 4):
        one, q = pair()
        fit = lfm.fit(one, ROWS, lfm.SVI(q, epochs=2, batch_size=12), seed=seed, progress=False)
        wanted = [record["bound"] for record in fit.history]
        for way in ways:
            assert [record["bound"] for record in comparison.histories[way][seed]] == wanted
    assert model.is_as_declared and guide.is_as_declared


def test_a_comparison_is_taken_up_by_a_program_that_declares_once_more(tmp_path):
    """Weights that nobody trains are no part of what a folder is of: no torch.manual_seed is needed."""
    tables = []
    for _ in range(2):
        model, guide = pair()
        tables.append(
            lfm.compare(model, ROWS, {"q": guide}, epochs=1, draws=2, folder=tmp_path, progress=False)
        )
    assert torch.equal(tables[0].rows["bound"]["q"], tables[1].rows["bound"]["q"])


def test_a_factory_that_cannot_be_called_twice_is_said_and_its_weights_stay():
    networks = iter([nn.Linear(2, 4)])
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lambda i, o: next(networks)))
    before = weights(model)
    with pytest.warns(lfm.SeedWarning, match="declaring it again fails with StopIteration"):
        model.draw_first_weights(0)
    assert same(before, weights(model))
    sizes = iter([3, 5])
    model = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lambda i, o: lfm.MLP(next(sizes))(i, o))
    )
    before = weights(model)
    with pytest.warns(lfm.SeedWarning, match="is missing, or has another shape, when it is declared again"):
        model.draw_first_weights(0)
    assert same(before, weights(model))


def test_a_factory_that_gives_the_same_module_keeps_its_type():
    net = nn.Linear(2, 4)
    model = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lambda i, o: net, covariance=lfm.Diagonal(lfm.MLP(3)))
    )
    model.bfloat16()
    model.draw_first_weights(0)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and net.weight.dtype == torch.bfloat16


def test_a_subclass_with_arguments_of_its_own_is_drawn_too():
    class Small(lfm.Model):
        def __init__(self, hidden):
            super().__init__(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(hidden)))

    one, other = Small(5), Small(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.draw_first_weights(0), other.draw_first_weights(0)
    assert same(weights(one), weights(other)) and isinstance(one.redrawn(1), Small)


def test_a_program_by_hand_keeps_the_weights_of_its_author():
    class Mine(lfm.PyroModel):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 4)

        def forward(self, batch):
            with batch.plate():
                z = pyro.sample("z", pyro.distributions.Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", pyro.distributions.Normal(self.net(z), 1.0).to_event(1), obs=batch["x"])

    model = Mine()
    before = weights(model)
    lfm.fit(model, ROWS, lfm.SVI(guide_of(model), steps=1, learning_rate=1e-12), seed=0, progress=False)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, weights(model), strict=True))


def test_a_guide_that_reads_its_model_is_drawn_from_the_seed_too():
    """The module that looks at the model is the user's; the network beside it is not."""

    class ByModel(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, z):
            return self.model.factors["x"](z).mean[:, :2]

    histories = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        model = lfm.Model(
            c=lfm.Categorical(2),
            z=lfm.StandardNormal(2),
            x=lfm.Gaussian(4, mean=lfm.MLP(5), given=("z",)),
            y=lfm.Gaussian(2, mean=lfm.Lookup(), given="c"),
        )
        guide = lfm.Guide(
            model, z=lfm.Gaussian(network=lfm.MLP(5)), c=lfm.Categorical(logits=ByModel(model), given="z")
        )
        data = {"x": ROWS, "y": ROWS[:, :2]}
        fit = lfm.fit(model, data, lfm.SVI(guide, steps=3), seed=0, progress=False)
        histories.append([record["bound"] for record in fit.history])
    assert histories[0] == histories[1]


def test_a_latent_called_shared_is_declared_once_more():
    def declared():
        model = lfm.Model(shared=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(5)))
        return model, lfm.Guide(model, shared=lfm.Gaussian(network=lfm.MLP(5)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bounds(*declared()) == bounds(*declared())
    model, guide = declared()
    assert isinstance(guide.redrawn(model, 1), lfm.Guide)
