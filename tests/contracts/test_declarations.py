"""A declaration is a value: printed as it was written, equal to what is written alike, unchanged by what is made of it."""

import copy
import pickle

import cases
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import constraints

import pyro_lfm as lfm

OWN = (cases.Laplace, cases.TwoHumps, cases.UnitInterval, cases.Cauchy, cases.HandDrawn, cases.StudentTGuide)
NAMES = {**{name: getattr(lfm, name) for name in lfm.__all__}, "constraints": constraints, "torch": torch}
FACTORS = {
    f"{kind} {name}": make
    for kind, parts in {"prior": cases.PRIORS, "likelihood": cases.LIKELIHOODS, "guide": cases.GUIDES}.items()
    for name, make in parts.items()
}
NETWORKS = {name: make for name, make in cases.NETWORKS.items() if name != "own-factory"}
OTHERS = {
    "covariate": lambda: lfm.Covariate((2,), value=[1.0, 2.0], support=constraints.positive),
    "label": lambda: lfm.Covariate(support=constraints.integer_interval(0, 4)),
    "group": lambda: lfm.PerGroup(lfm.StandardNormal(2), given="site"),
    "process": lambda: lfm.GaussianProcess(
        2, lfm.SquaredExponential(0.2), inducing=torch.linspace(0, 1, 5), given="t"
    ),
    "message": lambda: lfm.GaussianMessage(network=lfm.MLP(8), given=("x", "y")),
    "wishart": lambda: lfm.Gaussian(
        2,
        mean=lfm.Lookup(),
        covariance=lfm.Full(lfm.Lookup()),
        prior=lfm.parameter_priors.NormalWishart(count=2.0),
    ),
    "horseshoe": lambda: lfm.Linear(prior=lfm.parameter_priors.Horseshoe(0.5), bias=lfm.Fixed(0.0)),
    "float64": lambda: lfm.Fixed(torch.tensor([0.1, 0.2], dtype=torch.float64)),
    "flow": lambda: lfm.Flow(3, lfm.InverseAutoregressive(layers=1), min_scale=0.1),
    "zuko": lambda: lfm.Flow(2, lfm.Zuko("NSF", {"transforms": 2})),
    "bernoulli-mixture": lambda: lfm.Bernoulli(3, logits=lfm.Lookup(prior=lfm.parameter_priors.Beta(2.0))),
}
ARGUMENTS = {
    "objective": {
        n: make
        for n, make in cases.OBJECTIVES.items()
        if isinstance(make(), lfm.Objective) and n != "annealed"
    },
    "inference": {
        "em": lambda: lfm.EM(restarts=3, start="data"),
        "variational-em": lambda: lfm.VariationalEM(iterations=5),
        "variational-bayes": lambda: lfm.VariationalBayes(iterations=5),
    },
    "penalty": {
        "supervised": lambda: lfm.Supervised(2.0),
        "mmd": lambda: lfm.MaximumMeanDiscrepancy(3.0, latents="z"),
    },
}
METHODS = {f"{kind} {name}": make for kind, parts in ARGUMENTS.items() for name, make in parts.items()}
CATALOGUE = {
    name: make
    for name, make in {**FACTORS, **NETWORKS, **OTHERS}.items()
    if not isinstance(make(), OWN) and "own" not in name
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_what_is_printed_is_what_was_written(name):
    part = CATALOGUE[name]()
    assert eval(repr(part), NAMES) == part == CATALOGUE[name]()
    assert hash(part) == hash(CATALOGUE[name]())
    assert copy.deepcopy(part) is part and pickle.loads(pickle.dumps(part)) == part


@pytest.mark.parametrize("name", METHODS)
def test_objectives_penalties_and_inferences_are_values(name):
    part = METHODS[name]()
    assert (
        eval(repr(part), NAMES)
        == part
        == METHODS[name]()
        == copy.deepcopy(part)
        == pickle.loads(pickle.dumps(part))
    )
    for argument in part.arguments.keys() & vars(part).keys():
        with pytest.raises(lfm.DeclarationError, match="cannot change"):
            setattr(part, argument, 1)


def test_an_inference_equals_one_with_a_guide_that_is_written_alike():
    model = cases.plain()
    one, same, other = (
        lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(width))), epochs=3) for width in (6, 6, 7)
    )
    assert one == same != other and one != lfm.SVI(one.guide, epochs=4)
    assert repr(one) == "SVI(Guide(z=Gaussian(network=MLP(6))), epochs=3)"


def test_it_is_printed_with_the_arguments_that_were_given_and_no_others():
    text = 'Gaussian(64, mean=MLP(128), covariance=Diagonal(MLP(128), min_scale=0.0625), given="z")'
    assert repr(eval(text, NAMES)) == text
    assert repr(lfm.Poisson(3, lfm.MLP(8), exposure="library")) == 'Poisson(3, MLP(8), exposure="library")'
    assert repr(lfm.Linear(prior=lfm.parameter_priors.ARD())) == "Linear(prior=parameter_priors.ARD())"


def test_equal_is_what_is_written_alike_by_position_or_by_name():
    assert lfm.Gaussian(3, lfm.MLP(4)) == lfm.Gaussian(event=3, mean=lfm.MLP(4), covariance=None)
    assert lfm.Fixed([1.0, 2.0]) == lfm.Fixed(torch.tensor([1.0, 2.0])) != lfm.Fixed([1.0, 3.0])
    assert lfm.MLP(4) != lfm.MLP(4, activation="tanh") and lfm.MLP(4) != lfm.Linear()
    assert lfm.Gaussian(3, given="z") != lfm.Gaussian(3, given="y")
    assert cases.Laplace(2) == cases.Laplace(2, scale=1.0) != cases.Laplace(2, 2.0)


@pytest.mark.parametrize("name", CATALOGUE)
def test_it_does_not_change(name):
    part = CATALOGUE[name]()
    before = dict(vars(part))
    for attribute in (*before, "other"):
        with pytest.raises(lfm.DeclarationError, match="cannot change: write another"):
            setattr(part, attribute, 1)
    assert vars(part) == before


@pytest.mark.parametrize("name", cases.MODELS)
def test_looking_at_a_model_leaves_it_as_it_is(name):
    """State, buffers, and the draws that follow: declaring guides, describing, printing and comparing."""
    model = cases.MODELS[name]()
    if not isinstance(model, lfm.Model):
        pytest.skip("a program by hand declares nothing")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    declared = {key: repr(factor) for key, factor in model.declared.items()}
    torch.manual_seed(5)
    following = torch.rand(3)
    torch.manual_seed(5)
    lfm.describe(model)
    repr(model), str(model), model.declared == dict(model.declared)
    assert torch.equal(torch.rand(3), following), "a draw was taken from the process's stream"
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    lfm.describe(model, guide)
    repr(guide)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert declared == {key: repr(factor) for key, factor in model.declared.items()}


def test_models_made_of_one_declaration_share_nothing():
    prior, likelihood = cases.TwoHumps(2), lfm.Gaussian(4, mean=lfm.MLP(6))
    one, other = (lfm.Model(z=prior, x=likelihood) for _ in range(2))
    assert not {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}
    with torch.no_grad():
        one.factors["z"].loc.fill_(7.0)
    assert not (prior.loc == 7.0).any() and not (other.factors["z"].loc == 7.0).any()
    assert likelihood == lfm.Gaussian(4, mean=lfm.MLP(6))


def test_built_distributions_are_modules_and_know_their_declaration():
    model = cases.plain()
    for name, factor in model.factors.items():
        assert isinstance(factor, nn.Module) and not isinstance(model.declared[name], nn.Module)
        assert factor.declaration is model.declared[name]
    assert repr(model) == f"Model(z=StandardNormal({cases.K}), x=Gaussian({cases.D}, mean=MLP(6)))"
    assert repr(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6)))) == "Guide(z=Gaussian(network=MLP(6)))"


def test_called_before_it_is_built_it_says_so():
    with pytest.raises(lfm.DeclarationError, match=r'is a declaration.*model.factors\["x"\]'):
        lfm.Gaussian(3, mean=lfm.MLP(4))(torch.zeros(2, 2))
    with pytest.raises(lfm.DeclarationError, match="is a declaration"):
        cases.HandDrawn(3, 2)(torch.zeros(2, 2))


def test_what_an_author_forgets_is_said_where_the_part_is_written():
    class Forgetful(lfm.Prior):
        def __init__(self, dim):
            self.loc = nn.Parameter(torch.zeros(dim))

        def forward(self):
            return dist.Normal(self.loc, 1.0).to_event(1)

    class Greedy(lfm.Prior):
        def forward(self, z):
            return dist.Normal(z, 1.0).to_event(1)

    class Empty(lfm.Factor):
        pass

    class Hungry(lfm.Factor):
        def forward(self, z, y):
            return dist.Normal(z + y, 1.0).to_event(1)

    with pytest.raises(lfm.DeclarationError, match=r"Forgetful.__init__ must call super\(\).__init__"):
        Forgetful(2)
    with pytest.raises(lfm.DeclarationError, match="Greedy.forward must take no parents"):
        Greedy(2)
    with pytest.raises(lfm.DeclarationError, match="must define distribution"):
        Empty(2)
    with pytest.raises(
        lfm.DeclarationError, match="x: Hungry.forward must take the values of its parents, which are z"
    ):
        lfm.Model(z=lfm.StandardNormal(2), x=Hungry(2))


def test_a_hand_written_factor_is_a_module_like_any_other():
    class Counting(lfm.Prior):
        def __init__(self, dim):
            super().__init__(dim)
            self.register_buffer("loc", torch.zeros(dim))
            self.scale = nn.Parameter(torch.ones(dim))
            self.calls = 0

        def forward(self):
            self.calls += 1
            return self.centred().to_event(1)

        def centred(self):
            return dist.Normal(self.loc, self.scale)

    class Wider(Counting):
        def centred(self):
            return dist.Normal(self.loc, 2 * super().centred().scale)

    declared = Wider(2)
    model = lfm.Model(z=declared, x=lfm.Gaussian(3, mean=lfm.MLP(4))).double()
    factor = model.factors["z"]
    assert isinstance(factor, Wider) and isinstance(factor, nn.Module)
    assert factor().stddev.tolist() == [2.0, 2.0] and factor.loc.dtype == torch.float64
    assert factor.calls == 1 and declared.calls == 0
    assert {"factors.z.loc", "factors.z.scale"} <= model.state_dict().keys()
    twin = copy.deepcopy(model)
    assert twin.factors["z"].calls == 1 and twin.factors["z"].scale is not factor.scale
    assert factor != twin.factors["z"] and len({factor, twin.factors["z"]}) == 2


def test_an_attribute_that_the_library_needs_itself_is_refused_by_name():
    class Named(lfm.Prior):
        def __init__(self, dim):
            super().__init__(dim)
            self.parts = ["a", "b"]

        def forward(self):
            return dist.Normal(torch.zeros(self.dim), 1.0).to_event(1)

    with pytest.raises(
        lfm.DeclarationError, match="z: Named cannot have an attribute parts.*choose another name"
    ):
        lfm.Model(z=Named(2), x=lfm.Gaussian(3, mean=lfm.MLP(4)))


def test_a_family_with_state_of_its_own_is_trained_and_moved():
    class Tilted(lfm.Factor):
        def __init__(self, event=None, loc=None, *, given=None, network=None):
            super().__init__(event, {"loc": loc}, given=given, network=network)
            self.tilt = nn.Parameter(torch.zeros(()))

        def distribution(self, loc):
            return dist.Normal(loc + self.tilt, 1.0).to_event(len(self.shape))

    model = lfm.Model(z=lfm.StandardNormal(2), x=Tilted(3, loc=lfm.MLP(4))).double()
    assert model.factors["x"](torch.zeros(1, 2).double()).mean.dtype == torch.float64
    names = [name for name, _ in model.named_parameters()]
    assert "factors.x.state_of_family.tilt" in names
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    lfm.fit(model, torch.randn(20, 3) + 5, lfm.SVI(guide, epochs=2), seed=0, progress=False)
    assert model.factors["x"].family.tilt != 0
    pyro.clear_param_store()


def test_a_built_distribution_is_no_declaration():
    model = cases.plain()
    for name in ("z", "x"):
        with pytest.raises(
            lfm.DeclarationError, match=rf"{name} must be a factor.*built already.*model.declared"
        ):
            lfm.Model(**{**model.declared, name: model.factors[name]})
    with pytest.raises(lfm.DeclarationError, match="z must be a factor such as Gaussian; got a distribution"):
        lfm.Guide(model, z=lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))).factors["z"])


def normal(loc):
    return dist.Normal(loc, 1.0).to_event(1)


def test_a_method_kept_as_an_attribute_is_that_of_the_module():
    class Bound(lfm.Prior):
        def __init__(self, dim):
            super().__init__(dim)
            self.loc = nn.Parameter(torch.zeros(dim))
            self.one, self.several = self.location, [self.location]

        def location(self):
            return self.loc

        def forward(self):
            return normal(self.one() + self.several[0]())

    declared = Bound(2)
    model = lfm.Model(z=declared, x=lfm.Gaussian(3, mean=lfm.MLP(4)))
    model.factors["z"]().mean.sum().backward()
    assert model.factors["z"].loc.grad.tolist() == [2.0, 2.0] and declared.loc.grad is None


def test_an_author_may_call_a_module_network_and_count_calls():
    class Named(lfm.Prior):
        def __init__(self, dim):
            super().__init__(dim)
            self.network, self.calls = nn.Linear(1, dim), 0

        def forward(self):
            self.calls += 1
            return normal(self.network(torch.ones(1)))

    assert Named(2)().mean.shape == (2,)
    model = lfm.Model(z=Named(2), x=lfm.Gaussian(3, mean=lfm.MLP(4)))
    assert "factors.z.network.weight" in model.state_dict()


@pytest.mark.parametrize("name", ["source", "arguments", "shape"])
def test_names_of_the_library_are_refused_in_words(name):
    class Taken(lfm.Prior):
        def __init__(self, dim):
            super().__init__(dim)
            setattr(self, name, nn.Linear(2, 2))

        def forward(self):
            return normal(torch.zeros(self.dim))

    with pytest.raises(
        lfm.DeclarationError, match=f"Taken cannot have an attribute {name}.*choose another name"
    ):
        Taken(2)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, r"got int: write lfm.Fixed\(value\)"),
        (torch.ones(3), "got Tensor: write lfm.Fixed"),
        ({"a": 1}, "got dict"),
        (lfm.MLP, r"got the class MLP: call it, as in MLP\(...\)"),
        (lfm.StandardNormal(3), r"got StandardNormal\(3\)"),
        (cases.plain().factors["x"], "got a distribution that a model has built"),
    ],
    ids=["number", "tensor", "dict", "class", "factor", "built"],
)
def test_an_argument_that_is_no_source_is_refused_at_declaration(source, words):
    with pytest.raises(lfm.DeclarationError, match=f"^mean of Gaussian must be.*{words}"):
        lfm.Gaussian(3, mean=source)


def test_values_are_compared_as_they_are_built():
    assert lfm.Fixed(float("nan")) == lfm.Fixed(float("nan")) and lfm.Fixed([float("nan")]) == lfm.Fixed(
        [float("nan")]
    )
    assert lfm.Fixed(torch.tensor([2**60])) != lfm.Fixed(torch.tensor([2**60 + 1]))
    assert lfm.Fixed(torch.ones(2).double()) != lfm.Fixed(torch.ones(2)) == lfm.Fixed([1, 1])
    held = torch.ones(2)
    fixed = lfm.Fixed(held)
    held.fill_(9.0)
    assert fixed.tensor().tolist() == [1.0, 1.0]


def test_a_class_that_is_not_called_and_a_module_among_the_bases_are_named():
    with pytest.raises(
        lfm.DeclarationError, match="z must be a factor.*got the class StandardNormal: call it"
    ):
        lfm.Model(z=lfm.StandardNormal, x=lfm.Gaussian(3, mean=lfm.MLP(4)))
    with pytest.raises(lfm.DeclarationError, match="leave nn.Module out of its bases"):

        class Both(lfm.Prior, nn.Module):
            pass
