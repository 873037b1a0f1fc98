"""Nested plain values come back exactly, types included, and no other trees are read."""

import collections
import enum
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyro_lfm as lfm
from pyro_lfm.storage.texts import read_json, write_json
from pyro_lfm.storage.trees import Tree, tree_of, value_of


def through(value):
    """A value through JSON and back."""
    tree = tree_of(value, "state")
    return value_of(Tree(read_json(write_json(tree.outline, "state"), "state"), tree.tensors), "state")


def same(one, two):
    """Whether two values are the same, types, signs of zeros and NaNs included."""
    if type(one) is not type(two):
        return False
    if isinstance(one, torch.Tensor):
        if one.layout != torch.strided:
            return one.layout == two.layout and torch.equal(one.to_dense(), two.to_dense())
        return (one.dtype, one.shape, one.stride()) == (two.dtype, two.shape, two.stride()) and repr(
            one.tolist()
        ) == repr(two.tolist())
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, two)) and all(
            same(*pair) and same(*keys)
            for pair, keys in zip(
                zip(one.values(), two.values(), strict=True), zip(one, two, strict=True), strict=True
            )
        )
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, set | frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, two))
    return one == two or repr(one) == repr(two)


VALUES = {
    "none": None,
    "numbers": [True, False, 0, 1, -1, 2**63 - 1, -(2**63), 2**64, -(10**400), 0.1, -0.0, 1.0, 5e-324],
    "odd floats": [math.nan, math.inf, -math.inf, complex(-0.0, math.nan), 1j],
    "strings": ["", "a", "ä𝄞", '\0\n"\\', "\ud800", "\ud83d\ude00", "$tensor"],
    "bytes": [b"", bytes(range(256))],
    "containers": [[], (), set(), {}, frozenset(), [[], ()], ((),), {1, "a", None, (1, 2)}, frozenset({1.5})],
    "keys": {
        0: "int",
        1.5: "float",
        "1": "str",
        None: "none",
        True: "bool",
        (1, "a"): "tuple",
        b"b": "bytes",
    },
    "marks": {"$tuple": [1], "$": {"$$": 2}, "a": {"$tensor": "b"}},
    "torch": [torch.float32, torch.complex128, torch.device("cpu"), torch.device("cuda:1")],
    "tensors": {
        "a": {"b": torch.eye(2)},
        "a.b": torch.ones(3),
        "__metadata__": torch.ones(1),
        "": [torch.ones(1)],
    },
    "odd tensors": [
        torch.tensor([1 + 2j, complex(math.nan, 0)], dtype=torch.complex128),
        torch.tensor(1j, dtype=torch.complex128).conj(),
        torch.zeros(0, 3, dtype=torch.complex128),
        torch.ones(2).to(torch.float8_e8m0fnu),
        torch.eye(3).to_sparse(),
        torch.eye(3, dtype=torch.complex128).to_sparse(),
        torch.eye(3).to_sparse_csr(),
        torch.eye(4).to_sparse_bsc((2, 2)),
    ],
    "layouts": [
        torch.arange(6.0).reshape(2, 3).T,
        torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.zeros(2, 3, dtype=torch.complex128).T.contiguous(),
    ],
    "generators": [random.Random(0).getstate(), {**np.random.default_rng(0).bit_generator.state}],
    "deep": eval("[" * 55 + "]" * 55),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back_exactly(name):
    assert same(VALUES[name], through(VALUES[name]))


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
)
ANY_TEXT = st.text(st.characters())
LEAVES = SCALARS | ANY_TEXT | st.builds(torch.tensor, st.lists(st.floats(width=32), max_size=3))
KEYS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | ANY_TEXT
    | st.binary()
    | st.tuples(st.text())
)
NESTED = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(SCALARS, max_size=4)
        | st.frozensets(SCALARS, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(NESTED)
def test_any_plain_value_comes_back_exactly(value):
    assert same(value, through(value))


class Kind(enum.IntEnum):
    ONE = 1


def test_values_become_plain():
    ordered = collections.OrderedDict(
        a=np.float64(1.5), b=np.arange(2), c=Kind.ONE, d=torch.nn.Parameter(torch.ones(1))
    )
    back = through(ordered)
    assert type(back) is dict and type(back["a"]) is float and type(back["c"]) is int
    assert torch.equal(back["b"], torch.arange(2)) and type(back["d"]) is torch.Tensor


def cyclic():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "object"),
        (lambda: 0, "function"),
        (cyclic(), "nested deeper"),
        (eval("[" * 90 + "]" * 90), "nested deeper"),
        (torch.ones(1, device="meta"), "Tensor"),
        (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "make it dense"),
    ],
)
def test_other_values_are_refused(value, words):
    with pytest.raises(lfm.DeclarationError, match=words):
        tree_of({"a": value}, "state")


@pytest.mark.parametrize(
    "text",
    [
        '{"$tuple": 1}',
        '{"$tuple": [], "$list": []}',
        '{"$tuple": [], "a": 1}',
        '{"$eval": "1"}',
        '{"$": 1}',
        '{"$int": 5}',
        '{"$int": "zz"}',
        '{"$float": "1e5"}',
        '{"$str": "zz"}',
        '{"$bytes": "0"}',
        '{"$complex": [1]}',
        '{"$complex": [1, [2]]}',
        '{"$set": [[1]]}',
        '{"$dict": [[1]]}',
        '{"$dict": [[1, 2], [1, 3]]}',
        '{"$dict": [[[], 2]]}',
        '{"$dict": {"a": 1}}',
        '{"$dtype": "save"}',
        '{"$dtype": ["float32"]}',
        '{"$device": "nowhere:1"}',
        '{"$device": ""}',
        '{"$tensor": "b"}',
        '{"$tensor": {"$tensor": "a"}}',
        '{"$sparse": {"indices": {"$tensor": "a"}, "values": {"$tensor": "a"}, "shape": {"$tuple": [2, 2]}}}',
        '{"$sparse": {"indices": 1, "values": 2, "shape": 3}}',
        '{"$compressed": {"compressed": 1, "plain": 1, "values": 1, "shape": 1, "layout": "torch.strided"}}',
        '{"$raw": {"raw": {"$tensor": "a"}, "dtype": {"$dtype": "complex128"}, "shape": {"$tuple": [1]}}}',
        '{"$raw": {"raw": {"$tensor": "bytes"}, "dtype": {"$dtype": "complex128"}, "shape": {"$tuple": [7]}}}',
        '{"$raw": {"raw": {"$tensor": "bytes"}, "dtype": {"$dtype": "quint8"}, "shape": {"$tuple": [16]}}}',
        '{"$permuted": {"tensor": {"$tensor": "a"}, "order": {"$tuple": [0, 0]}}}',
        '{"$permuted": {"tensor": {"$tensor": "a"}, "order": {"$tuple": [5, 1]}}}',
        '{"$permuted": {"tensor": 1, "order": {"$tuple": [0, 1]}}}',
        '{"$raw": {"raw": {"$tensor": "bytes"}, "dtype": 5, "shape": {"$tuple": [16]}}}',
    ],
)
def test_trees_of_another_form_are_refused(text):
    tensors = {"a": torch.ones(2, 2), "bytes": torch.zeros(16, dtype=torch.uint8)}
    with pytest.raises(lfm.DataError, match="state.json cannot be read"):
        value_of(Tree(read_json(text.encode(), "state.json"), tensors), "state.json")


@pytest.mark.parametrize(
    "text", [b"", b"\xef\xbb\xbf{}", b"{} {}", b"[1,]", b"nul", b"'a'", b"{1: 2}", b'"\\ud8', b"\0"]
)
def test_texts_that_are_no_json_are_refused(text):
    with pytest.raises(lfm.DataError, match="state.json cannot be read: it is no"):
        read_json(text, "state.json")


def test_texts_that_nothing_would_read_are_not_written():
    with pytest.raises(lfm.DataError, match="too many entries"):
        write_json(list(range(600_000)), "state.json")
