"""The operators of ONNX that an exported page runs, as ``offline/*.js`` defines them, and what it does not run of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# The names that offline/graph.js knows; a test compares the two lists.
OPERATORS = frozenset(
    (
        "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil "
        "Celu Clip Compress Concat ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace Div Dropout Einsum "
        "Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool "
        "GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization "
        "IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish Mod "
        "Mul Neg NonZero Not OneHot Or PRelu Pad Pow Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp "
        "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements "
        "ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt "
        "Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor"
    ).split()
)

Attributes = Mapping[str, Any]


def _in_volumes(attributes: Attributes) -> bool:
    return len(attributes.get("kernel_shape", ())) > 2


def _beyond_linear(attributes: Attributes) -> bool:
    keep = attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    crop = attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    return attributes.get("mode") == "cubic" or bool(attributes.get("antialias")) or keep or crop


# What the page does not run of an operator: a test of its attributes, and words for it.
_EXCEPT: dict[str, tuple[Callable[[Attributes], bool], str]] = {
    **dict.fromkeys(
        ("Conv", "ConvTranspose", "MaxPool", "AveragePool"), (_in_volumes, "in three dimensions")
    ),
    "Resize": (_beyond_linear, "with cubic interpolation, antialiasing or cropping"),
    "Einsum": (lambda attributes: "." in attributes["equation"], "with an ellipsis"),
}


def lacking(operator: str, attributes: Attributes) -> str | None:
    """The words for an operator that the page does not run; None where it does.

    >>> lacking("Gemm", {}), lacking("Loop", {}), lacking("Resize", {"mode": "cubic"})
    (None, 'Loop', 'Resize with cubic interpolation, antialiasing or cropping')
    """
    if operator not in OPERATORS:
        return operator
    refuses, words = _EXCEPT.get(operator, (lambda _: False, ""))
    return f"{operator} {words}" if refuses(attributes) else None
