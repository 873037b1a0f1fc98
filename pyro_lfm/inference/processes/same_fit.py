"""What the processes of a fit must agree on before it begins: rows, seed, declarations; the first gives the weights."""

from __future__ import annotations

import torch

from pyro_lfm.data.digests import RowsSeen, of_weights
from pyro_lfm.data.readers import Table
from pyro_lfm.errors import DeclarationError
from pyro_lfm.identity import differences, identity_of
from pyro_lfm.identity.version import library_version
from pyro_lfm.inference.processes.group import Processes
from pyro_lfm.inference.task import Inference, Task
from pyro_lfm.programs.program import Program

# Why a difference at a path matters.
_EXPLANATIONS = {
    "data": ": every process is given all rows, of which fit takes the share itself",
    "validation": ": every process is given all validation rows",
    "seed": ": give every process the same seed, or none of them one",
}


def check_agreement(task: Task, inference: Inference) -> None:
    """Refuses, in all processes, a fit that is another one in some process.

    Raises:
        DeclarationError: the message names the first process that differs from the first one, and the first difference.
    """
    processes = task.processes
    if not processes.several:
        return
    own = identity_of(
        weights=False,
        data=_rows_in_words(task.table),
        row_weights=of_weights(task.table),
        validation=None if task.validation is None else _rows_in_words(task.validation),
        seed=task.seed,
        checkpoint="given" if task.checkpoint else "none",
        device=task.device.type,
        autocast=torch.is_autocast_enabled(task.device.type),
        version=library_version(),
        model=task.model,
        inference=inference,
    )
    every = processes.all(own)
    for rank, other in enumerate(every):
        if differ := differences(every[0], other):
            path = differ[0]
            more = f", and {len(differ) - 1} more" * (len(differ) > 1)
            raise DeclarationError(
                f"the processes must fit the same thing: {path} is {every[0].get(path, 'not there')} in process 0 and "
                f"{other.get(path, 'not there')} in process {rank}{more}{_EXPLANATIONS.get(path, '')}"
            )


def _rows_in_words(table: Table) -> str:
    """A description of rows with a digest, of all of them or, where they are many, of some that are spread evenly."""
    digest = RowsSeen(table).digest
    return f"{len(table)} rows of {', '.join(table.names)}, {digest[:16] if digest else 'different at every reading'}"


def take_weights_of_first(processes: Processes, *programs: Program) -> None:
    """Gives parameters and buffers the values of the first process, and freezes what is frozen there."""
    if not processes.several:
        return
    parameters = [p for program in programs for p in program.parameters()]
    frozen = processes.first(lambda: [not parameter.requires_grad for parameter in parameters])
    for parameter, holds in zip(parameters, frozen, strict=True):
        parameter.requires_grad_(not holds)
    processes.take_tensors_of_first([*parameters, *(b for program in programs for b in program.buffers())])
