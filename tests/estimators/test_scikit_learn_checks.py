"""scikit-learn's own contract of estimators, over all that ``lfm.estimators`` exports."""

import os
import subprocess
import sys
import warnings

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

import pyro_lfm as lfm

# LatentModel needs a model, FactorMixture is a part of LatentImputer's declaration.
CHECKED = [
    "FactorAnalysis",
    "DeepFactorAnalysis",
    "LatentClustering",
    "SemiSupervisedClassifier",
    "LatentImputer",
]
NOT_GENERATED = (
    "check_dataframe_column_names_consistency",
    "check_param_validation",
    "check_readonly_memmap_input",
    "check_set_output_transform",
    "check_transformer_get_feature_names_out",
)


def made(name, **arguments):
    if name == "SemiSupervisedClassifier":
        # One check trains on the labels -1 and 1.
        arguments["unlabelled"] = None
    return getattr(lfm.estimators, name)(**arguments)


def run_all(estimator):
    """Every check, without failure and without skips but those for other array libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_skip=None)
    skipped = [r["check_name"] for r in results if r["status"] != "passed"]
    assert all("array_api" in name for name in skipped), skipped


def run_not_generated(estimator):
    """The checks that ``check_estimator`` leaves out."""
    for check in dir(estimator_checks):
        transforms = check.startswith(NOT_GENERATED[3:])
        if check.startswith(NOT_GENERATED) and (hasattr(estimator, "transform") or not transforms):
            getattr(estimator_checks, check)(type(estimator).__name__, estimator)


def test_all_that_is_exported_is_checked():
    assert {*CHECKED, "LatentModel", "FactorMixture"} == set(lfm.estimators.__all__)


@pytest.mark.parametrize(
    "check",
    [
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_sample_weight_equivalence_on_dense_data",
        "check_transformer_preserve_dtypes",
        "check_dict_unchanged",
        "check_set_output_transform_pandas",
    ],
)
def test_factor_analysis_keeps_the_contract(check):
    getattr(estimator_checks, check)("FactorAnalysis", made("FactorAnalysis", n_components=1))


@pytest.mark.parametrize("name", CHECKED[1:4])
def test_rows_do_not_depend_on_each_other(name):
    estimator = made(name, max_iter=1, hidden_layer_sizes=(4,))
    estimator_checks.check_methods_sample_order_invariance(name, estimator)
    estimator_checks.check_methods_subset_invariance(name, estimator)


@pytest.mark.parametrize("name", CHECKED[:4])
def test_parameters_are_validated(name):
    estimator_checks.check_param_validation(name, made(name))
    estimator_checks.check_no_attributes_set_in_init(name, made(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_estimators_keep_the_contract_with_their_defaults(name):
    program = (
        "import test_scikit_learn_checks as checks\n"
        f"estimator = checks.made({name!r})\n"
        "checks.run_all(estimator)\nchecks.run_not_generated(estimator)\n"
    )
    environment = {
        **os.environ,
        "SCIPY_ARRAY_API": "1",
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
