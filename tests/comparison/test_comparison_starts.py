"""Candidates start from the same weights, on copies, with equal budgets."""

import copy

import cases
import pyro
import pytest
import torch
from comparison_cases import QUICK, guides, same, small, state_of

import pyro_lfm as lfm


def test_the_arguments_are_not_changed():
    model, x = small()
    full = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(8)))
    svi = lfm.SVI(full, epochs=2)
    network = torch.nn.Linear(4, 4)
    candidates = {
        "factor": lfm.Gaussian(network=network),
        "guide": full,
        "svi": svi,
        "em": lfm.EM(),
        "vem": lfm.VariationalEM(),
    }
    model.train()
    full.eval()
    before, rng, data = state_of(model, full, network), torch.get_rng_state(), x.clone()
    result = lfm.compare(model, x, candidates, **QUICK)
    assert same(before, state_of(model, full, network)) and torch.equal(data, x)
    assert torch.equal(rng, torch.get_rng_state()) and not list(pyro.get_param_store().keys())
    assert model.training and not full.training and svi.guide is full
    programs = [result.fits[candidate].model for candidate in candidates]
    assert len({id(p) for program in (model, *programs) for p in program.parameters()}) == 6 * len(
        list(model.parameters())
    )
    assert not same(state_of(programs[0]), state_of(model))
    # A guide and an SVI of it start from the same weights.
    assert torch.equal(result.rows["bound"]["guide"], result.rows["bound"]["svi"])


def test_objects_that_functions_hold_are_not_trained_either():
    model, x = small()
    network = torch.nn.Linear(4, 4)
    held = lfm.Guide(model, z=lfm.Gaussian(network=network))
    before = state_of(model, held, network)
    candidates = {
        "held": lambda model: held,
        "module": lambda model: lfm.Guide(model, z=lfm.Gaussian(network=network)),
        "looking": lambda model: lfm.SVI(lfm.ExactPosterior(model), epochs=2),
    }
    result = lfm.compare(lambda: model, x, candidates, **QUICK)
    assert same(before, state_of(model, held, network))
    looking = result.fits["looking"]
    assert looking.guide.model is looking.model and abs(result.estimate("gap", "looking").mean) < 1e-4


@pytest.mark.parametrize("declared", ["given", "function"])
def test_all_candidates_of_a_seed_start_from_the_same_weights(declared):
    model, x = small()
    starts = []

    def candidate(model):
        starts.append(state_of(model))
        guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
        starts[-1] += state_of(guide)
        return guide

    def declare():
        return lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear()))

    given = model if declared == "given" else declare
    result = lfm.compare(given, x, {"one": candidate, "other": candidate}, seeds=2, **QUICK)
    first, again, *seconds = starts[-4:]
    assert same(first, again) and same(*seconds) and not same(first, seconds[0])
    assert torch.equal(result.rows["bound"]["one"], result.rows["bound"]["other"])
    assert not torch.equal(*result.rows["bound"]["one"])
    assert result.difference("bound", "other").mean == 0 and not result.difference("bound", "other").clear
    assert str(result.ranks["bound"]["one"]) == "1–2"
    if declared == "given":
        assert same(first[: len(state_of(model))], state_of(model)), (
            "the first seed starts where the model is"
        )


def test_encoders_of_one_shape_start_alike_and_weights_of_guides_are_drawn_anew_for_further_seeds():
    model, x = small()
    slow = {**QUICK, "learning_rate": 1e-12}
    given = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    candidates = {**guides(), "given": given, "refined": lfm.Refined(given, steps=2)}
    one = lfm.compare(model, x, candidates, **slow)
    hidden = {candidate: next(iter(done.guide.parameters())) for candidate, done in one.fits.items()}
    assert torch.allclose(hidden["mean-field"], hidden["full"], atol=1e-9)
    # A guide as it was declared starts like those. A changed guide starts from its present weights.
    assert torch.allclose(hidden["given"], hidden["full"], atol=1e-9)
    with torch.no_grad():
        next(given.parameters()).mul_(2.0)
    moved = lfm.compare(model, x, {"given": given}, **slow).fits["given"].guide
    assert torch.allclose(next(moved.parameters()), next(given.parameters()), atol=1e-9)
    two = lfm.compare(model, x, candidates, seeds=(7, 8), **slow)
    for candidate in candidates:
        assert not torch.allclose(*two.rows["bound"][candidate])
    assert torch.allclose(two.rows["bound"]["given"][1], two.rows["bound"]["mean-field"][1], atol=1e-4)


def test_weights_with_a_declared_value_are_not_drawn_anew():
    weight, frozen = torch.randn(4, 2), torch.nn.Linear(4, 8).requires_grad_(False)
    encoder = torch.nn.Sequential(frozen, torch.nn.ReLU(), torch.nn.Linear(8, 4))
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.Linear(weight=lfm.Learned(weight))))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=encoder))
    before = copy.deepcopy(guide.state_dict())
    other = guide.redrawn(model.redrawn(1), 1)
    assert torch.equal(
        dict(model.redrawn(1).named_parameters())["factors.x.parts.mean.network.weight.value"], weight
    )
    changed = [name for name, value in other.state_dict().items() if not torch.equal(value, before[name])]
    assert [name.split("network.")[-1] for name in changed] == ["2.weight", "2.bias"]
    assert same([*before.values()], state_of(guide))


CASES = {
    **{f"prior {name}": lambda name=name: cases.one_latent(prior=name) for name in cases.PRIORS},
    **{
        f"likelihood {name}": lambda name=name: cases.one_latent(likelihood=name)
        for name in cases.LIKELIHOODS
    },
    **cases.MODELS,
}


@pytest.mark.parametrize("name", CASES)
def test_every_declaration_can_be_declared_once_more(name):
    model = CASES[name]()
    if not isinstance(model, lfm.Model):
        pytest.skip("a program by hand says nothing of how its weights are drawn")
    before, rng = state_of(model), torch.get_rng_state()
    one, again, other = model.redrawn(1), model.redrawn(1), model.redrawn(2)
    assert same(state_of(one), state_of(again)) and same(before, state_of(model))
    assert torch.equal(rng, torch.get_rng_state())
    assert {n: v.shape for n, v in other.state_dict().items()} == {
        n: v.shape for n, v in model.state_dict().items()
    }
    assert [n for n, p in model.named_parameters()] == [n for n, p in other.named_parameters()]
    networks = [n for n, p in model.named_parameters() if n.endswith("0.weight")]
    assert all(not torch.equal(one.state_dict()[n], other.state_dict()[n]) for n in networks)


def test_budgets_must_be_equal_or_declared_to_differ():
    model, x = small()
    candidates = {
        "short": guides()["full"],
        "long": lfm.SVI(lfm.Guide(model, z=guides()["full"]), epochs=4),
        "exact": lfm.EM(),
    }
    with pytest.raises(lfm.DeclarationError, match="equal budgets.*short: 2 steps of 60 rows; long: 4 steps"):
        lfm.compare(model, x, candidates, **QUICK)
    result = lfm.compare(model, x, candidates, equal_budgets=False, **QUICK)
    assert "Unequal budgets: short, 2 steps of 60 rows; long, 4 steps of 60 rows" in repr(result)
    same_steps = {
        "epochs": lfm.SVI(candidates["long"].guide, epochs=4, batch_size=20),
        "steps": candidates["long"].guide,
    }
    lfm.compare(model, x, same_steps, steps=12, batch_size=20, progress=False, draws=10)
