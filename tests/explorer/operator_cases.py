"""Small graphs of one ONNX operator each, for the interpreter of exported pages: {name: (operator, inputs, attributes)}.

Inputs are arrays; None leaves one out. Every operator that the interpreter names has at least one graph here.
"""

import numpy as np

_random = np.random.default_rng(0)


def real(*shape):
    return _random.normal(size=shape).astype(np.float32)


def positive(*shape):
    return _random.uniform(0.1, 2.0, size=shape).astype(np.float32)


def whole(*values):
    return np.array(values, np.int64)


def truth(*shape):
    return _random.random(shape) < 0.5


X = real(2, 3, 4)
PICTURE = real(2, 4, 7, 6)
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -1.5, 2.5, 0.5, 1.5], np.float32)

ENTRYWISE = {
    name: (name, [X], {})
    for name in (
        "Abs Neg Exp Sin Cos Tan Asinh Atan Sinh Cosh Tanh Ceil Floor Sign Relu Sigmoid Softplus Softsign Gelu Mish Elu "
        "Celu Selu LeakyRelu HardSigmoid HardSwish ThresholdedRelu Shrink Erf Round Identity Dropout"
    ).split()
}
OF_INTERVALS = {
    **{name: (name, [positive(5)], {}) for name in ("Log", "Sqrt", "Reciprocal")},
    **{name: (name, [np.linspace(-0.9, 0.9, 7, dtype=np.float32)], {}) for name in ("Asin", "Acos", "Atanh")},
    "Acosh": ("Acosh", [1 + positive(4)], {}),
    "Erf far": ("Erf", [np.linspace(-8, 8, 41, dtype=np.float32)], {}),
    "Sigmoid far": ("Sigmoid", [np.array([-90, -30, 30, 90], np.float32)], {}),
    "Gelu tanh": ("Gelu", [X], {"approximate": "tanh"}),
    "Elu alpha": ("Elu", [X], {"alpha": 0.4}),
    "Celu alpha": ("Celu", [X], {"alpha": 0.4}),
    "Selu both": ("Selu", [X], {"alpha": 0.4, "gamma": 2.0}),
    "LeakyRelu alpha": ("LeakyRelu", [X], {"alpha": 0.4}),
    "HardSigmoid both": ("HardSigmoid", [X], {"alpha": 0.4, "beta": 0.1}),
    "Shrink both": ("Shrink", [X], {"lambd": 0.2, "bias": 0.1}),
    "Round halves": ("Round", [np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)], {}),
}
PAIRS = {
    **{name: (name, [X, real(3, 1)], {}) for name in ("Add", "Sub", "Mul", "Div", "PRelu")},
    **{name: (name, [X, real(3, 1), real(4)], {}) for name in ("Max", "Min", "Sum", "Mean")},
    "Add other side": ("Add", [real(4), X], {}),
    "Add a number": ("Add", [X, np.float32(2.0)], {}),
    "Div whole": ("Div", [whole(7, -7, 6), whole(2, 2, -4)], {}),
    "Mod": ("Mod", [whole(7, -7, 6, -6), whole(3, 3, -4, 3)], {}),
    "Mod of reals": ("Mod", [real(5), positive(5)], {"fmod": 1}),
    "Pow": ("Pow", [positive(2, 3), real(3)], {}),
    "Max of no number": ("Max", [SPECIAL, np.zeros(8, np.float32)], {}),
    **{name: (name, [truth(3, 1), truth(4)], {}) for name in ("And", "Or", "Xor")},
    "Not": ("Not", [truth(5)], {}),
    **{
        name: (name, [whole(1, 2, 3), whole(2, 2, 2)], {})
        for name in "Equal Less LessOrEqual Greater GreaterOrEqual".split()
    },
    "Less of no number": ("Less", [SPECIAL, np.zeros(8, np.float32)], {}),
    "IsNaN": ("IsNaN", [SPECIAL], {}),
    "IsInf": ("IsInf", [SPECIAL], {}),
    "IsInf above": ("IsInf", [SPECIAL], {"detect_negative": 0}),
    "Where": ("Where", [truth(3, 1), X, np.float32(7.0)], {}),
    "Clip": ("Clip", [X, np.float32(-0.3), np.float32(0.5)], {}),
    "Clip below": ("Clip", [SPECIAL[[0, 2, 3, 4, 5]], np.float32(-0.3)], {}),
    "Clip above": ("Clip", [X, None, np.float32(0.2)], {}),
    "Cast to whole": ("Cast", [np.array([-1.7, 1.7, 0.2], np.float32)], {"to": 7}),
    "Cast to double": ("Cast", [X], {"to": 11}),
    "Cast to truth": ("Cast", [np.array([0.0, 0.2, -1.0], np.float32)], {"to": 9}),
    "CastLike": ("CastLike", [truth(4), X], {}),
}
SHAPES = {
    "Shape": ("Shape", [X], {}),
    "Shape of some": ("Shape", [X], {"start": -2, "end": 3}),
    "Size": ("Size", [X], {}),
    "Reshape": ("Reshape", [X, whole(0, -1)], {}),
    "Squeeze": ("Squeeze", [real(1, 3, 1), whole(-1)], {}),
    "Squeeze all": ("Squeeze", [real(1, 3, 1)], {}),
    "Unsqueeze": ("Unsqueeze", [X, whole(0, -1)], {}),
    "Flatten": ("Flatten", [X], {"axis": 2}),
    "Transpose": ("Transpose", [X], {"perm": [2, 0, 1]}),
    "Transpose all": ("Transpose", [X], {}),
    "Expand": ("Expand", [real(3, 1), whole(2, 1, 4)], {}),
    "Concat": ("Concat", [X, real(2, 5, 4)], {"axis": -2}),
    "Split": ("Split", [real(2, 7), whole(3, 4)], {"axis": 1}),
    "Split evenly": ("Split", [real(7, 2)], {"num_outputs": 3}),
    "Slice": ("Slice", [real(5, 6), whole(1, -1), whole(2**62, -6), whole(0, 1), whole(2, -2)], {}),
    "Slice all": ("Slice", [real(5, 6), whole(-4), whole(-1)], {}),
    "Slice of nothing": ("Slice", [real(5, 6), whole(4), whole(2)], {}),
    "Slice reversed": ("Slice", [real(5), whole(-1), whole(-(2**62)), whole(0), whole(-1)], {}),
    "Tile": ("Tile", [real(2, 3), whole(2, 1)], {}),
    "Pad": ("Pad", [real(2, 3), whole(1, 0, 0, 2), np.float32(4.0)], {}),
    "Pad away": ("Pad", [real(4, 5), whole(0, -1, 0, -2)], {}),
    "Pad reflected": ("Pad", [real(4, 5), whole(2, 3, 1, 2)], {"mode": "reflect"}),
    "Pad edge": ("Pad", [real(4, 5), whole(2, 1), None, whole(1)], {"mode": "edge"}),
    "Pad wrapped": ("Pad", [real(4, 5), whole(1, 2, 1, 2)], {"mode": "wrap"}),
    "ConstantOfShape": ("ConstantOfShape", [whole(2, 3)], {}),
    "ConstantOfShape of ones": ("ConstantOfShape", [whole(2, 3)], {"value": np.array([1], np.int64)}),
    "Range": ("Range", [np.int64(2), np.int64(9), np.int64(3)], {}),
    "Trilu": ("Trilu", [real(2, 4, 3), np.int64(1)], {}),
    "Trilu lower": ("Trilu", [real(3, 4)], {"upper": 0}),
    "EyeLike": ("EyeLike", [real(3, 4)], {"k": 1, "dtype": 11}),
    "DepthToSpace": ("DepthToSpace", [real(1, 8, 2, 3)], {"blocksize": 2}),
    "DepthToSpace CRD": ("DepthToSpace", [real(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    "SpaceToDepth": ("SpaceToDepth", [real(1, 2, 4, 6)], {"blocksize": 2}),
}
INDICES = {
    "Gather": ("Gather", [X, np.array([[0, -1], [1, 1]])], {"axis": 1}),
    "Gather one": ("Gather", [X, np.array(1)], {}),
    "GatherElements": ("GatherElements", [real(3, 4), np.array([[0, 2, -1, 1], [2, 0, 0, 0]])], {}),
    "GatherND": ("GatherND", [X, np.array([[0, 1], [1, -1]])], {}),
    "GatherND batch": ("GatherND", [X, np.array([[[0], [2]], [[1], [1]]])], {"batch_dims": 1}),
    "ScatterElements": ("ScatterElements", [real(3, 4), np.array([[0, 2], [1, 1]]), real(2, 2)], {"axis": 1}),
    "ScatterElements sum": (
        "ScatterElements",
        [real(3, 4), np.array([[0, 2], [1, 1]]), real(2, 2)],
        {"axis": 1, "reduction": "add"},
    ),
    "ScatterND": ("ScatterND", [X, np.array([[0, 1], [1, -1]]), real(2, 4)], {}),
    "ScatterND max": ("ScatterND", [X, np.array([[0], [0]]), real(2, 3, 4)], {"reduction": "max"}),
    "NonZero": ("NonZero", [truth(3, 4)], {}),
    "OneHot": ("OneHot", [whole(0, -1, 2), np.int64(4), np.array([0.0, 1.0], np.float32)], {}),
    "OneHot first": (
        "OneHot",
        [whole(0, 1, 2), np.int64(4), np.array([0.0, 1.0], np.float32)],
        {"axis": 0},
    ),
    "Compress": ("Compress", [real(3, 4), np.array([True, False, True])], {"axis": 0}),
    "Compress flat": ("Compress", [real(2, 2), np.array([True, False, True])], {}),
}
_sums = "Sum Mean Max Min Prod L1 L2 SumSquare LogSumExp".split()
REDUCTIONS = {
    **{f"Reduce{name}": (f"Reduce{name}", [X, whole(1)], {"keepdims": 0}) for name in _sums},
    **{f"Reduce{name} all": (f"Reduce{name}", [X], {}) for name in _sums},
    "ReduceLogSum": ("ReduceLogSum", [positive(2, 3), whole(-1)], {}),
    "ReduceSum of two": ("ReduceSum", [real(2, 3, 4, 2), whole(0, 2)], {}),
    "ReduceSum of none": ("ReduceSum", [X], {"noop_with_empty_axes": 1}),
    "Softmax": ("Softmax", [10 * X], {"axis": 1}),
    "LogSoftmax": ("LogSoftmax", [10 * X], {}),
    "CumSum": ("CumSum", [X, np.int64(1)], {}),
    "CumSum reversed": ("CumSum", [X, np.int64(-1)], {"exclusive": 1, "reverse": 1}),
    "TopK": ("TopK", [X, whole(2)], {"axis": 1}),
    "TopK smallest": ("TopK", [X, whole(2)], {"largest": 0}),
    "ArgMax": ("ArgMax", [X], {"axis": 1, "keepdims": 0}),
    "ArgMin": ("ArgMin", [X], {"axis": -1}),
    "LayerNormalization": ("LayerNormalization", [X, real(4), real(4)], {}),
    "LayerNormalization two": ("LayerNormalization", [X, real(3, 4)], {"axis": 1, "epsilon": 0.1}),
    "GroupNormalization": ("GroupNormalization", [PICTURE, real(4), real(4)], {"num_groups": 2}),
    "InstanceNormalization": ("InstanceNormalization", [PICTURE, real(4), real(4)], {"epsilon": 0.01}),
    "BatchNormalization": ("BatchNormalization", [PICTURE, real(4), real(4), real(4), positive(4)], {}),
}
MATRICES = {
    "MatMul": ("MatMul", [real(3, 5), real(5, 4)], {}),
    "MatMul of batches": ("MatMul", [real(2, 1, 3, 5), real(4, 5, 2)], {}),
    "MatMul of vectors": ("MatMul", [real(5), real(2, 5, 3)], {}),
    "MatMul by a vector": ("MatMul", [real(2, 3, 5), real(5)], {}),
    "Gemm": ("Gemm", [real(3, 6), real(6, 4), real(4)], {"alpha": 0.5, "beta": 2.0}),
    "Gemm transposed": ("Gemm", [real(6, 3), real(4, 6), real(3, 1)], {"transA": 1, "transB": 1}),
    "Gemm alone": ("Gemm", [real(3, 7), real(5, 7)], {"transB": 1}),
    "Einsum": ("Einsum", [real(2, 3, 4), real(4, 5)], {"equation": "bij,jk->bik"}),
    "Einsum diagonal": ("Einsum", [real(3, 3)], {"equation": "ii->i"}),
    "Einsum implicit": ("Einsum", [real(2, 3), real(3, 4)], {"equation": "ij,jk"}),
}
_resize = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
PICTURES = {
    "Conv": ("Conv", [PICTURE, real(3, 4, 3, 3), real(3)], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "Conv dilated": ("Conv", [PICTURE, real(3, 4, 2, 3)], {"dilations": [2, 1], "pads": [0, 1, 2, 0]}),
    "Conv in groups": ("Conv", [PICTURE, real(6, 2, 3, 3)], {"group": 2}),
    "Conv same": ("Conv", [PICTURE, real(2, 4, 3, 2)], {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    "Conv of lines": ("Conv", [real(2, 3, 9), real(4, 3, 3), real(4)], {"strides": [2], "pads": [1, 0]}),
    "ConvTranspose": (
        "ConvTranspose",
        [PICTURE, real(4, 3, 3, 3), real(3)],
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]},
    ),
    "ConvTranspose in groups": (
        "ConvTranspose",
        [PICTURE, real(4, 3, 4, 3)],
        {"group": 2, "strides": [3, 2]},
    ),
    "ConvTranspose dilated": ("ConvTranspose", [PICTURE, real(4, 2, 2, 3)], {"dilations": [2, 2]}),
    "ConvTranspose of lines": (
        "ConvTranspose",
        [real(2, 3, 5), real(3, 2, 4)],
        {"strides": [2], "pads": [1, 1]},
    ),
    "MaxPool": ("MaxPool", [PICTURE], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "MaxPool padded": (
        "MaxPool",
        [PICTURE],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ),
    "AveragePool": (
        "AveragePool",
        [PICTURE],
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 0]},
    ),
    "AveragePool with pads": (
        "AveragePool",
        [PICTURE],
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    "AveragePool of lines": ("AveragePool", [real(2, 3, 9)], {"kernel_shape": [3], "strides": [2]}),
    "GlobalAveragePool": ("GlobalAveragePool", [PICTURE], {}),
    "GlobalMaxPool": ("GlobalMaxPool", [PICTURE], {}),
    "Resize nearest": (
        "Resize",
        [PICTURE, None, np.array([1, 1, 2, 2], np.float32)],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    "Resize linear": ("Resize", [PICTURE, None, None, whole(2, 4, 11, 9)], _resize),
    "Resize smaller": ("Resize", [PICTURE, None, None, whole(2, 4, 3, 4)], _resize),
    "Resize corners": (
        "Resize",
        [PICTURE, None, np.array([1, 1, 1.5, 2], np.float32)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    "Resize torch": (
        "Resize",
        [PICTURE, None, None, whole(2, 4, 1, 9)],
        {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    ),
    "Resize rounded": (
        "Resize",
        [PICTURE, None, None, whole(2, 4, 10, 4)],
        {"nearest_mode": "round_prefer_floor"},
    ),
}

ONE_OPERATOR = {
    **ENTRYWISE, **OF_INTERVALS, **PAIRS, **SHAPES, **INDICES, **REDUCTIONS, **MATRICES, **PICTURES,
}  # fmt: skip
