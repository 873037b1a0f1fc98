"""The figure that all pictures are made as. A notebook shows it without pyplot."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A matplotlib figure as a picture where it is the last expression of a cell.

    Notebooks show plain figures only after ``%matplotlib inline``, or once pyplot has made a figure. This library never
    loads pyplot, because it holds global state.
    """

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png")
        return data.getvalue()
