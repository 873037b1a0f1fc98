"""Each operation that XLA does gives what torch gives."""

import pytest
import torch

jax = pytest.importorskip("jax")

from pyro_lfm.inference.engines.xla.translation import OPERATIONS  # noqa: E402

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(3, 4, 5, generator=GENERATOR, dtype=torch.float64)
Y = torch.randn(3, 4, 5, generator=GENERATOR, dtype=torch.float64)
WITH_GAPS = X.masked_fill(X > 1, torch.nan)
UNIT = X.sigmoid()
POSITIVE = X.exp()
TRUTH, OTHER = X > 0, Y > 0
SQUARE = X[..., :4] @ X[..., :4].mT + torch.eye(4, dtype=torch.float64)
LOWER = torch.linalg.cholesky(SQUARE)
INDEX = torch.tensor([2, 0, 1])
ALONG = torch.randint(0, 4, (3, 2, 5), generator=GENERATOR)

UNARY = """abs asinh atan ceil cos cosh digamma erf erfc exp exp2 expm1 floor i0 isfinite isinf isnan neg reciprocal relu
round sigmoid sign sin sinh softplus special_erfcx special_log_ndtr square tan tanh trunc gelu elu leaky_relu sgn
clone detach alias all any argmax argmin amax amin lift_fresh_copy max mean min prod sum"""
OF_POSITIVE = "lgamma log log10 log1p log2 rsqrt sqrt"
OF_UNIT = "acos asin atanh erfinv special_ndtri"
BINARY = """add sub mul div atan2 eq fmax fmin fmod ge gt hypot le logical_and logical_or logical_xor lt maximum minimum ne
remainder xlogy rsub copy logaddexp"""
OF_TRUTH = "bitwise_and bitwise_or bitwise_xor"

CASES = {
    **{name: (X,) for name in UNARY.split()},
    **{name: (POSITIVE,) for name in OF_POSITIVE.split()},
    **{name: (UNIT,) for name in OF_UNIT.split()},
    **{name: (X, Y) for name in BINARY.split()},
    **{name: (TRUTH, OTHER) for name in OF_TRUTH.split()},
    "xlogy": (X.abs() * OTHER, POSITIVE),
    "bitwise_not": (TRUTH,),
    "logical_not": (TRUTH,),
    "isnan": (WITH_GAPS,),
    "_log_softmax": (X, 1, False),
    "_softmax": (X, -1, False),
    "_cdist_forward": (X, Y, 2.0, None),
    "_unsafe_view": (X, [12, 5]),
    "addcdiv": (X, Y, POSITIVE),
    "addcmul": (X, Y, POSITIVE),
    "addmm": (X[0, 0], X[0], Y[0].mT @ Y[0]),
    "baddbmm": (torch.zeros(1, dtype=X.dtype), X, Y.mT),
    "binary_cross_entropy_with_logits": (X, UNIT, POSITIVE, POSITIVE[0], 0),
    "bmm": (X, Y.mT),
    "cat": ([X, Y], 1),
    "cholesky_solve": (X, LOWER),
    "clamp": (WITH_GAPS, -0.5, 0.5),
    "clamp_max": (X, 0.5),
    "clamp_min": (X, 0.5),
    "constant_pad_nd": (X, [1, -1, 0, 2], 3.0),
    "cumprod": (X, 1),
    "cumsum": (X, -1),
    "diagonal": (X, 1, 1, 2),
    "diagonal_scatter": (SQUARE, torch.ones(3, 3, dtype=X.dtype), 1, 1, 2),
    "embedding": (X[0], INDEX),
    "expand": (X[:, :1], [2, 3, -1, 5]),
    "flip": (X, [0, 2]),
    "gather": (X, 1, ALONG),
    "glu": (X, 1),
    "index": (X, [None, INDEX]),
    "index_add": (X, 1, INDEX, X[:, :3]),
    "index_put": (X, [INDEX[:2], INDEX[1:]], torch.ones(2, 5, dtype=X.dtype), True),
    "index_select": (X, 1, INDEX),
    "lerp": (X, Y, 0.3),
    "linalg_cholesky_ex": (SQUARE,),
    "linalg_inv_ex": (SQUARE,),
    "linalg_solve_triangular": (LOWER, X),
    "linalg_vector_norm": (X, 2, [1]),
    "logsumexp": (X, [1]),
    "masked_fill": (X, TRUTH, 2.0),
    "mm": (X[0], Y[0].mT),
    "permute": (X, [2, 0, 1]),
    "polygamma": (1, POSITIVE),
    "pow": (X, 3.0),
    "repeat": (X, [2, 1, 1, 2]),
    "scatter": (X, 1, ALONG, Y[:, :2]),
    "scatter_add": (X, 1, ALONG, Y),
    "select": (X, 1, -1),
    "select_scatter": (X, Y[:, 0], 1, 2),
    "sigmoid_backward": (Y, UNIT),
    "slice": (X, 1, 1, 9, 2),
    "slice_scatter": (X, Y[:, :2], 1, 1, 3),
    "softplus_backward": (Y, X, 2.0, 1.0),
    "sort": (X, 1, True),
    "split_with_sizes": (X, [1, 3], 1),
    "squeeze": (X[:, :1], [1, 2]),
    "stack": ([X, Y], 1),
    "t": (X[0],),
    "tanh_backward": (Y, UNIT),
    "threshold_backward": (Y, X, 0),
    "topk": (X, 2, 1),
    "transpose": (X, 0, 2),
    "triangular_solve": (X, LOWER, False),
    "tril": (SQUARE, -1),
    "triu": (SQUARE, 1),
    "unbind": (X, 1),
    "unsqueeze": (X, -2),
    "var": (X, [1]),
    "view": (X, [12, 5]),
    "where": (TRUTH, X, Y),
}
OPTIONS = {
    "linalg_solve_triangular": {"upper": False},
    "var": {"correction": 1},
    "addcmul": {"value": 2.0},
    "addcdiv": {"value": 2.0},
}
# It has no result.
WITHOUT = {"_linalg_check_errors"}


def flat(values):
    return list(values) if isinstance(values, tuple | list) else [values]


def test_every_operation_has_a_case():
    assert CASES.keys() == OPERATIONS.keys() - WITHOUT


@pytest.mark.parametrize("name", CASES)
def test_an_operation_gives_what_torch_gives(name):
    arguments, options = CASES[name], OPTIONS.get(name, {})
    expected = flat(getattr(torch.ops.aten, name)(*arguments, **options))
    with jax.enable_x64(True):
        as_array = lambda v: jax.numpy.asarray(v.numpy()) if isinstance(v, torch.Tensor) else v  # noqa: E731
        given = jax.tree.map(as_array, list(arguments), is_leaf=lambda v: v is None)
        results = [
            torch.from_numpy(jax.device_get(value).copy())
            for value in flat(OPERATIONS[name](*given, **options))
        ]
    for one, other in zip(expected, results, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one.double(), other.double(), rtol=1e-6, atol=1e-8, equal_nan=True)
