"""Graphs in the interpreter of exported pages, run in the browser, for tests that compare them with onnxruntime or a fit."""

from pathlib import Path

import numpy as np

from pyro_lfm.explorer.exported.array_block import ArrayBlock
from pyro_lfm.explorer.exported.inline_page import SCRIPTS

OFFLINE = Path(__file__).parents[2] / "pyro_lfm" / "explorer" / "offline"
# What needs no page around it.
INTERPRETER = SCRIPTS[: SCRIPTS.index("likelihoods") + 1]

RUN = """
async ({block, cases}) => {
    const arrays = lfm.arrays(await lfm.arrays.unpacked(block));
    const list = (tensor) => ({type: tensor.type, shape: tensor.shape, data: Array.from(tensor.data, String)});
    return cases.map(({graph, feeds}) => {
        try {
            const inputs = Object.entries(feeds).map(([name, reference]) => [name, arrays.tensor(reference)]);
            const outputs = lfm.graph(graph, arrays).run(Object.fromEntries(inputs));
            return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, list(tensor)]));
        } catch (error) {
            return {error: String(error)};
        }
    });
}
"""


def interpreter(browser):
    """A page with the interpreter alone."""
    page = browser.new_page()
    for name in INTERPRETER:
        page.add_script_tag(content=(OFFLINE / f"{name}.js").read_text("utf-8"))
    return page


class Graphs:
    """Graphs with their inputs, all run at once."""

    def __init__(self):
        self.block, self.cases = ArrayBlock(), []

    def add(self, graph, feeds):
        """graph(block) gives the document; feeds are arrays by name."""
        self.cases.append(
            {"graph": graph(self.block), "feeds": {n: self.block.add(v) for n, v in feeds.items()}}
        )

    def run(self, page):
        """The outputs of each graph as arrays by name."""
        answers = page.evaluate(RUN, {"block": self.block.packed(), "cases": self.cases})
        return [
            {"error": answer["error"]}
            if "error" in answer
            else {name: _array(each) for name, each in answer.items()}
            for answer in answers
        ]


def _array(tensor):
    kind = {"bool": np.bool_, "int": np.int64}.get(tensor["type"], tensor["type"])
    numbers = [float(text.replace("Infinity", "inf")) for text in tensor["data"]]
    return np.array(numbers, kind).reshape(tensor["shape"])


def farthest(one, other):
    """The largest difference of two arrays, relative to the largest number of the second, or to 1."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    assert one.shape == other.shape
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        away = np.where(same, 0.0, np.abs(one - other))
    scale = np.abs(other[np.isfinite(other)]).max(initial=1.0)
    return away.max(initial=0.0) / scale
