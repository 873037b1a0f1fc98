"""Without the package of an extra, a public name that needs it says so in one sentence with the command that installs it.

A package is made missing by ``None`` in ``sys.modules``, for which Python raises ModuleNotFoundError.
"""

import sys

import numpy as np
import pytest

import pyro_lfm as lfm
from pyro_lfm.cli import main
from pyro_lfm.documents.text import registry

ROWS = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")


def deep():
    model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear()))
    return model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.Linear()))


def trained(engine="eager", **options):
    model, guide = deep()
    return lfm.fit(model, ROWS, lfm.SVI(guide, epochs=1, engine=engine), seed=0, progress=False, **options)


@pytest.fixture(scope="module")
def fit():
    return trained()


# {package: (its extra, calls of a fit that need it)}. The files t.* of the calls exist.
NEEDS = {
    "matplotlib": ("plot", [lambda fit: fit.plot(), lambda fit: lfm.plots.factor_walk(fit)]),
    "pandas": (
        "data",
        [
            lambda fit: lfm.data.open("t.csv"),
            lambda fit: lfm.data.open("t.parquet"),
            lambda fit: lfm.heterogeneous("t.csv"),
            lambda fit: fit.posterior("t.csv"),
            lambda fit: lfm.data.PictureFolder.open("pictures").attributes,
        ],
    ),
    "pyarrow": (
        "data",
        [
            lambda fit: lfm.data.open("t.parquet"),
            lambda fit: lfm.data.ParquetRows(["t.parquet"]),
            lambda fit: lfm.data.shuffle("t.parquet", "u.parquet", seed=0),
        ],
    ),
    "anndata": (
        "data",
        [
            lambda fit: lfm.data.open("t.h5ad"),
            lambda fit: lfm.tables.anndata("t.h5ad"),
            lambda fit: lfm.single_cell.fit("t.h5ad"),
            lambda fit: lfm.data.shuffle("t.h5ad", "u.h5ad", seed=0),
        ],
    ),
    "zarr": (
        "data",
        [
            lambda fit: lfm.data.open("t.zarr"),
            lambda fit: lfm.data.shuffle("t.zarr", "u.zarr", seed=0),
        ],
    ),
    "statsmodels": (
        "efa",
        [
            lambda fit: lfm.factor_analysis.rotate(np.eye(4)[:, :2], "varimax"),
            lambda fit: lfm.estimators.FactorAnalysis(2, rotation="varimax").fit(ROWS),
        ],
    ),
    "zuko": ("flows", [lambda fit: lfm.Model(z=lfm.Flow(2, flow=lfm.Zuko("NSF")), x=lfm.Gaussian(4))]),
    "arviz": ("stats", [lambda fit: fit.to_arviz(ROWS)]),
    "onnx": (
        "export",
        [
            lambda fit: lfm.export(fit, "m.onnx"),
            lambda fit: lfm.explore(fit, ROWS, export="page.html"),
        ],
    ),
    "onnxscript": ("export", [lambda fit: lfm.export(fit, "m.onnx")]),
    "fastapi": (
        "app",
        [lambda fit: lfm.serving.app(fit), lambda fit: lfm.explore(fit, ROWS, port=0, block=False)],
    ),
    "uvicorn": (
        "app",
        [lambda fit: lfm.serving.run(fit, port=0), lambda fit: lfm.explore(fit, ROWS, port=0, block=False)],
    ),
    "jax": ("jax", [lambda fit: trained(engine="xla")]),
    "tensorboard": ("tensorboard", [lambda fit: trained(callbacks=[lfm.callbacks.TensorBoard("events")])]),
    "lightning": (
        "lightning",
        [lambda fit: lfm.lightning.Module(*deep()), lambda fit: lfm.lightning.DataModule(deep()[0], ROWS)],
    ),
}
CALLS = [(package, number) for package, (_, calls) in NEEDS.items() for number in range(len(calls))]


@pytest.fixture
def without(monkeypatch):
    """A function that makes a package missing, with the modules of the library that import it at their top."""

    def remove(package):
        for name in [*sys.modules, package]:
            if name == package or name.startswith(f"{package}."):
                monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, "pyro_lfm.lightning.lightning_module", raising=False)
        for name in ("Module", "DataModule"):  # the namespace keeps those that were used
            monkeypatch.delitem(vars(lfm.lightning), name, raising=False)

    return remove


@pytest.mark.parametrize("package, number", CALLS)
def test_a_missing_package_is_said_with_the_command_that_installs_it(
    package, number, fit, without, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("t.csv", "t.parquet", "t.h5ad"):
        (tmp_path / name).write_text("a,b\n1,2\n")
    (tmp_path / "t.zarr").mkdir()
    (tmp_path / "t.zarr" / "zarr.json").write_text("{}")
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "pictures").mkdir()
    image.new("L", (4, 4)).save(tmp_path / "pictures" / "one.png")
    extra, calls = NEEDS[package]
    without(package)
    with pytest.raises((ImportError, lfm.DeclarationError)) as caught:
        calls[number](fit)
    assert f"pip install 'pyro_lfm[{extra}]'" in str(caught.value) and "\n" not in str(caught.value)


def test_tables_of_factor_analysis_need_pandas(without):
    model = lfm.Model(
        z=lfm.StandardNormal(1), x=lfm.Gaussian(4, mean=lfm.Linear(), covariance=lfm.Isotropic())
    )
    exact = lfm.fit(model, ROWS, lfm.EM(), seed=0, progress=False)
    without("pandas")
    for call in (
        exact.loadings,
        lambda: lfm.factor_analysis.solution(exact),
        lambda: lfm.factor_analysis.number_of_factors(ROWS, largest=2),
    ):
        with pytest.raises(ImportError, match=r"pip install 'pyro_lfm\[efa\]'"):
            call()


@pytest.mark.parametrize("command", ["--help", "info", "fit nothing.toml"])
def test_the_command_line_without_typer_is_one_line(command, without, capsys):
    without("typer")
    assert main(command.split()) == 2
    said = "pyro-lfm: typer is not installed, which the command line needs: pip install 'pyro_lfm[cli]'\n"
    assert capsys.readouterr() == ("", said)


def test_the_core_works_without_any_extra(fit, without, tmp_path):
    for package in NEEDS:
        without(package)
    registry.catalogue.cache_clear()
    try:
        fit.save(tmp_path / "run")
        assert lfm.load(tmp_path / "run").posterior(ROWS).mean.equal(fit.posterior(ROWS).mean)
    finally:
        registry.catalogue.cache_clear()
    names = {}
    exec("from pyro_lfm import *", names)
    assert names["lightning"] is lfm.lightning and "Gaussian" in names
