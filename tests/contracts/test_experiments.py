"""Every experiment runs from a shell with --quick, and what it writes holds up."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]
GUIDES = ["mean-field", "low-rank", "full-covariance", "per-row"]


def numbers(value):
    """All the numbers in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for entry in value for number in numbers(entry)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def check_comparison(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows == ["candidate", "---", *GUIDES]
    assert table.strip() in printed and "KL z: closed form" in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert list(results["candidates"]) == GUIDES
    assert all(math.isfinite(number) for number in numbers(results))
    for guide in results["candidates"].values():
        assert [seed["seed"] for seed in guide["seeds"]] == list(range(results["settings"]["seeds"]))
        for seed in guide["seeds"]:
            assert len(seed["history"]) == results["settings"]["epochs"] and seed["failed"] is None
            assert seed["bound"] <= seed["log_likelihood"], "a bound above the tighter bound"
            assert seed["bound"] == pytest.approx(seed["reconstruction"] - seed["kl"], abs=1e-3)
    expected = {
        "bounds",
        "bounds_by_time",
        "differences",
        "reconstructions",
        "prior_draws",
        "latent_map",
        *(f"walk_{name}" for name in GUIDES),
    }
    assert {path.stem for path in out.glob("*.png")} == expected


def check_gaps(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed and "recalled, not verified" in table
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results))
    found = results["guides"]["mean-field"]
    total = found["log p(x)"][0] - found["L[q]"][0]
    assert total == pytest.approx(found["approximation"][0] + found["amortization"][0], abs=1e-3)
    assert found["log p(x)"][0] == max(found["importance"][0], found["annealed"][0])
    assert found["L[q]"][0] < found["L[q*]"][0]
    # A few draws say what log p(x) is, and the family may hold the posterior.
    assert found["L[q*]"][0] < found["log p(x)"][0] + 3 * found["approximation"][1]
    between = found["simulated rows"]
    assert between["width"] > between["upper"][0] - between["lower"][0]


METHODS = ["closed form", "EM", "variational EM", "SVI, full covariance", "SVI, mean field"]


def check_inferences(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows == ["method", "---", *METHODS]
    assert table.strip() in printed and "exact posterior p(z | x)" in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results))
    methods = results["factors"]["2"]
    best = methods["closed form"]["log_likelihood"]
    for name, method in methods.items():
        assert method["log_likelihood"] <= best + 1e-9, "above the maximum"
        for record in (method, *method["history"]):
            assert record["log_likelihood"] == pytest.approx(record["bound"] + record["kl"], abs=1e-9)
        if name in METHODS[1:3]:
            bounds = [record["bound"] for record in method["history"] if record["step"] == "E"]
            assert min(np.diff(bounds)) > -1e-9 and bounds[-1] == pytest.approx(best, abs=1e-4)
    assert {path.stem for path in out.glob("*.png")} == {"bound_and_gap_2", "loadings_2", "posteriors"}


def check_benchmark(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results))
    likelihoods = [way["log_likelihood"] for way in results["factor_analysis"].values()]
    assert len(likelihoods) == 3 and max(likelihoods) - min(likelihoods) < 1e-4
    for mixture in results["mixtures"].values():
        assert list(mixture) == ["full", "diagonal", "isotropic"]
        for distribution in mixture.values():
            assert distribution["our_log_likelihood"] == pytest.approx(
                distribution["their_log_likelihood"], abs=1e-4
            )
    for mixture in results["bayesian"].values():
        for distribution in mixture.values():
            assert distribution["ours"]["log_p"] > distribution["theirs"]["log_p"] - 0.5
    gaussian, mixed = results["hidden"]["contests"].values()
    assert {"lfm.VariationalBayes", "scikit-learn, IterativeImputer"} <= gaussian.keys() and len(mixed) > 0
    # The truth has 8 factors, so that a ridge regression of each column on all others predicts worse.
    best = {name: min(record["nats"] for record in records) for name, records in gaussian.items()}
    assert best["lfm.VariationalBayes"] == min(best.values())
    assert {path.stem for path in out.glob("*.png")} == {"ratios"}


def check_queries(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results)) and len(results["queries"]) == 5
    for query in results["queries"].values():
        answers = query["contestants"]
        ours, by_hand = answers["lfm"]["answer"], answers["by hand, PyTorch"]["answer"]
        # The random numbers of annealing differ, and those of importance sampling; the others have the same.
        assert ours == pytest.approx(by_hand, rel=0.1, abs=0.1)


def check_training(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results))
    first, many = results["parameters"]
    steps = results["steps"]["1"][first]
    assert steps["by hand, Adam"]["speed_seconds"] == steps["by hand, Adam"]["speed_processor"] == 1
    ours = "lfm, default engine (auto)"
    assert set(steps) == {
        "by hand, Adam",
        "pyro.infer.SVI, as in the tutorial",
        ours,
        "matrix products alone",
    }
    assert all(figures["seconds"] > 0 and figures["memory"] > 1e7 for figures in steps.values())
    for kind, fits in (("fits", 1), ("starts", 2)):
        whole = results[kind]["1"][many]
        assert set(whole) == {"by hand, Adam", ours}
        for figures in whole.values():
            assert len(figures["seconds"]) == 1 and len(figures["seconds"][0]) == fits
            assert min(figures["seconds"][0]) > 0 and figures["processor"][0][0] > 0
    # Equal models, so about equal bounds even after twenty steps.
    bounds = [figures["bound"][0][0] for figures in results["fits"]["1"][many].values()]
    assert -46 < min(bounds) <= max(bounds) < -36, "a bound far from that of a model that has hardly trained"
    (loop,) = results["loop"].values()
    assert len(loop) == 3
    assert "pythae's trainer: left out" in table and "NumPyro, an epoch in lax.fori_loop: left out" in table
    assert {path.stem for path in out.glob("*.png")} == {"training"}


def check_gpu(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed and "Left out" not in table
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert not results["failed"] and results["device"] == "CPU"
    assert [title.split(", ", 2)[2] for title in results["rows"]] == [
        "fp32",
        "tf32",
        "bf16",
        "fp32, whole fit",
    ]
    for contestants in results["rows"].values():
        assert len(contestants) == 4
        assert all(figures["step"] > 0 and -48 < figures["bound"] < -36 for figures in contestants.values())
    single, half = (results["rows"][f"64-16-4, B=32, {kind}"] for kind in ("fp32", "bf16"))
    for name, figures in single.items():
        assert figures["bound"] == pytest.approx(half[name]["bound"], abs=0.1)
        assert figures["bound"] != half[name]["bound"], f"{name} does not heed autocast"


def check_scaling(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) and number > 0 for number in numbers(results["seconds_per_row"]))
    sweeps = results["seconds_per_row"].values()
    assert len(sweeps) == 5 and all(len(values) == 2 for sweep in sweeps for values in sweep.values())
    assert all("eager" in sweep for sweep in sweeps)
    assert not list(out.parent.rglob("*.npy")), "a file of rows is left behind"
    files = results["files"]
    assert list(files["against memory"]) == ["in memory", ".npy", ".parquet"] and len(files["sorted"]) == 4
    assert all(math.isfinite(fit["anonymous"]) and fit["bound"] < 0 for fit in files["growing"].values())
    assert files["large"]["rows"] * 256 == pytest.approx(2e6, rel=0.01)
    assert {path.stem for path in out.glob("*.png")} == {"scaling"}


def check_priors(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed
    priors = json.loads((out / "results.json").read_text(encoding="utf-8"))["priors"]
    assert list(priors) == ["StandardNormal", "MixtureOfGaussians", "VampPrior", "FlowPrior"]
    assert all(math.isfinite(number) for number in numbers(priors))
    for (found,) in priors.values():
        assert found["bound"] <= found["log_likelihood"] + 0.1, "a bound above the tighter bound"
    assert priors["StandardNormal"][0]["gain"] == 0
    assert {path.stem for path in out.glob("*.png")} == {"draws"}


def check_few_labels(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    accuracy = json.loads((out / "results.json").read_text(encoding="utf-8"))["accuracy"]
    assert list(accuracy) == ["100"]
    assert list(accuracy["100"]) == ["pixels", "PCA", "FA", "deep factors", "semi-supervised"]
    assert all(0.3 < number <= 1 for number in numbers(accuracy)), "no better than guessing"
    assert {path.stem for path in out.glob("*.png")} == {"styles", "accuracy"}


def written(out):
    (path,) = out.glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(record))
    assert record["command"].startswith("python experiments/published/") and "--out" not in record["command"]
    return record


def check_exemplar(out, printed):
    record = written(out)
    assert record["form"] == "quick" and record["published"] is None
    assert record["epochs"] == record["settings"]["epochs"] == 4 and record["most_epochs_reached"]
    assert record["rows_estimated"] == record["test_rows"] == 60
    assert record["bound"] <= record["log_likelihood"] + 0.1, "a bound above the tighter bound"
    # Pixels of 0 and 1: uniform ones would have 64 ln 2 nats.
    assert -64 * math.log(2) < record["log_likelihood"] < 0


def check_m2(out, printed):
    error = written(out)["error"]
    assert list(error) == ["M2", "logistic regression of the pixels"]
    assert all(0 < number < 0.6 for number in numbers(error)), "no better than guessing"


def check_miwae(out, printed):
    record = written(out)
    errors = record["mean squared error"]["1234"]
    # These are the gaps of the authors' notebook, for which it shows the error of the mean in a picture: about 1.
    assert errors["mean"] == pytest.approx(1.03, abs=0.05)
    assert all(errors[name] < 0.8 for name in ("MIWAE", "LatentImputer", "IterativeImputer, trees"))
    assert record["published"] == {"MIWAE": 0.286728, "gaps of seed": 1234}


def check_notmiwae(out, printed):
    errors = written(out)["root mean squared error"]
    assert list(errors) == ["not-MIWAE", "MIWAE", "mean"]
    # All hidden entries are above their column's mean, so that the mean of the others is a bad guess.
    assert errors["mean"][0] > 1.2 and all(
        0 < errors[name][0] < errors["mean"][0] for name in errors if name != "mean"
    )


def check_theory(out, printed):
    record = json.loads((out / "linear_theory.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(record))
    assert record["differences"]["ppca"] < 1e-12 and record["differences"]["mean-field gap"] < 1e-12
    assert record["differences"]["beta-VAE"] < 1e-6
    assert record["importance weights"]["slope"] == pytest.approx(-1, abs=0.05)
    assert {path.stem for path in out.glob("*.png")} == {"theory_gap", "theory_rates", "theory_bias"}


def check_peers(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    record = json.loads((out / "against_peers.json").read_text(encoding="utf-8"))
    assert not record["left out"] and len(record["programs"]) == 3
    bounds = [own["bounds"]["60"] for own in record["programs"].values()]
    # They train the same model: after three epochs of five steps their bounds are alike.
    assert max(bounds) - min(bounds) < 5 and all(-50 < bound < 0 for bound in bounds)
    assert all(own["lines"] > 4 and own["rows per second"] > 0 for own in record["programs"].values())


def check_flexible(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results))
    correlated = results["correlated"]["guides"]
    assert list(correlated)[:4] == [
        "mean field",
        "full covariance",
        "inverse autoregressive flow",
        "neural spline flow",
    ]
    least = results["correlated"]["least_of_mean_field"]
    assert correlated["mean field"]["gap"] > least - 4 * correlated["mean field"]["error"]
    guides = results["two_modes"]["guides"]
    assert list(guides)[:3] == ["Gaussian", "mixture of two Gaussians", "neural spline flow"]
    assert all(guide["gap"] > 0 for guide in guides.values()), "a bound above log p(x)"
    assert {path.stem for path in out.glob("*.png")} == {"two-modes"}


def check_clusters(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    assert "c: summed out exactly, 10 values" in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results))
    assert [seed["seed"] for seed in results["seeds"]] == [0]
    for seed in results["seeds"]:
        assert len(seed["scores"]) == 6
        for score in seed["scores"].values():
            assert 0 <= score["nmi"] <= 1 and 0.1 <= score["accuracy"] <= 1
        # Clusters of chance have (10 − 1)² / (2 · 500 · ln 10) = 0.035 in expectation.
        assert seed["scores"]["deep mixture"]["nmi"] > 0.3
    assert {path.stem for path in out.glob("*.png")} == {"clusters", "clusters_map"}


def check_refinement(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert list(results) == ["mean-field", "full covariance"]
    assert all(math.isfinite(number) for number in numbers(results))
    for guide in results.values():
        proposed, refined = guide["bounds"].values()
        assert refined["mean"] > proposed["mean"], "steps on the bound lowered it"
        assert refined["mean"] < guide["log_p"], "a bound above what it bounds"


def check_imputation(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    assert "proline" in printed and "count (integers" in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    (kinds,) = results["tables"]["wine"]["kinds"]
    assert kinds.keys() == {
        "binary",
        "categorical",
        "continuous",
        "count",
        "ordinal",
        "positive",
        "all numbers",
    }
    for name, found in kinds.items():
        assert found["error"] < found["baseline"], f"{name}: worse than the mean or the commonest value"
    assert 0.8 < kinds["all numbers"]["covered"] < 0.99


def check_calibration(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results))
    found = results["cases"]
    assert list(found)[:4] == ["exact", "shrunk by 20%", "shifted by 0.3", "mean-field"] and len(found) == 7
    assert found["mean-field"]["rejected"]["sbc"] == found["mean-field"]["repeats"] == 1
    assert found["exact"]["all together"] == 0 and found["a factor more"]["all together"] == 1
    assert "Diagnosis: 400 simulated rows" in results["digits"]["report"]
    names = {"exact", "shrunk_by_20_", "shifted_by_0_3", "mean_field", "heavy_tails", "variance___1_3"}
    assert {path.stem for path in out.glob("*.png")} == {*names, "a_factor_more", "digits"}


# Experiment -> the ways to run it, each with what its results must hold. A new experiment needs an entry.
def check_series(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed and "KL z: closed form" in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert list(results["methods"]) == ["straight line", "independent rows", "Gaussian process"]
    assert all(math.isfinite(number) for number in numbers(results))
    for seeds in results["methods"].values():
        assert [seed["seed"] for seed in seeds] == list(range(results["settings"]["seeds"]))
        assert all(seed["error"] > 0 and 0 <= seed.get("covered", 0) <= 1 for seed in seeds)
    assert {path.stem for path in out.glob("*.png")} == {"time-series"}


def check_imputers(out, printed):
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in (out / "cells").glob("*.json")]
    assert len(cells) == 8 and {cell["table"] for cell in cells} == {"wine", "penguins"}
    best = {(cell["table"], cell["method"]): cell["error"] for cell in cells}
    assert all(math.isfinite(error) for error in best.values())
    for table in ("wine", "penguins"):
        assert best[table, "LatentImputer"] < 0.9 * best[table, "mean"]
    covered = [cell["covered"] for cell in cells if "covered" in cell]
    assert len(covered) == 2 and all(0.8 < share < 1 for share in covered)


def check_questionnaire(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed and "Number of factors" in printed and "Factor correlations" in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results))
    found = results["analyses"]
    assert found["varimax"]["chi_squared"] == pytest.approx(found["oblimin"]["chi_squared"])
    assert found["pattern"]["congruence"] > 0.9 > found["pattern, two items swapped"]["congruence"]
    assert found["pattern, two items swapped"]["rmsea"] > found["pattern"]["rmsea"]
    assert {path.stem for path in out.glob("*.png")} == {"number_of_factors", "loadings"}


def check_estimators(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    (seed,) = json.loads((out / "results.json").read_text(encoding="utf-8"))["iris"]
    assert all(math.isfinite(number) for number in numbers(seed))
    found = seed["held-out log p(x)"]
    assert found["FactorAnalysis"] > found["FactorAnalysis of scikit-learn"] - 0.1


def check_cells(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed
    (seed,) = json.loads((out / "results.json").read_text(encoding="utf-8")).values()
    assert len(seed["scores"]) == 4 and all(math.isfinite(number) for number in numbers(seed))
    assert all(row["false"] <= row["called"] for row in seed["differential"])
    assert {path.stem for path in out.glob("*.png")} == {"map_1"}


def check_explorer(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed and "answer over HTTP: median, ms" in table
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert all(math.isfinite(number) for number in numbers(results))
    assert list(results["cases"]) == ["digits, 8x8", "penguins, mixed table"]
    assert all(0 < case["http"]["median"] <= case["http"]["p95"] for case in results["cases"].values())


def check_faces(out, printed):
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table.strip() in printed and "DCI completeness" in table
    (seed,) = json.loads((out / "results.json").read_text(encoding="utf-8"))["seeds"]
    assert (
        len(seed["by_labels"]["300"]["alone"]) == 20 and len(seed["pairs"]) == 3 and len(seed["edits"]) == 2
    )
    assert all(math.isfinite(number) for number in numbers(seed))
    assert all(0 <= hit <= 1 for judged in seed["pairs"] for hit in judged["hits"].values())
    assert {path.stem for path in out.glob("*.png")} == {"chosen_0", "edited_0"}


def check_processes(out, printed):
    assert (out / "table.md").read_text(encoding="utf-8").strip() in printed
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert set(results) == {"steps", "sums", "checkpoints", "fits"}
    assert all(math.isfinite(number) for number in numbers(results))
    # In double precision two processes end where one does.
    assert all(record["difference"] < 1e-8 and record["two"] > 0 for record in results["fits"])
    assert all(record["bytes"] > 4 * record["parameters"] for record in results["checkpoints"])


RUNS = {
    "benchmark_evaluation": [([], check_queries)],
    "benchmark_exact": [([], check_benchmark)],
    "benchmark_explorer": [([], check_explorer)],
    "benchmark_gpu": [(["--device", "cpu"], check_gpu)],
    "benchmark_imputation": [([], check_imputers)],
    "benchmark_processes": [([], check_processes)],
    "benchmark_scaling": [(["--folder", "."], check_scaling)],
    "benchmark_training": [([], check_training)],
    "calibration": [([], check_calibration)],
    "clustering": [([], check_clusters)],
    "compare_guides": [
        ([], check_comparison),
        (["--seeds", "2", "--latent", "3", "--resume"], check_comparison),
        (["--data", "fashion-mnist"], check_comparison),
    ],
    "compare_priors": [([], check_priors)],
    "faces": [([], check_faces)],
    "few_labels": [([], check_few_labels)],
    "flexible_guides": [([], check_flexible)],
    "em_to_backprop": [([], check_inferences), (["--data", "wine"], check_inferences)],
    "questionnaire": [([], check_questionnaire)],
    "published/inference_gaps": [([], check_gaps)],
    "published/exemplar_fashion": [
        (["--model", "vae"], check_exemplar),
        (["--model", "exemplar2"], check_exemplar),
    ],
    "published/m2_100_labels": [([], check_m2)],
    "published/miwae_breast_cancer": [([], check_miwae)],
    "published/notmiwae": [([], check_notmiwae)],
    "linear_theory": [([], check_theory)],
    "against_peers": [([], check_peers)],
    "time_series": [([], check_series)],
    "sklearn_estimators": [([], check_estimators)],
    "refine_posteriors": [([], check_refinement)],
    "impute_tables": [([], check_imputation)],
    "single_cell": [([], check_cells)],
}


# Their quick runs take longer than those of others, and repeat what tests of the library show.
SLOW = {
    "against_peers",
    "published/m2_100_labels",
    "published/miwae_breast_cancer",
    "published/notmiwae",
}


def experiments():
    folder = ROOT / "experiments"
    scripts = [*folder.glob("*.py"), *(folder / "published").glob("*.py")]
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in scripts)


def test_every_experiment_has_a_run():
    assert sorted(RUNS) == experiments()


@pytest.mark.parametrize(
    ("name", "options", "check"),
    [
        pytest.param(
            name,
            *run,
            id=" ".join([name, *run[0]]),
            marks=[pytest.mark.slow] * (name in SLOW or "exemplar2" in run[0]),
        )
        for name, runs in RUNS.items()
        for run in runs
    ],
)
def test_quick_run(name, options, check, tmp_path):
    out = tmp_path / "results"
    command = [sys.executable, ROOT / "experiments" / f"{name}.py", "--quick", "--out", out, *options]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check(out, done.stdout)
    for path in out.glob("*.png"):
        image = np.asarray(Image.open(path).convert("L")).astype(float)
        assert image.std() > 5, f"{path.name} is blank"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which the benchmark would use")
def test_without_a_gpu_its_benchmark_says_so_in_a_sentence(tmp_path):
    command = [sys.executable, ROOT / "experiments" / "benchmark_gpu.py"]
    paths = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.startswith("There is no GPU") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_experiments_use_public_names_only():
    for name in experiments():
        source = (ROOT / "experiments" / f"{name}.py").read_text(encoding="utf-8")
        imports = [line for line in source.splitlines() if "import" in line and "pyro_lfm" in line]
        assert set(imports) <= {
            "import pyro_lfm as lfm",
            "from pyro_lfm import plots",
        }, name
        assert not re.search(r"\._(?!_)", source), f"{name} reaches for a private name"
