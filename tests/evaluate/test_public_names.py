"""Where a name stands says which kind of thing it is, and no module hides a public name."""

import inspect
import pkgutil

import pytest

from pyro_lfm import comparison, evaluate, plots

MODULES = [evaluate, evaluate.calibration, evaluate.representation, comparison, plots]
NAMESPACES = {"calibration", "representation"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_no_module_has_the_name_of_a_public_name(module):
    modules = {each.name for each in pkgutil.iter_modules(module.__path__)}
    assert modules & set(module.__all__) == (NAMESPACES if module is evaluate else set())


def test_functions_of_a_fit_stand_in_evaluate_and_functions_of_arrays_below_it():
    for module in (evaluate, evaluate.calibration, evaluate.representation):
        public = [getattr(module, name) for name in module.__all__]
        for function in filter(inspect.isfunction, public):
            first, parameter = next(iter(inspect.signature(function).parameters.items()))
            of_fit = parameter.annotation in ("Fit", "Evaluated")
            assert of_fit == (module is evaluate) and first.startswith("fit") == of_fit, function


def test_a_function_is_exported_once():
    names = [
        name
        for module in (evaluate, evaluate.calibration, evaluate.representation)
        for name in module.__all__
    ]
    assert len(names) == len(set(names))
