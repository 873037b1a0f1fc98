"""Each operator of the interpreter of exported pages gives what onnxruntime gives."""

import numpy as np
import pytest
from offline_graphs import Graphs, farthest, interpreter
from operator_cases import ONE_OPERATOR

from pyro_lfm.errors import DeclarationError
from pyro_lfm.explorer.exported.array_block import ArrayBlock
from pyro_lfm.explorer.exported.graph_document import graph_document
from pyro_lfm.explorer.exported.graph_operators import OPERATORS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# Operators with more than one output.
OUTPUTS = {"Split": 2, "Split evenly": 3, "TopK": 2, "TopK smallest": 2}


def model_of(name, operator, inputs, attributes):
    """A graph of one operator, and its inputs by name."""
    helper = onnx.helper
    attributes = {
        k: onnx.numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in attributes.items()
    }
    arrays = {f"i{k}": np.asarray(value) for k, value in enumerate(inputs) if value is not None}
    outputs = [f"o{k}" for k in range(OUTPUTS.get(name, 1))]
    names = ["" if value is None else f"i{k}" for k, value in enumerate(inputs)]
    node = helper.make_node(operator, names, outputs, **attributes)
    typed = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in arrays.items()
    ]
    graph = helper.make_graph([node], "one", typed, [helper.make_empty_tensor_value_info(n) for n in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)])
    model.ir_version = 10
    return model, arrays


def test_each_operator_gives_what_onnxruntime_gives(browser):
    graphs, expected = Graphs(), []
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    for name, (operator, inputs, attributes) in ONE_OPERATOR.items():
        model, arrays = model_of(name, operator, inputs, attributes)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        expected.append(
            dict(zip((o.name for o in session.get_outputs()), session.run(None, arrays), strict=True))
        )
        graphs.add(lambda block, model=model, name=name: graph_document(model, block, name), arrays)
    page = interpreter(browser)
    wrong = {}
    for name, own, other in zip(ONE_OPERATOR, graphs.run(page), expected, strict=True):
        if own.keys() != other.keys():
            wrong[name] = own
            continue
        for output, value in other.items():
            same_kind = (
                own[output].dtype.kind == np.asarray(value).dtype.kind or own[output].dtype.kind == "i"
            )
            if not same_kind or own[output].shape != value.shape or farthest(own[output], value) > 2e-6:
                wrong[name] = own[output], value
    assert wrong == {}
    # The names that Python allows are those that the page has, and each stands in the cases above.
    assert (
        set(page.evaluate("Object.keys(lfm.operators)"))
        == OPERATORS
        == {op for op, _, _ in ONE_OPERATOR.values()}
    )
    page.close()


def test_an_operator_that_the_page_lacks_is_named_with_a_remedy():
    model, _ = model_of("LRN", "LRN", [np.zeros((1, 2, 3, 3), np.float32)], {"size": 3})
    with pytest.raises(
        DeclarationError, match="the decoder cannot run in an exported page.* LRN,.* without export"
    ):
        graph_document(model, ArrayBlock(), "the decoder")
    cubic = {"mode": "cubic"}
    inputs = [np.zeros((1, 1, 3, 3), np.float32), None, None, np.array([1, 1, 6, 6])]
    model, _ = model_of("Resize", "Resize", inputs, cubic)
    with pytest.raises(DeclarationError, match="Resize with cubic"):
        graph_document(model, ArrayBlock(), "the decoder")


def test_references_to_arrays_are_read_by_the_page(browser):
    """Codes of 8 and 16 bits, gaps, infinite numbers and texts."""
    block, random = ArrayBlock(), np.random.default_rng(0)
    columns = random.normal(size=(40, 3)) * [1.0, 100.0, 0.0] + [0.0, 5.0, 2.0]
    columns[3, 1] = np.nan
    pixels = random.integers(0, 200, size=(5, 12)) / 255
    many = random.random((30, 20))
    gaps = np.array([0.0, np.nan, 1.0])
    special = np.array([np.nan, np.inf, -np.inf], np.float32)
    references = [
        block.add_columns(columns), block.add_pixels(pixels, 0.0, 1.0), block.add_pixels(gaps, 0.0, 1.0), block.add(special),
        block.add(np.arange(20)), block.add_pixels(many, 0.0, 1.0),
    ]  # fmt: skip
    text = block.add_text("żółw, 1\n")
    page = interpreter(browser)
    read = """async ({block, references, text}) => {
        const arrays = lfm.arrays(await lfm.arrays.unpacked(block));
        const numbers = references.map((one) => Array.from(arrays.numbers(one), String));
        return [...numbers, Array.from(arrays.line(references[0], 3), String), arrays.text(text)];
    }"""
    *numbers, words = page.evaluate(read, {"block": block.packed(), "references": references, "text": text})
    page.close()
    given = [np.array([float(n.replace("Infinity", "inf")) for n in each]) for each in numbers]
    step = np.nanmax(columns, 0) - np.nanmin(columns, 0)
    assert (np.isnan(given[0].reshape(40, 3)) == np.isnan(columns)).all()
    # Half of a 65,534th of the range, and the rounding of single precision.
    assert (np.nan_to_num(abs(given[0].reshape(40, 3) - columns)) <= step / 131_000 + 1e-5).all()
    np.testing.assert_allclose(given[1].reshape(5, 12), pixels, atol=1e-7)
    np.testing.assert_allclose(given[2], gaps, atol=1e-7)
    np.testing.assert_array_equal(given[3], special)
    np.testing.assert_array_equal(given[4], np.arange(20))
    assert np.abs(given[5].reshape(30, 20) - many).max() <= 0.5 / 254 + 1e-7
    np.testing.assert_array_equal(given[6], given[0].reshape(40, 3)[3])
    assert words.strip() == "żółw, 1"
