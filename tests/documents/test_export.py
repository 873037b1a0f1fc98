"""Exported files give what the library gives, in a process with neither torch nor this library."""

import json
import logging
import subprocess
import sys
import warnings

import cases
import numpy as np
import pyro
import pytest
import torch
from torch import nn

import pyro_lfm as lfm
from pyro_lfm.documents.export import elementary_algebra as algebra
from pyro_lfm.documents.export.file_formats import _lacking

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

# Runs every file of a folder on the rows beside it, with torch, Pyro and this library out of reach.
ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "pyro", "pyro_lfm"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import pathlib, numpy, onnxruntime
for file in pathlib.Path(sys.argv[1]).glob("*.onnx"):
    session = onnxruntime.InferenceSession(str(file))
    rows = dict(numpy.load(file.with_suffix(".npz")))
    for count in (1, 7, 1000):
        feeds = {}
        for put in session.get_inputs():
            shape = [count if size == "rows" else size for size in put.shape]
            feeds[put.name] = rows[put.name][:count] if put.name in rows else numpy.full(shape, 0.3, numpy.float32)
        names = [output.name for output in session.get_outputs()]
        numpy.savez(file.with_suffix(f".{count}.npz"), **dict(zip(names, session.run(None, feeds))))
"""


def rows(n=1000, seed=0):
    """Rows with missing entries, and among the first seven one without any entry."""
    x = torch.randn(n, cases.D, generator=torch.Generator().manual_seed(seed))
    x[torch.rand(n, cases.D, generator=torch.Generator().manual_seed(1)) < 0.2] = torch.nan
    x[3] = torch.nan
    return x


def fitted(model, guide_or_inference, x=None):
    inference = guide_or_inference
    if not isinstance(inference, lfm.Inference):
        inference = lfm.SVI(inference, epochs=3, learning_rate=0.02)
    return lfm.fit(model, rows(60, 2) if x is None else x, inference, seed=0, progress=False)


def by_guide(name):
    model = cases.plain()
    return fitted(model, cases.guide_for(model, cases.GUIDES[name]))


def mixture(covariance):
    return lfm.Model(
        c=lfm.Categorical(3), x=lfm.Gaussian(cases.D, mean=lfm.Lookup(), covariance=covariance, given="c")
    )


def amortised_mixture():
    model = mixture(lfm.Diagonal())
    return fitted(model, lfm.Guide(model, c=lfm.Categorical(logits=lfm.MLP(6))))


def bottom_up():
    model = cases.two_layers()
    read = {"z1": "x", "z2": "z1"}
    return fitted(
        model, lfm.Guide(model, **{n: lfm.Gaussian(network=lfm.MLP(6), given=g) for n, g in read.items()})
    )


def on_a_simplex():
    model = cases.one_latent("dirichlet")
    return fitted(model, lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6))))


def exact(name):
    return fitted(cases.CLOSED_FORMS[name](), lfm.EM(iterations=20, tolerance=1e-4))


def one_factor():
    """A full covariance of one entry has none below its diagonal."""
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(cases.D, mean=lfm.Linear()))
    return fitted(model, lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6))))


FITS = {
    "one-factor": one_factor,
    "low-rank": lambda: by_guide("gaussian-low-rank"),
    "mixture": lambda: by_guide("mixture-of-gaussians"),
    "categorical": amortised_mixture,
}
SLOW_FITS = {
    **{
        name: lambda name=name: by_guide(name)
        for name in ("gaussian-diagonal", "gaussian-full", "flow", "spline-flow")
    },
    **{name: lambda name=name: by_guide(name) for name in ("student-t", "product-of-experts")},
    **{
        name: lambda name=name: exact(name)
        for name in ("factor-analysis", "full-noise", "factor-analysers", "mixture-full")
    },
    "bottom-up": bottom_up,
    "simplex": on_a_simplex,
}


def means_agree(fits, folder):
    """Exports the encoders of some fits, runs them in a process without torch, and compares their means."""
    x = rows()
    for name, fit in fits.items():
        lfm.export(fit, folder / f"{name}.onnx", parts="encode")
        np.savez(folder / f"{name}.encode.npz", x=x.numpy())
    done = subprocess.run([sys.executable, "-c", ALONE, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, fit in fits.items():
        for count in (1, 7, 1000):
            posterior = fit.posterior(x[:count])
            several = isinstance(posterior, dict)
            outputs = np.load(folder / f"{name}.encode.{count}.npz")
            for latent, distribution in posterior.items() if several else [("", posterior)]:
                label = isinstance(distribution, torch.distributions.Categorical)
                mean = distribution.probs if label else distribution.mean
                given = outputs[f"{latent}.mean" if several else "mean"]
                np.testing.assert_allclose(given, mean.numpy(), atol=1e-5, err_msg=f"{name} {count}")


def test_an_encoder_gives_the_posterior_means_without_torch(tmp_path):
    means_agree({name: make() for name, make in FITS.items()}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_FITS)
def test_every_kind_of_encoder_gives_the_posterior_means_without_torch(name, tmp_path):
    means_agree({name: SLOW_FITS[name]()}, tmp_path)


def run(path, **inputs):
    session = onnxruntime.InferenceSession(str(path))
    feeds = {name: np.asarray(value) for name, value in inputs.items()}
    return dict(zip((out.name for out in session.get_outputs()), session.run(None, feeds), strict=True))


def test_the_files_of_a_fit_are_its_distributions(tmp_path):
    """z = mean + L ε; the likelihood's parameters; log p(x | z) of the observed entries. The metadata name the columns."""
    pd = pytest.importorskip("pandas")
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(4, mean=lfm.MLP(6)))
    frame = pd.DataFrame(rows(40, 5).numpy(), columns=[*"abcd"])
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(6)))
    fit = fitted(model, guide, frame)
    files = lfm.export(fit, tmp_path / "model.onnx")
    assert [file.name for file in files.values()] == [
        f"model.{part}.onnx" for part in ("encode", "decode", "log_likelihood")
    ]
    assert {*tmp_path.iterdir()} == {*files.values()}
    x, eps = rows(9, 6), torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    encoded = run(files["encode"], x=x, eps=eps)
    z = encoded["mean"] + (encoded["scale_tril"] @ eps.numpy()[..., None])[..., 0]
    np.testing.assert_allclose(encoded["z"], z, atol=1e-5)
    np.testing.assert_allclose(encoded["scale_tril"], fit.posterior(x).scale_tril.numpy(), atol=1e-5)
    likelihood = fit.model.factors["x"](torch.as_tensor(z))
    decoded = run(files["decode"], z=z)
    np.testing.assert_allclose(decoded["mean"], likelihood.mean.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(decoded["scale"], likelihood.stddev.detach().numpy(), atol=1e-5)
    each = likelihood.base_dist.log_prob(x.nan_to_num()).where(~x.isnan(), torch.zeros(())).sum(1)
    given = run(files["log_likelihood"], x=x, z=z)["log_likelihood"]
    np.testing.assert_allclose(given, each.detach().numpy(), rtol=1e-5, atol=1e-5)
    session = onnxruntime.InferenceSession(str(files["encode"]))
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["pyro_lfm"])
    assert metadata["variables"]["x"]["columns"] == [*"abcd"]
    assert metadata["version"] == lfm.__version__ and metadata["inputs"]["x"]["missing"] == "NaN"


def test_a_program_of_torch_does_the_same(tmp_path):
    fit = by_guide("gaussian-diagonal")
    torch.manual_seed(3)
    state = torch.get_rng_state()
    files = lfm.export(fit, tmp_path / "new" / "model", parts=["encode"], format="torch")
    assert torch.equal(state, torch.get_rng_state())
    assert [*(tmp_path / "new").iterdir()] == [files["encode"]] and files["encode"].name == "model.encode.pt2"
    extra = {"pyro_lfm.json": ""}
    program, x = torch.export.load(files["encode"], extra_files=extra).module(), rows(5)
    outputs = program({"x": x, "eps": torch.zeros(5, cases.K)})
    torch.testing.assert_close(outputs["mean"], fit.posterior(x).mean, atol=1e-5, rtol=0)
    assert torch.equal(outputs["z"], outputs["mean"])
    assert json.loads(extra["pyro_lfm.json"])["inputs"]["eps"]["noise"] == "standard normal"


@pytest.mark.slow
def test_every_kind_of_likelihood_is_exported(tmp_path):
    """Each file is compared with the library before it is written."""
    for name in cases.LIKELIHOODS:
        model = cases.one_latent(likelihood=name)
        guide = cases.guide_for(model, lambda: lfm.Gaussian(network=lfm.MLP(6)))
        fit = fitted(model, guide, cases.rows_of(model))
        lfm.export(fit, tmp_path / f"{name}.onnx", parts=("decode", "log_likelihood"))


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.MODELS)
def test_every_structure_is_exported(name, tmp_path):
    model = cases.MODELS[name]()
    guide = cases.guide_for(model, lambda: lfm.Gaussian(network=lfm.MLP(6)))
    x = (
        {n: torch.zeros(12, cases.D) for n in model.observed}
        if name == "latent-mixture"
        else cases.rows_of(model)
    )
    lfm.export(fitted(model, guide, x), tmp_path / "model.onnx")


@pytest.mark.slow
def test_mixed_columns_with_gaps_are_exported(tmp_path):
    pd = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    columns = {
        "age": random.poisson(40.0, 60) * 1.0,
        "sex": random.choice(["f", "m"], 60),
        "kg": random.normal(70, 9, 60),
    }
    frame = pd.DataFrame({**columns, "eyes": random.choice(["blue", "brown", "green"], 60)})
    table = lfm.heterogeneous(frame.mask(random.random(frame.shape) < 0.2))
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    fit = fitted(model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6))), table.data)
    files = lfm.export(fit, tmp_path / "model.onnx", parts="encode")
    session = onnxruntime.InferenceSession(str(files["encode"]))
    noise = {
        put.name: np.zeros([60 if size == "rows" else size for size in put.shape], np.float32)
        for put in session.get_inputs()
    }
    outputs = run(
        files["encode"], **{**noise, **{name: value.float().numpy() for name, value in table.data.items()}}
    )
    np.testing.assert_allclose(outputs["z.mean"], fit.posterior(table.data)["z"].mean.numpy(), atol=1e-5)


class Branches(nn.Linear):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


def guided_by(network):
    model = cases.plain()
    return fitted(model, lfm.Guide(model, z=lfm.Gaussian(network=network)), rows(20).nan_to_num())


def refined():
    model = cases.plain()
    return fitted(model, lfm.Refined(cases.guide_for(model, lfm.Gaussian), steps=1), rows(20).nan_to_num())


REFUSED = {
    "per-row": (lambda: guided_by(lfm.PerRow()), "PerRow.*declare a network"),
    "refined": (refined, "Refined optimises .*fit with the guide that it refines"),
    "branches": (lambda: guided_by(Branches), "looks at values of tensors"),
    "noise": (lambda: guided_by(Noisy), "draws random numbers"),
    "no-latents": (lambda: fitted(lfm.Model(x=lfm.Gaussian(4)), lfm.EM()), "no latents"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_encoder_that_cannot_be_a_file_is_refused_in_a_sentence_and_nothing_is_written(name, tmp_path):
    make, words = REFUSED[name]
    fit = make()
    with pytest.raises(lfm.DeclarationError, match=f"encode cannot be exported: .*{words}") as caught:
        lfm.export(fit, tmp_path / "folder" / "model.onnx", parts="encode")
    assert caught.value.__cause__ is None and not [*tmp_path.iterdir()]


def test_a_part_that_fails_keeps_all_files_as_they_were(tmp_path):
    fit = guided_by(Branches)
    (tmp_path / "model.decode.onnx").write_text("older")
    with pytest.raises(lfm.DeclarationError, match="encode cannot be exported"):
        lfm.export(fit, tmp_path / "model.onnx", parts=("decode", "encode"))
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"]


def test_wrong_arguments_are_refused_in_words(tmp_path, monkeypatch):
    fit = by_guide("gaussian-diagonal")
    wrong = {
        "parts must name one or more of 'encode'": {"parts": ("encode", "code")},
        "parts must name one or more": {"parts": ()},
        "got \\('encode', 'encode'\\)": {"parts": ("encode", "encode")},
        "parts must name": {"parts": 3},
        "format must be one of 'onnx', 'torch'; got 'pickle'": {"format": "pickle"},
        'format="torch" writes files that end in .pt2': {"format": "torch"},
    }
    for words, arguments in wrong.items():
        with pytest.raises(lfm.DeclarationError, match=words):
            lfm.export(fit, tmp_path / "model.onnx", **arguments)
    for path in ("model.h5", 3, ""):
        with pytest.raises(lfm.DeclarationError, match="path must"):
            lfm.export(fit, path)
    with pytest.raises(lfm.DeclarationError, match="fit must be a Fit.*; got Model"):
        lfm.export(fit.model, tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(lfm.DeclarationError, match="pip install 'pyro_lfm\\[export\\]'"):
        lfm.export(fit, tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    fit = by_guide("gaussian-diagonal")
    (tmp_path / "model.encode.pt2").mkdir()
    with pytest.raises(lfm.DataError, match="which is a folder"):
        lfm.export(fit, tmp_path / "model.pt2", parts="encode")
    (tmp_path / "file").write_text("")
    with pytest.raises(lfm.DataError, match="cannot be written"):
        lfm.export(fit, tmp_path / "file" / "model.pt2", parts="encode")


def state_of_the_process():
    loggers = {name: logging.getLogger(name).level for name in ("torch", "torch.onnx", "onnxscript", "pyro")}
    return (
        loggers,
        [*warnings.filters],
        pyro.settings.get(),
        torch.get_default_dtype(),
        logging.root.manager.disable,
    )


def test_an_export_is_silent_and_leaves_the_process_as_it_was(tmp_path, capfd):
    fit = by_guide("gaussian-diagonal")
    weights = {name: value.clone() for name, value in fit.model.state_dict().items()}
    lfm.export(fit, tmp_path / "model.onnx", parts="decode")  # torch sets up its exporters
    capfd.readouterr()
    before, threads = state_of_the_process(), torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lfm.export(fit, tmp_path / "model.onnx", parts="decode")
    assert "".join(capfd.readouterr()) == ""
    assert before == state_of_the_process() and threads == torch.get_num_threads()
    assert all(torch.equal(value, weights[name]) for name, value in fit.model.state_dict().items())


def test_operations_that_onnx_lacks_are_those_of_torch():
    """In double precision, to rounding."""
    torch.manual_seed(0)
    root = torch.randn(3, 5, 5, dtype=torch.float64)
    matrix, target = root @ root.mT + torch.eye(5), torch.randn(3, 5, 2, dtype=torch.float64)
    tril = torch.linalg.cholesky(matrix)
    table, aten = algebra.decompositions(), torch.ops.aten
    numbers = torch.tensor([1e-12, 1e-3, 0.5, 1.0, 2.0, 7.3, 1e4, 1e30], dtype=torch.float64)
    logits = torch.cat([-numbers, numbers])[:-1]
    calls = [
        (aten.linalg_cholesky.default, (matrix,)),
        (aten.cholesky_inverse.default, (tril,)),
        (aten.cholesky_solve.default, (target, tril)),
        (aten.lgamma.default, (numbers,)),
        (aten.log1p.default, (numbers,)),
        (aten.softplus.default, (logits,)),
        (aten.binary_cross_entropy_with_logits.default, (logits, torch.ones_like(logits))),
    ]
    for operation, arguments in calls:
        expected = operation(*arguments)
        if operation is aten.binary_cross_entropy_with_logits.default:
            arguments, expected = (*arguments, None, None, 0), operation(*arguments, None, None, 0)
        torch.testing.assert_close(table[operation](*arguments), expected, rtol=1e-9, atol=1e-12)
    for upper, factor in ((False, tril), (True, tril.mT)):
        for left, right in ((True, target), (False, target.mT)):
            solved = table[aten.linalg_solve_triangular.default](factor, right, upper=upper, left=left)
            expected = torch.linalg.solve_triangular(factor, right, upper=upper, left=left)
            torch.testing.assert_close(solved, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_counts_of_cells_are_exported(tmp_path):
    """Networks read the totals of cells by a code that stands beside the covariate."""
    pytest.importorskip("anndata")
    from cell_cases import cells

    adata = cells()
    factors = lfm.tables.anndata(adata, batch_key="batch")
    model = lfm.Model(z=lfm.StandardNormal(2), **factors)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6)))
    fit = lfm.fit(model, adata, lfm.SVI(guide, steps=3), seed=0, progress=False)
    state = {name: value.clone() for name, value in fit.model.state_dict().items()}
    files = lfm.export(fit, tmp_path / "model.onnx", parts=("encode", "decode"))
    assert {*files} == {"encode", "decode"}
    after = fit.model.state_dict()
    assert state.keys() == after.keys() and all(torch.equal(state[name], after[name]) for name in state)


def test_torchs_advice_and_escape_codes_are_left_out():
    advice = RuntimeError("\x1b[96mFailed\x1b[0m to convert. Please report it" + chr(10) + "<long advice>")
    advice.__cause__ = ValueError("\x1b[31mno such kernel\x1b[0m" + chr(10) + "more")
    assert _lacking(advice) == "ValueError: no such kernel"
