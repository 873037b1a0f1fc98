"""Wrong input raises a typed error that names the argument, the expected value, the given value and a remedy."""

import cases
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_lfm as lfm

Declaration, Shape, Data = lfm.DeclarationError, lfm.ShapeError, lfm.DataError


def fit(data, model=None, **options):
    model = cases.plain() if model is None else model
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    return lfm.fit(model, data, lfm.SVI(guide, epochs=1, **options), seed=0, progress=False)


def gaussian(*args, **options):
    return lfm.Gaussian(cases.D, *args, mean=lfm.MLP(4), **options)


def observed(likelihood):
    return lfm.Model(z=lfm.StandardNormal(2), x=likelihood)


@pytest.mark.parametrize(
    ("kind", "words", "data"),
    [
        (Shape, r"x must have shape \(N, 4\); got \(20, 7\)", np.zeros((20, 7))),
        (Shape, r"x must have shape \(N, 4\); got \(4,\)", np.zeros(4)),
        (Shape, r"x must have shape \(N, 4\); got \(20, 2, 2\).*reshape", np.zeros((20, 2, 2))),
        (Data, r"x must have at least one row; got shape \(0, 4\)", np.zeros((0, 4))),
        (Data, r"x must be finite.*inf.*row 1, column 2", np.array([[0.0] * 4, [0, 0, np.inf, 0]])),
        (Data, "observed entry; every value is missing", np.full((3, 4), np.nan)),
        (Data, "x must hold real numbers; got dtype", np.array([["a"] * 4])),
        (Data, "x must be a NumPy array.*got None", None),
        (Data, "there is no file rows.csv", "rows.csv"),
        (Data, "exactly the names.*missing: x; unknown: y", {"y": np.zeros((3, 4))}),
        (Shape, "rows of one shape", [[1.0, 2.0], [3.0]]),
        (Data, "DataLoader", torch.utils.data.DataLoader(torch.zeros(3, 4))),
    ],
)
def test_data_that_do_not_fit(kind, words, data):
    model = cases.plain()
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(kind, match=words):
        fit(data, model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("likelihood", "data", "words"),
    [
        (lfm.Bernoulli(2, logits=lfm.MLP(4)), [[0.0, 2.0]], "x must be 0 or 1.*got 2 at row 0, column 1"),
        (lfm.Bernoulli(2, logits=lfm.MLP(4)), [[0.5, 1.0]], "x must be 0 or 1.*binarize"),
        (
            lfm.Categorical(3, logits=lfm.MLP(4)),
            [0, 3, 1],
            r"x must be integers 0\.\.2.*got 3 at row 1.*recode",
        ),
        (lfm.Categorical(3, logits=lfm.MLP(4)), [0, -1], r"x must be integers 0\.\.2"),
        (lfm.Poisson(1, rate=lfm.MLP(4)), [[1.0], [-1.0]], "x must be integers of at least 0.*got -1"),
        (lfm.Poisson(1, rate=lfm.MLP(4)), [[1.5]], "x must be integers"),
    ],
)
def test_values_outside_the_support(likelihood, data, words):
    with pytest.raises(Data, match=words):
        fit(data, observed(likelihood))


def test_several_observed_factors_need_named_data_of_one_length():
    with pytest.raises(Data, match="which rows belong to which name"):
        fit(np.zeros((5, 4)), cases.two_views())
    with pytest.raises(Data, match="x: 5, y: 6"):
        fit({"x": np.zeros((5, 4)), "y": np.zeros((6, 2))}, cases.two_views())


def test_a_program_that_ignores_masks_refuses_missing_entries():
    data = torch.ones(6, cases.D)
    data[0, 0] = float("nan")
    with pytest.raises(Data, match="never asks for batch.mask"):
        fit(data, cases.GammaDirichlet())


DECLARATIONS = {
    "unknown name in given": (
        lambda: lfm.Model(z=lfm.StandardNormal(2), x=gaussian(given="y")),
        "x: given='y' is no factor",
    ),
    "cycle": (
        lambda: lfm.Model(a=gaussian(given="b"), b=gaussian(given="a"), x=gaussian(given="a")),
        "cycle: .*a",
    ),
    "reads itself": (lambda: lfm.Model(z=lfm.StandardNormal(2), x=gaussian(given="x")), "cycle"),
    "reserved name": (
        lambda: lfm.Model(rows=lfm.StandardNormal(2), x=gaussian()),
        "'rows' is reserved or not usable",
    ),
    "private name": (lambda: lfm.Model(_z=lfm.StandardNormal(2), x=gaussian()), "'_z' is reserved"),
    "no latent": (lambda: lfm.Model(x=gaussian()), "needs a latent factor"),
    "no observed": (lambda: lfm.Model(z=lfm.StandardNormal(2)), "needs an observed factor"),
    "idle latent": (
        lambda: lfm.Model(z=lfm.StandardNormal(2), w=lfm.StandardNormal(2), x=gaussian(given="z")),
        "nothing reads w",
    ),
    "not a factor": (lambda: lfm.Model(z=3, x=gaussian()), "z must be a factor.*got int"),
    "size": (lambda: lfm.Gaussian(0), "event size must be a positive int"),
    "no size": (lambda: lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(mean=lfm.MLP(2))), "needs its event size"),
    "twice the same parent": (lambda: gaussian(given=("z", "z")), "name each parent once"),
    "covariance": (lambda: lfm.Gaussian(3, covariance="full"), "covariance must be Isotropic"),
    "rank": (lambda: lfm.LowRank(0), "rank of LowRank must be a positive int"),
    "floor": (lambda: lfm.Diagonal(min_scale=-1), "min_scale must be a number ≥ 0"),
    "widths": (lambda: lfm.MLP(0), "hidden widths"),
    "activation": (lambda: lfm.MLP(3, activation="swoosh"), "activation must be one of"),
    "channels": (lambda: lfm.Convolutional(), "channels"),
    "given": (lambda: gaussian(given=3), "given must be a name"),
    "weight": (lambda: lfm.Linear(weight=torch.ones(2, 2)), "weight of Linear must be lfm.Fixed"),
    "image without shape": (
        lambda: lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(16, mean=lfm.Convolutional(2))),
        "declare the image's factor with its shape",
    ),
    "source": (lambda: lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean="mlp")), "x.mean must be a module"),
    "factory": (
        lambda: lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(3, mean=lambda i, o: o)),
        "factory must return an nn.Module",
    ),
    "idle network": (
        lambda: lfm.Model(
            z=lfm.StandardNormal(2),
            x=lfm.Gaussian(3, mean=lfm.MLP(2), covariance=lfm.Diagonal(lfm.MLP(2)), network=lfm.MLP(2)),
        ),
        "every parameter has a source",
    ),
    "fixed value": (lambda: lfm.Model(z=lfm.Gaussian(2, mean=lfm.Fixed([1.0, 2.0, 3.0])), x=gaussian()), "broadcast"),
    "fixed variance": (
        lambda: lfm.Model(
            z=lfm.Gaussian(2, covariance=lfm.Diagonal(lfm.Fixed(1e-9), min_scale=1e-3)), x=gaussian()
        ),
        "above min_scale",
    ),
    "fixed matrix": (
        lambda: lfm.Model(z=lfm.Gaussian(2, covariance=lfm.Full(lfm.Fixed([[1.0, 2.0], [2.0, 1.0]]))), x=gaussian()),
        "positive definite",
    ),
    "categories": (lambda: lfm.Categorical(0), "categories must be a positive int"),
}  # fmt: skip


@pytest.mark.parametrize("case", DECLARATIONS)
def test_declarations_that_cannot_work(case):
    declare, words = DECLARATIONS[case]
    with pytest.raises(Declaration, match=words):
        declare()


@pytest.mark.parametrize("network", [nn.Linear(2, 3), lambda i, o: nn.Linear(i, o + 1), nn.Linear(3, 4)])
def test_a_network_of_the_wrong_size(network):
    with pytest.raises(Shape, match="x.mean must (give 4 numbers|take inputs of shape)"):
        lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=network))


def test_a_factor_whose_distribution_has_another_event():
    class Flat(lfm.Prior):
        def forward(self):
            return dist.Normal(torch.zeros(self.dim), 1.0)

    with pytest.raises(Shape, match=r"z declares event shape \(2,\).*to_event"):
        lfm.Model(z=Flat(2), x=gaussian())


def test_values_handed_to_a_factor_must_fit_its_parents():
    model = cases.plain()
    with pytest.raises(Shape, match=r"z must have shape \(..., 3\); got \(5, 2\)"):
        model.factors["x"](torch.zeros(5, 2))
    with pytest.raises(Shape, match=r"takes its parents \(z\); got 0 values"):
        model.factors["x"]()


GUIDES = {
    "unknown latent": (lambda m: lfm.Guide(m, w=lfm.Gaussian()), "w is no variable of the model"),
    "observed": (lambda m: lfm.Guide(m, z=lfm.Gaussian(), x=lfm.Gaussian()), "x is observed"),
    "missing latent": (lambda m: lfm.Guide(m), "no factor for the latent z"),
    "unknown parent": (lambda m: lfm.Guide(m, z=lfm.Gaussian(given="y")), "given='y' must be one of"),
    "itself": (lambda m: lfm.Guide(m, z=lfm.Gaussian(given="z")), "given='z' must be one of"),
    "event size": (lambda m: lfm.Guide(m, z=lfm.Gaussian(5)), r"event shape must be \(3,\); got \(5,\)"),
    "discrete for real": (lambda m: lfm.Guide(m, z=lfm.Categorical()), "not a label"),
    "not a factor": (lambda m: lfm.Guide(m, z=lfm.MLP(3)), "z must be a factor"),
    "guide as model": (
        lambda m: lfm.Guide(lfm.Guide(m, z=lfm.Gaussian()), z=lfm.Gaussian()),
        "expected a model; got the guide",
    ),
}


@pytest.mark.parametrize("case", GUIDES)
def test_guides_that_cannot_serve(case):
    declare, words = GUIDES[case]
    with pytest.raises(Declaration, match=words):
        declare(cases.plain())


def test_a_guide_for_labels_must_be_discrete_and_one_for_shared_latents_reads_no_rows():
    model = lfm.Model(c=lfm.Categorical(3), x=gaussian())
    with pytest.raises(Declaration, match="c takes discrete values"):
        lfm.Guide(model, c=lfm.Gaussian(network=lfm.MLP(3)))
    model = cases.SharedScale()
    with pytest.raises(Declaration, match="scale stands outside the plate"):
        lfm.Guide(model, scale=lfm.Gaussian(network=lfm.MLP(3)), z=lfm.Gaussian())


def test_a_cycle_in_a_guide():
    with pytest.raises(Declaration, match="cycle"):
        lfm.Guide(
            cases.two_layers(),
            z1=lfm.Gaussian(network=lfm.MLP(3), given="z2"),
            z2=lfm.Gaussian(network=lfm.MLP(3), given="z1"),
        )


INFERENCES = {
    "epochs": (dict(epochs=0), "epochs must be a positive int; got 0"),
    "both": (dict(epochs=1, steps=1), "epochs or steps, not both"),
    "batch": (dict(batch_size=-1), "batch_size must be a positive int"),
    "rate": (dict(learning_rate=0.0), "learning_rate must be a number > 0"),
    "engine": (dict(engine="warp"), "engine must be one of"),
    "objective": (dict(objective="elbo"), "objective must be lfm.ELBO"),
    "alternate": (dict(alternate=2, engine="pyro"), "alternate= needs engine"),
}


@pytest.mark.parametrize("case", INFERENCES)
def test_inference_out_of_range(case):
    options, words = INFERENCES[case]
    guide = cases.guide_for(cases.plain(), cases.GUIDES["gaussian-diagonal"])
    with pytest.raises(Declaration, match=words):
        lfm.SVI(guide, **options)


WRONG_ARGUMENTS = {
    "misspelt, SVI": (
        lambda: lfm.SVI(None, lerning_rate=1.0),
        "SVI takes .*; got lerning_rate=: did you mean learning_rate=.$",
    ),
    "misspelt, ELBO": (lambda: lfm.ELBO(particels=3), "did you mean particles=."),
    "from torch": (lambda: lfm.SVI(None, lr=1.0), "got lr=: give learning_rate=$"),
    "probs": (
        lambda: lfm.Categorical(3, probs=lfm.Fixed(0.3)),
        "Categorical takes categories, logits.*got probs=: give logits=",
    ),
    "both": (
        lambda: lfm.Categorical(3, logits=lfm.Fixed(0.0), probs=lfm.Fixed(0.3)),
        "got probs=: give logits=",
    ),
    "logits and prior": (
        lambda: lfm.Categorical(3, logits=lfm.Fixed(0.0), prior=lfm.parameter_priors.Dirichlet()),
        "without logits",
    ),
    "scale": (lambda: lfm.Gaussian(3, loc=lfm.Linear(), scale=1.0), "got loc=, scale=: give mean="),
    "nothing like it": (lambda: lfm.MLP(3, qqq="relu"), "MLP takes .*; got qqq=$"),
    "missing": (
        lambda: lfm.Fixed(),
        "Fixed takes value; got a call with missing a required argument: 'value'",
    ),
    "twice": (lambda: lfm.Gaussian(3, event=3), "multiple values for argument 'event'"),
    "no arguments": (lambda: lfm.parameter_priors.ARD(hyper=1), "ARD takes .*; got hyper="),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_arguments_that_a_declaration_does_not_take(case):
    wrong, words = WRONG_ARGUMENTS[case]
    with pytest.raises(Declaration, match=words):
        wrong()


def test_a_type_error_of_a_constructor_is_not_one_of_its_arguments():
    class Own(lfm.Prior):
        def __init__(self, dim):
            super().__init__(dim)
            len(3)

    with pytest.raises(TypeError, match="has no len"):
        Own(3)


OBJECTIVES = {
    "particles": dict(particles=0),
    "kl": dict(kl="exact"),
    "kl_weight": dict(kl_weight=-1.0),
    "free_bits": dict(free_bits=-1.0),
    "gradient": dict(gradient="score"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_out_of_range(name):
    with pytest.raises(Declaration, match=name):
        lfm.ELBO(**OBJECTIVES[name])


def test_an_analytic_kl_that_does_not_exist_names_the_pair():
    model = cases.one_latent("gamma")
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    batch = lfm.Batch(cases.rows_of(model))
    with pytest.raises(
        Declaration, match=r"KL\(q\(z\) ‖ p\(z\)\) of Pushforward against Gamma has no closed form"
    ):
        lfm.ELBO(kl="analytic").bound(model, guide, batch)


def test_fit_with_the_wrong_parts():
    model = cases.plain()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-diagonal"])
    with pytest.raises(Declaration, match="inference must be lfm.SVI"):
        lfm.fit(model, torch.zeros(3, 4), guide)
    other = cases.two_layers()
    with pytest.raises(Declaration, match="the guide serves z; the model's latents are z2, z1"):
        lfm.fit(other, torch.zeros(3, 4), lfm.SVI(guide, epochs=1))


def test_programs_without_latents_or_without_data():
    class Empty(lfm.PyroModel):
        def forward(self, batch):
            with batch.plate():
                pyro.sample("x", dist.Normal(0.0, 1.0), obs=batch["x"])

    class Free(lfm.PyroModel):
        def forward(self, batch):
            with batch.plate():
                pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(Declaration, match="no latent variable"):
        Empty().latents  # noqa: B018
    with pytest.raises(Declaration, match="observes nothing"):
        Free().observed  # noqa: B018
    with pytest.raises(Declaration, match="must define forward"):
        lfm.PyroModel().latents  # noqa: B018
    with pytest.raises(Declaration, match="takes a module or function"):
        lfm.PyroModel("model")


def test_a_latent_in_a_plate_beside_that_of_the_rows_has_no_declared_guide():
    def program(batch):
        with batch.plate():
            with pyro.plate("columns", 4, dim=-2):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.transpose(-1, -2), 1.0).to_event(1), obs=batch["x"])

    with pytest.raises(
        Declaration, match="in the plate 'columns': leave that plate out .*torch.zeros.4., 1.0..to_event"
    ):
        lfm.Guide(lfm.PyroModel(program), z=lfm.Gaussian(network=lfm.MLP(8)))


class SharedOffset(lfm.PyroModel):
    """Rows z W + w, where ``draw`` draws w outside the plate over rows, or inside it."""

    def __init__(self, draw, inside=False):
        super().__init__()
        self.draw, self.inside = draw, inside

    def forward(self, batch):
        w = None if self.inside else self.draw()
        with batch.plate():
            w = self.draw() if w is None else w
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = z @ torch.ones(2, 3) + w
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=batch["x"])


def _in_own_plate():
    with pyro.plate("columns", 3):
        return pyro.sample("w", dist.Normal(0.0, 1.0))


def _as_event():
    return pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))


def _without_event():
    return pyro.sample("w", dist.Normal(torch.zeros(3), 1.0))


def _as_number():
    return pyro.sample("w", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize("draw", [_as_event, _in_own_plate])
def test_a_shared_latent_outside_the_plate_has_a_joint_guide(draw):
    model = SharedOffset(draw)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()), shared=pyro.infer.autoguide.AutoNormal)
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    ours = -lfm.ELBO(kl="monte-carlo").loss(model, guide, lfm.Batch(rows))
    torch.manual_seed(0)
    theirs = -pyro.infer.Trace_ELBO().loss(model, guide, lfm.Batch(rows))
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_shared_latent_in_the_wrong_place_is_named():
    auto = pyro.infer.autoguide.AutoNormal
    with pytest.raises(Declaration, match="w has the batch shape .3,. .*to_event.1., or draw it inside"):
        lfm.Guide(SharedOffset(_without_event), z=lfm.Gaussian(), shared=auto)
    with pytest.raises(Declaration, match="w, which each row has for itself: shared= serves latents outside"):
        lfm.Guide(SharedOffset(lambda: _as_event(), inside=True), z=lfm.Gaussian(), shared=auto)
    # One number for all rows has no dimension for several draws, which stand on the left.
    model = SharedOffset(_as_number)
    guide = lfm.Guide(model, z=lfm.Gaussian(), shared=auto)
    svi = lfm.SVI(guide, objective=lfm.ELBO(particles=2), steps=1, engine="eager")
    with pytest.raises(lfm.TrainingError, match="Remedies: particles=1, or a program whose latents keep"):
        lfm.fit(model, torch.zeros(7, 3), svi, seed=0, progress=False)


def test_batches_refuse_what_they_cannot_hold():
    with pytest.raises(Data, match="takes tensors; got ndarray"):
        lfm.Batch(np.zeros((3, 2)))
    with pytest.raises(Data, match="same number of rows"):
        lfm.Batch({"x": torch.zeros(3), "y": torch.zeros(4)})
    with pytest.raises(Data, match="at least one row"):
        lfm.Batch()
    with pytest.raises(Data, match="one per row"):
        lfm.Batch(torch.zeros(3), index=torch.arange(2))
    batch = lfm.Batch(torch.zeros(3, 2))
    batch["x"]
    with pytest.raises(Declaration, match="a bare tensor has one name"):
        batch["y"]
