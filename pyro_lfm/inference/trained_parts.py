"""Model, guide and rows of a fit whose weights were trained elsewhere, for ``Fit.of``."""

from __future__ import annotations

import torch
from torch import nn

from pyro_lfm.closed_form import recognise
from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.guides import AnyGuide, ExactPosterior, as_guide
from pyro_lfm.inference.data_boundary import Data, absent_rows_of, table_for
from pyro_lfm.programs.model import AnyModel, as_model


def trained_parts(
    model: nn.Module, guide: nn.Module | None, data: Data | None
) -> tuple[AnyModel, AnyGuide, Table]:
    """The programs, bound to each other and in evaluation mode, and the rows, of which none is here without data.

    Raises:
        DeclarationError: a guide of another model, or none where the posterior has no closed form.
    """
    program = as_model(model)
    if guide is None:
        recognise(program).exact("lfm.Fit.of without a guide", "give the guide that was trained")
        q: AnyGuide = ExactPosterior(program)
    else:
        q = as_guide(guide)
    q.check_serves(program)
    table = absent_rows_of(program) if data is None else table_for(program, data)
    if data is not None:
        # Programs by hand make their ``pyro.param``s in a first run.
        index = torch.zeros(1, dtype=torch.long)
        rows = table.take(index, program.dtype, program.device)
        first = Batch(rows, index.to(program.device), len(table))
        program.settle(first)
        q.settle(first)
    q = q.bound_to(program)
    program.bind(q)
    return program.eval(), q.eval(), table
