"""Pages as notebooks: each block of Python is a cell that myst-nb executes and shows with its output."""

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from site_parts.blocks import PYTHON

# A notebook shows figures that are made without pyplot only after this line.
_SHOW_FIGURES = new_code_cell("%matplotlib inline", id="figures", metadata={"tags": ["remove-cell"]})
_KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}


def notebook(text: str) -> NotebookNode:
    """The notebook of a page. A page without a block of Python has no kernel and is not executed."""
    pieces = PYTHON.split(text)
    cells = []
    for number, piece in enumerate(pieces):
        if number % 2:
            cells.append(new_code_cell(piece.strip("\n"), id=f"cell-{number}"))
        elif piece.strip():
            cells.append(new_markdown_cell(piece, id=f"cell-{number}"))
    if len(pieces) == 1:
        return new_notebook(cells=cells)
    return new_notebook(cells=[_SHOW_FIGURES, *cells], metadata=_KERNEL)
