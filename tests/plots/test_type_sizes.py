"""No picture of the library has type below 9 points, and the page of all tests is shown at its own size."""

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "pyro_lfm" / "plots"
SIZES = {"fontsize", "labelsize", "title_fontsize"}
# The width of a page of text in inches, that of the site's column: 46 em of 16 pixels, 96 of them to an inch.
PAGE = 46 * 16 / 96


def constants(tree):
    """Numbers that stand for names in a file, such as _SMALL = 9."""
    return {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_no_type_is_below_nine_points(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = constants(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        for keyword in call.keywords:
            if keyword.arg in SIZES:
                value = keyword.value
                size = known.get(value.id) if isinstance(value, ast.Name) else getattr(value, "value", None)
                assert not isinstance(size, (int, float)) or size >= 9, f"{path.name}, line {value.lineno}"


def test_the_page_of_all_tests_is_no_wider_than_a_page():
    text = (FOLDER / "calibration.py").read_text(encoding="utf-8")
    widths = [
        call.args[0].value
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "new_figure"
        and isinstance(call.args[0], ast.Constant)
    ]
    assert widths and max(widths) <= PAGE
