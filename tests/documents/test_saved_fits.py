"""A fit is saved as a folder and loaded in a process without its rows: the same numbers, the same bytes."""

import json
import os
import pickle
import pickletools
import shutil
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pytest
import torch
from test_declarations_as_text import OWN

import pyro_lfm as lfm

ROOT = Path(__file__).parents[2]


def by_svi(model, guide, **options):
    rows = cases.rows_of(model)
    return lfm.fit(
        model, rows, lfm.SVI(guide, epochs=1, engine="eager", **options), seed=0, progress=False
    ), rows


def of_model(name, guide="gaussian-full"):
    model = cases.MODELS[name]()
    return by_svi(model, cases.guide_for(model, cases.GUIDES[guide]))


def of_prior(name):
    guide = "gaussian-full" if name in cases.NEED_A_MEAN else "spline-flow"
    model = cases.one_latent(name)
    return by_svi(model, cases.guide_for(model, cases.GUIDES[guide]))


def of_guide(name):
    model = cases.plain()
    return by_svi(model, cases.guide_for(model, cases.GUIDES[name]))


def of_likelihood(name):
    model = cases.one_latent("standard-normal", name)
    return by_svi(model, cases.guide_for(model, cases.GUIDES["gaussian-diagonal"]))


def closed(make, inference):
    model = make().double()
    rows = cases.rows_of(model, 60)
    return lfm.fit(model, rows, inference, seed=0, progress=False), rows


def of_objective(objective):
    model = cases.plain()
    return by_svi(model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6))), objective=objective)


def hand_guide():
    return by_svi(cases.plain(), cases.HandGuide())


def refined():
    model = cases.plain()
    return by_svi(model, lfm.Refined(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(6))), steps=3))


def many_numbers():
    bias = lfm.Learned(torch.randn(200, generator=torch.Generator().manual_seed(0)))
    model = lfm.Model(z=lfm.StandardNormal(2), x=lfm.Gaussian(200, mean=lfm.Linear(bias=bias)))
    return by_svi(model, lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))))


FITS = {
    **{f"model-{name}": lambda name=name: of_model(name) for name in cases.MODELS},
    **{f"prior-{name}": lambda name=name: of_prior(name) for name in cases.PRIORS},
    **{f"guide-{name}": lambda name=name: of_guide(name) for name in cases.GUIDES if "per-row-" not in name},
    **{f"likelihood-{name}": lambda name=name: of_likelihood(name) for name in list(cases.LIKELIHOODS)[4:]},
    **{
        f"em-{name}": lambda make=make: closed(make, lfm.EM(iterations=3))
        for name, make in cases.CLOSED_FORMS.items()
    },
    "variational-em": lambda: closed(cases.CLOSED_FORMS["factor-analysis"], lfm.VariationalEM(iterations=3)),
    **{
        f"vb-{name}": lambda name=name: closed(
            lambda: cases.with_parameter_prior(name), lfm.VariationalBayes(iterations=3)
        )
        for name in ("beta", "normal-gamma", "normal-wishart")
    },
    "vb-linear": lambda: closed(cases.bayesian_factors, lfm.VariationalBayes(iterations=3)),
    "schedule": lambda: of_objective(lfm.ELBO(kl_weight=lambda done: 0.5 + done / 2)),
    "pyro-objective": lambda: of_objective(cases.OBJECTIVES["pyro-trace-elbo"]()),
    "hand-guide": hand_guide,
    "refined": refined,
    "many-numbers": many_numbers,
}


def numbers_of(fit, rows):
    """Everything that a fit computes, with one seed."""
    numbers = {"bound": fit.bound(rows, seed=4), "sample": fit.model.sample(5, seed=5)}
    numbers["imputed"] = dict(fit.impute(rows, draws=2, seed=2).values)
    numbers["draws"] = fit.sample_posterior(rows, draws=2, seed=3)
    posterior = fit.posterior(rows)
    for name, each in (posterior if isinstance(posterior, dict) else {"z": posterior}).items():
        try:
            numbers[f"mean {name}"] = each.mean
        except NotImplementedError:  # a distribution without a mean
            continue
    return numbers


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    # The first run of a program is Pyro's, later ones are direct: they may differ in the last digit of a float.
    close = dict(rtol=1e-6, atol=1e-6) if one.is_floating_point() else dict(rtol=0.0, atol=0.0)
    return torch.allclose(one, other, equal_nan=True, **close)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", FITS.values(), ids=FITS)
def test_a_loaded_fit_gives_the_same_numbers_and_is_saved_as_the_same_bytes(make, tmp_path):
    fit, rows = make()
    fit.save(tmp_path / "one")
    again = lfm.load(tmp_path / "one", parts=OWN)
    assert equal(numbers_of(fit, rows), numbers_of(again, rows))
    assert (
        str(again.history) == str(fit.history) and again.ends == fit.ends and again.converged == fit.converged
    )
    assert type(again) is type(fit) and again.seed == 0
    again.save(tmp_path / "two")
    files = sorted(os.listdir(tmp_path / "one"))
    assert files == ["declaration.toml", "fit.json", "history.csv", "weights.safetensors"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    with pytest.raises(lfm.DataError, match="are not here"):
        again.posterior()
    size = sum(t.numel() * t.element_size() for p in (fit.model, fit.guide) for t in p.state_dict().values())
    assert len(pickle.dumps(fit)) <= size + 100_000


def test_a_fresh_process_without_the_rows_gives_the_same_numbers(tmp_path):
    fit, rows = of_model("two-views")
    fit.save(tmp_path / "run")
    torch.save({"rows": rows, "numbers": numbers_of(fit, rows)}, tmp_path / "expected.pt")
    program = f"""
import sys
sys.path[:0] = [{str(ROOT / "tests")!r}, {str(ROOT / "tests/documents")!r}]
import torch, pyro_lfm as lfm
from test_saved_fits import equal, numbers_of
expected = torch.load({str(tmp_path / "expected.pt")!r})
assert equal(numbers_of(lfm.load({str(tmp_path / "run")!r}), expected["rows"]), expected["numbers"])
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("kinds", [{}, {"count": "continuous"}], ids=["recognised", "chosen"])
def test_a_table_is_saved_with_its_kinds_categories_and_scales(kinds, tmp_path):
    pd = pytest.importorskip("pandas")
    g = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "weight": g.normal(70, 12, 60),
            "count": g.integers(0, 60, 60),
            "wage": np.exp(g.normal(8, 1, 60)),
            "sex": pd.Series(g.choice(["f", "m"], 60), dtype="category"),
            "town": g.choice(["A", "B", "C"], 60),
            "grade": pd.Categorical(
                g.choice(["low", "mid", "high"], 60), ["low", "mid", "high"], ordered=True
            ),
            "visits": pd.array(g.integers(0, 5, 60), dtype="Int64"),
            "member": g.choice([True, False], 60),
        }
    )
    frame.loc[3:9, "weight"] = np.nan
    frame.loc[5:8, "town"] = None
    table = lfm.heterogeneous(frame, kinds=kinds)
    model = lfm.Model(z=lfm.StandardNormal(2), **table)
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(8)))
    fit = lfm.fit(model, table.data, lfm.SVI(guide, epochs=2, engine="eager"), seed=0, progress=False)
    fit.save(tmp_path / "run")
    again = lfm.load(tmp_path / "run")
    again.save(tmp_path / "two")
    for name in os.listdir(tmp_path / "run"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    filled = [each.table.decode(each.impute(frame, draws=5).values) for each in (fit, again)]
    pd.testing.assert_frame_equal(*filled)
    assert filled[0].notna().all().all() and str(filled[1]["grade"].dtype) == "category"
    assert torch.equal(again.posterior(frame)["z"].mean, fit.posterior(table.data)["z"].mean)


def test_names_labels_and_order_of_columns_are_kept(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=["a", "b", "c"])
    model = lfm.Model(
        z=lfm.StandardNormal(1),
        x=lfm.Gaussian(3, mean=lfm.Linear()),
        y=lfm.Categorical(2, logits=lfm.Linear()),
    )
    rows = {"x": frame, "y": ["no", "yes"] * 15}
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    fit = lfm.fit(model, rows, lfm.SVI(guide, epochs=1, engine="eager"), seed=0, progress=False)
    fit.save(tmp_path)
    again = lfm.load(tmp_path)
    shuffled = {"x": frame[["c", "a", "b"]], "y": rows["y"]}
    assert torch.equal(again.posterior(shuffled).mean, fit.posterior(rows).mean)
    assert again.schema["y"].labels == ("no", "yes")
    with pytest.raises(lfm.DataError, match="missing: 'b'"):
        again.posterior({"x": frame[["a", "c"]], "y": rows["y"]})


def test_a_loaded_fit_can_be_trained_further(tmp_path):
    fit, rows = of_guide("gaussian-full")
    fit.save(tmp_path)
    again = lfm.load(tmp_path)
    longer = [lfm.fit(f.model, rows, f.inference, seed=1, progress=False) for f in (fit, again)]
    assert torch.equal(longer[0].posterior(rows).mean, longer[1].posterior(rows).mean)
    assert longer[0].history[0]["bound"] == longer[1].history[0]["bound"]


def test_a_saved_folder_holds_no_pickle(tmp_path):
    fit, _ = of_prior("vamp")
    fit.save(tmp_path)
    for path in tmp_path.iterdir():
        with pytest.raises((ValueError, IndexError, KeyError, AttributeError, UnicodeDecodeError)):
            list(pickletools.genops(path.read_bytes()))


def saved(tmp_path):
    fit, _ = of_guide("gaussian-diagonal")
    fit.save(tmp_path / "run")
    return tmp_path / "run"


def rewritten(folder, change):
    """Changes the entries of fit.json."""
    entries = json.loads((folder / "fit.json").read_text())
    change(entries)
    (folder / "fit.json").write_text(json.dumps(entries))


def with_digests(folder):
    """Gives fit.json the digests of the files as they are."""
    import hashlib

    def change(entries):
        entries["files"] = {
            n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in entries["files"]
        }

    rewritten(folder, change)


def nan_weights(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "weights.safetensors")
    name = next(n for n in tensors if n.startswith("model."))
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, folder / "weights.safetensors")
    with_digests(folder)


def other_weights(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "weights.safetensors")
    tensors["model.strange"] = torch.zeros(3)
    save_file(tensors, folder / "weights.safetensors")
    with_digests(folder)


def longer_weight(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "weights.safetensors")
    name = next(n for n in tensors if n.startswith("guide."))
    tensors[name] = torch.zeros(17, 3)
    save_file(tensors, folder / "weights.safetensors")
    with_digests(folder)


BROKEN = {
    "no-folder": (lambda f: shutil.rmtree(f), "holds no fit"),
    "no-weights": (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors"),
    "other-bytes": (lambda f: (f / "history.csv").write_text("epoch\n1\n"), "SHA-256"),
    "nan": (nan_weights, "holds NaN"),
    "other-weights": (other_weights, "which the declaration has not"),
    "longer-weight": (longer_weight, "another guide"),
    "newer": (lambda f: rewritten(f, lambda e: e.update(format=99)), "install a newer one"),
    "no-format": (lambda f: rewritten(f, lambda e: e.pop("format")), "names no format"),
    "no-rows": (lambda f: rewritten(f, lambda e: e.pop("rows")), "no entry rows"),
    "odd-rows": (
        lambda f: rewritten(f, lambda e: e.update(rows={"names": 3})),
        "entry rows has a form that the library does not write",
    ),
    "odd-seed": (lambda f: rewritten(f, lambda e: e.update(seed="0")), "seed"),
    "no-json": (lambda f: (f / "fit.json").write_text("{" * 10_000), "cannot be read"),
    "pickle": (lambda f: (f / "weights.safetensors").write_bytes(pickle.dumps([1])), "weights.safetensors"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused_in_words(name, tmp_path):
    breaks, words = BROKEN[name]
    folder = saved(tmp_path)
    breaks(folder)
    with pytest.raises(lfm.DataError, match=words):
        lfm.load(folder)


def test_a_fit_without_numbers_is_not_saved(tmp_path):
    fit, _ = of_guide("gaussian-diagonal")
    with torch.no_grad():
        next(fit.model.parameters()).fill_(float("nan"))
    with pytest.raises(lfm.DataError, match="holds NaN"):
        fit.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_program_of_the_user_is_loaded_with_its_class(tmp_path):
    fit, rows = of_model("gamma-dirichlet")
    fit.save(tmp_path)
    with pytest.raises(lfm.DocumentError, match="GammaDirichlet is Python.*parts="):
        lfm.load(tmp_path)
    again = lfm.load(tmp_path, parts=[cases.GammaDirichlet])
    assert equal(again.sample_posterior(rows), fit.sample_posterior(rows))


def test_fits_cross_processes_by_joblib_and_multiprocessing(tmp_path):
    joblib = pytest.importorskip("joblib")
    fit, rows = of_guide("gaussian-full")
    joblib.dump(fit, tmp_path / "fit.joblib")
    means = joblib.Parallel(n_jobs=2)(joblib.delayed(mean_of)(fit, rows) for _ in range(2))
    for mean in [*means, mean_of(joblib.load(tmp_path / "fit.joblib"), rows)]:
        assert torch.equal(mean, fit.posterior(rows).mean)


def mean_of(fit, rows):
    return fit.posterior(rows).mean


def test_a_fit_that_was_pickled_can_still_be_saved(tmp_path):
    fit, _ = of_objective(lfm.ELBO(kl_weight=lfm.schedules.linear()))
    fit.save(tmp_path / "one")
    pickle.loads(pickle.dumps(fit)).save(tmp_path / "two")
    for name in os.listdir(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_records_keep_all_that_callbacks_add(tmp_path):
    added = {
        "text": 'a,"b"\n', "empty": "", "none": None, "truth": True, "large": 10**30, "negative": -7, "tiny": 5e-324,
        "table": {"value": 1, "tensors": []}, "tensor": torch.eye(2), "nested": [(1, torch.ones(1)), {2: "two"}],
        "number as text": "12", "infinite": float("-inf"),
    }  # fmt: skip
    model = cases.plain()
    svi = lfm.SVI(lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4))), epochs=2, engine="eager")
    callback = lambda record, fit: record.update(added) if record["epoch"] == 2 else None  # noqa: E731
    fit = lfm.fit(model, cases.rows_of(model), svi, callbacks=[callback], seed=0, progress=False)
    fit.save(tmp_path)
    first, second = lfm.load(tmp_path).history
    assert first.keys() == fit.history[0].keys() and second.keys() == fit.history[1].keys()
    assert torch.equal(second.pop("tensor"), torch.eye(2)) and torch.equal(
        second["nested"][0][1], torch.ones(1)
    )
    assert second["nested"][1] == {2: "two"} and type(second["nested"][0]) is tuple
    for name in added.keys() - {"tensor", "nested"}:
        assert second[name] == added[name] and type(second[name]) is type(added[name]), name
