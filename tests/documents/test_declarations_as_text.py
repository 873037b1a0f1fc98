"""A declaration is one thing in Python, in a dict and in TOML; a wrong one is refused with every fault and its path."""

import sys
from functools import partial
from pathlib import Path

import cases
import numpy as np
import pyro.infer.autoguide
import pytest
import torch
from pyro.distributions import constraints

import pyro_lfm as lfm

OWN = [kind for kind in vars(cases).values() if isinstance(kind, type) and kind.__module__ == "cases"]
GROUPS = (
    "PRIORS",
    "LIKELIHOODS",
    "GUIDES",
    "NETWORKS",
    "FLOWS",
    "OBJECTIVES",
    "PARAMETER_PRIORS",
    "SCHEDULES",
)
# Parts that stand in Python alone: classes of the user, functions, objectives of Pyro.
PYTHON = {
    "own-laplace", "two-humps", "unit-interval", "gaussian-own-network", "cauchy", "hand-drawn", "own-factory", "annealed",
    "pyro-trace-elbo", "pyro-vectorized", "pyro-mean-field",
}  # fmt: skip
OF_CATALOGUE = [
    pytest.param(make, id=f"{group.lower()}-{name}")
    for group in GROUPS
    for name, make in getattr(cases, group).items()
    if name not in PYTHON and (group, name) != ("GUIDES", "student-t")
]
FURTHER = {
    "numbers": lambda: lfm.Gaussian(
        3, mean=lfm.Fixed([1.0, -0.0, 1e-30]), covariance=lfm.Full(lfm.Fixed(np.eye(3)))
    ),
    "double": lambda: lfm.Learned(torch.tensor([0.1, float("inf")], dtype=torch.float64)),
    "whole": lambda: lfm.Binomial(2, total_count=torch.tensor([3, 4]), logits=lfm.MLP()),
    "named-parents": lambda: lfm.Poisson(4, rate=lfm.MLP(8), exposure="library", given=("z", "größe")),
    "matrix": lambda: lfm.Gaussian((2, 3), network=lfm.Convolutional(4, 8, activation="elu")),
    "constraint": lambda: lfm.Covariate((2,), support=constraints.greater_than(0.5), value=[1.0, 2.0]),
    "plain-constraint": lambda: lfm.Covariate(support=constraints.nonnegative_integer),
    "code": lambda: lfm.Gaussian(2, mean=lfm.MLP(3)).coded(lfm.Code([0.1, 0.2], [1.0, 3.0], "log1p")),
    "experts": lambda: lfm.ProductOfExperts(network={"x": lfm.MLP(3), "y": lfm.Linear()}),
    "group": lambda: lfm.PerGroup(lfm.Gaussian(2, covariance=lfm.LowRank(1)), given="site"),
    "kernel": lambda: lfm.GaussianProcess(
        2, lfm.SquaredExponential(lfm.Learned(2.0)), inducing=torch.ones(5, 1), given="t"
    ),
    "inference": lambda: lfm.EM(iterations=7, tolerance=1e-5, start="model"),
}


def declarations():
    """Declarations of models, guides and inferences by name."""
    plain = cases.plain()
    guide = lfm.Guide(plain, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6)))
    yield "guide-only", {"model": plain, "guide": guide}
    yield "refined", {"model": plain, "guide": lfm.Refined(guide, steps=5)}
    yield "double", {"model": cases.plain().double()}
    options = [
        {"optimizer": torch.optim.RMSprop, "steps": 10},
        {"optimizer": partial(torch.optim.AdamW, weight_decay=0.1, betas=(0.8, 0.99)), "patience": 3},
        {"schedule": lfm.schedules.cosine(1.0, 0.0), "clip_norm": 2.0, "alternate": 3, "engine": "eager"},
        {"objective": lfm.Penalised(lfm.ELBO(particles=2), lfm.TotalCorrelation(lfm.schedules.linear()))},
    ]
    for k, each in enumerate(options):
        yield f"svi-{k}", {"model": plain, "inference": lfm.SVI(guide, **each)}
    for name in (
        "gaussian-process",
        "grouped-rows",
        "latent-mixture",
        "two-layers-two-views",
        "three-layers",
    ):
        model = cases.MODELS[name]()
        yield name, {"model": model, "guide": cases.guide_for(model, cases.GUIDES["gaussian-low-rank"])}
    bayesian = cases.bayesian_factors()
    shared = lfm.Guide(bayesian, z=lfm.Gaussian(), shared=pyro.infer.autoguide.AutoNormal)
    yield "shared", {"model": bayesian, "guide": shared}
    weights = {"x.weight": lfm.Gaussian(covariance=lfm.Full())}
    yield "dotted", {"model": bayesian, "guide": lfm.Guide(bayesian, z=lfm.Gaussian(), **weights)}
    for name, make in cases.CLOSED_FORMS.items():
        model = make()
        yield name, {"model": model, "guide": lfm.ExactPosterior(model), "inference": lfm.VariationalEM()}
    yield "python", {"model": cases.one_latent("own-laplace", "gaussian-own-network")}
    yield "program", {"model": cases.GammaDirichlet(), "guide": cases.HandGuide()}


DECLARATIONS = [pytest.param(parts, id=name) for name, parts in declarations()]


@pytest.mark.parametrize("make", [*OF_CATALOGUE, *(pytest.param(m, id=n) for n, m in FURTHER.items())])
def test_an_expression_is_the_part_that_it_writes(make):
    part = make()
    again = lfm.part(repr(part))
    assert again == part and repr(again) == repr(part)


@pytest.mark.parametrize("parts", DECLARATIONS)
def test_a_declaration_is_the_same_in_python_in_a_dict_and_in_toml(parts):
    declaration = lfm.Declaration(**parts)
    of_text = lfm.declare(declaration.toml(), parts=OWN)
    assert of_text == lfm.declare(declaration.dict(), parts=OWN) == declaration
    assert of_text.toml() == declaration.toml()
    if isinstance(declaration.model, lfm.Model):
        assert of_text.model.declared == declaration.model.declared


def test_every_prior_and_every_likelihood_is_the_same_in_toml():
    priors, likelihoods = list(cases.PRIORS), list(cases.LIKELIHOODS)
    for k, likelihood in enumerate(likelihoods):
        prior = priors[k % len(priors)]
        declaration = lfm.Declaration(model=cases.one_latent(prior, likelihood))
        assert lfm.declare(declaration.toml(), parts=OWN) == declaration, (prior, likelihood)


def test_the_order_of_factors_is_kept():
    x = lfm.Gaussian(
        4, mean=lfm.MLP(64, 64, 64), covariance=lfm.Diagonal(lfm.MLP(8), min_scale=0.1), given="z"
    )
    model = lfm.Model(
        z=lfm.StandardNormal(2), x=x, y=lfm.Poisson(2, rate=lfm.MLP(4)), w=lfm.Poisson(1, rate=lfm.MLP())
    )
    again = lfm.declare(lfm.Declaration(model=model).toml()).model
    assert list(again.declared) == list(model.declared) and list(again.observed) == list(model.observed)


def test_a_model_gives_its_declaration():
    model = cases.two_views()
    assert lfm.declare(model.declaration()).model.declared == model.declared


@pytest.mark.parametrize("prior", [name for name in cases.PRIORS if name not in PYTHON])
def test_a_declaration_read_twice_starts_from_the_same_weights(prior):
    model = cases.one_latent(prior)
    guide = cases.GUIDES["gaussian-full" if prior in cases.NEED_A_MEAN else "spline-flow"]
    text = lfm.Declaration(model=model, guide=cases.guide_for(model, guide)).toml()
    rows = cases.rows_of(model)
    states = []
    for _ in range(2):
        torch.manual_seed(len(states))
        read = lfm.declare(text + '[inference]\ntype = "SVI"\nepochs = 1\nengine = "eager"\n')
        fit = lfm.fit(read.model, rows, read.inference, seed=5, progress=False)
        states.append({**fit.model.state_dict(), **fit.guide.state_dict()})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_large_tensors_stand_beside_the_text():
    model = lfm.Model(
        z=lfm.StandardNormal(2), x=lfm.Gaussian(200, mean=lfm.Linear(bias=lfm.Learned(torch.randn(200))))
    )
    declaration = lfm.Declaration(model=model)
    with pytest.raises(lfm.DeclarationError, match="x.mean.bias.init has 200 numbers"):
        declaration.toml()
    assert lfm.declare(declaration.dict()) == declaration


def test_a_registered_part_stands_in_a_file():
    @lfm.register("tests>Wide")
    class Wide(cases.Laplace):
        pass

    model = lfm.Model(z=Wide(2, scale=3.0), x=lfm.Gaussian(3, mean=lfm.MLP(4)))
    text = lfm.Declaration(model=model).toml()
    assert "tests>Wide" in text and lfm.declare(text).model.declared["z"].scale == 3.0
    assert lfm.part("tests>Wide(2, scale=3.0)") == Wide(2, scale=3.0)
    with pytest.raises(lfm.DeclarationError, match="part of the catalogue"):
        lfm.register("Laplace")(Wide)
    with pytest.raises(lfm.DeclarationError, match="registered already"):
        lfm.register("tests>Wide")(cases.TwoHumps)


def test_what_is_python_is_refused_with_the_remedy():
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=torch.nn.Linear(2, 3)))
    text = lfm.Declaration(model=model).toml()
    with pytest.raises(
        lfm.DocumentError, match=r"model.x.mean \| Linear is a module of Python.*lfm.register"
    ):
        lfm.declare(text)


SIX = """
[model]
z = "StandardNormal(8"
x = "Gausian(64, mean=MLP(128))"
y = { type = "Gaussian", event = "64" }
[guide]
z = "Gaussian(network=MLP(0))"
[inference]
type = "SVI"
epochs = "20"
optimizer = "Adm"
"""


def test_a_file_with_six_errors_has_six_paths():
    with pytest.raises(lfm.DocumentError) as caught:
        lfm.declare(SIX)
    paths = {
        "model.z",
        "model.x",
        "model.y.event",
        "guide.z.network",
        "inference.epochs",
        "inference.optimizer",
    }
    assert {path for path, _ in caught.value.errors} == paths
    assert all(path in str(caught.value) for path in paths)
    assert "did you mean Gaussian?" in str(caught.value) and "did you mean Adam?" in str(caught.value)


LINEAR = "z = 'StandardNormal(2)'\nx = 'Gaussian(3, mean=Linear())'\n"
WRONG = {
    "typo": "[model]\nz = 'StandartNormal(2)'",
    "cycle": "[model]\na = \"Gaussian(2, mean=MLP(3), given='b')\"\nb = \"Gaussian(2, mean=MLP(3), given='a')\"",
    "type": "[model]\nz = 5",
    "list": "[model]\nz = ['MLP(3)']",
    "number-as-string": "[model]\nz = { type = 'StandardNormal', event = '2' }",
    "truth-as-number": "[model]\nz = { type = 'StandardNormal', event = true }",
    "system": "[model]\nz = \"os.system('touch canary')\"",
    "eval": "[model]\nz = \"eval('1')\"",
    "dunder": "[model]\nz = 'StandardNormal.__class__(2)'",
    "import": "[model]\nz = \"__import__('os')\"",
    "nested-call": "[model]\nz = 'StandardNormal(2)(3)'",
    "lambda": "[model]\nz = '(lambda: 1)()'",
    "comprehension": "[model]\nz = '[x for x in [1]]'",
    "unpacking": "[model]\nz = 'Gaussian(**{})'",
    "brackets": f"[model]\nz = '{'[' * 1_000_000}'",
    "toml-brackets": f"a = {'[' * 1_000_000}",
    "deep": f"[model]\nz = '{'MLP(' * 3000}'",
    "minus": f"[model]\nz = 'MLP({'-' * 50_000}1)'",
    "dots": f"[model]\nz = '{'a.' * 50_000}b(1)'",
    "digits": f"lfm = {'9' * 10_000}",
    "huge": "[model]\nz = 'StandardNormal(999999999999)'",
    "negative": "[model]\nz = 'StandardNormal(-1)'",
    "missing-file": "missing.toml",
    "missing-table": "[model]\ntable = 'heterogeneous'\n[data]\nfile = 'missing.csv'",
    "no-toml": "[model\nz",
    "empty": "",
    "section": "[modle]\nz = 'StandardNormal(2)'",
    "newer": f"lfm = 99\n[model]\n{LINEAR}",
    "guide-without-model": "[guide]\nz = 'Gaussian()'",
    "svi-without-guide": f"[model]\n{LINEAR}[inference]\ntype = 'SVI'",
    "unknown-latent": f"[model]\n{LINEAR}[guide]\nzz = 'Gaussian()'",
    "unknown-parent": "[model]\nz = 'StandardNormal(2)'\nx = \"Gaussian(3, mean=MLP(3), given='u')\"",
    "wrong-kind": "[model]\nz = 'StandardNormal(2)'\nx = 'Gaussian(3, mean=Full())'",
    "date": "[model]\nz = 1979-05-27",
    "python": "[model]\nz = { type = 'python', name = 'system' }",
    "optimizer": f"[model]\n{LINEAR}[guide]\nz = 'Gaussian()'\n[inference]\ntype = 'SVI'\noptimizer = 'os.system'",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_in_words_and_does_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lfm.declare(f"[model]\n{LINEAR}")
    modules = set(sys.modules)
    with pytest.raises((lfm.DeclarationError, lfm.DataError)) as caught:
        lfm.declare(text)
    assert type(caught.value).__module__ == "pyro_lfm.errors" and "Traceback" not in str(caught.value)
    assert set(sys.modules) == modules or "heterogeneous" in text
    assert not list(tmp_path.iterdir())


def test_a_table_is_declared_by_its_file(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"age": [21, 34, None, 50, 81, 19, 44, 62, 28, 37], "sex": ["f", "m"] * 5})
    frame.to_csv(tmp_path / "people.csv", index=False)
    path = tmp_path / "people.toml"
    path.write_text(
        "[data]\nfile = 'people.csv'\ncolumns = { age = 'continuous' }\n"
        "[model]\ntable = 'heterogeneous'\nz = 'StandardNormal(2)'\n"
    )
    for source in (path, str(path)):
        declaration = lfm.declare(source)
        table = lfm.heterogeneous(frame, kinds={"age": "continuous"})
        assert declaration.model.declared == {"z": lfm.StandardNormal(2), **table}
        assert declaration.dict()["model"] == {
            "table": "heterogeneous",
            "z": {"type": "StandardNormal", "event": 2},
        }
        assert declaration.data["file"] == "people.csv"
    assert Path(tmp_path / "people.csv").exists()
