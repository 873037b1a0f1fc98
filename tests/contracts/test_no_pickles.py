"""Nothing that the library writes to a disk or reads from one is a pickle, which can run code."""

import ast
from pathlib import Path

import pyro_lfm as lfm

PACKAGE = Path(lfm.__file__).parent
# A pickle of a Fit is the user's. These look for what cannot be pickled, and compare and copy values in memory.
ALLOWED = {"inference/pickle_check.py", "declarations/pickling.py", "inference/engines/places.py"}
# One call writes and reads these, in a folder that it makes and that only its user can open.
ALLOWED |= {"data/shuffled_files/shuffling.py"}
LOADERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def calls(tree):
    """The dotted names that a file calls or imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def saves(tree):
    """The calls of np.save, which pickles arrays of objects unless it is told not to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.save":
            yield node


def refuses_pickles(call):
    return any(key.arg == "allow_pickle" and ast.unparse(key.value) == "False" for key in call.keywords)


def test_the_package_saves_and_loads_by_torch_nowhere():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        names = set(calls(tree))
        assert not names & {"torch.save", "torch.load", "np.load", "numpy.load", "numpy.save"}, path
        assert all(refuses_pickles(call) for call in saves(tree)), path
        if str(path.relative_to(PACKAGE)) not in ALLOWED:
            assert not {name.partition(".")[0] for name in names} & LOADERS, path
