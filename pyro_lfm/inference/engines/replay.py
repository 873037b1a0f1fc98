"""``Replay``: a recorded function of a block of rows, replayed operation by operation or as native code, for evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.plain_function import plain_function
from pyro_lfm.inference.engines.split_graph import SplitGraph


class Replay:
    """A recorded function without its programs. Its operations and random numbers are those of the programs.

    Where a block of rows is asked repeatedly, what depends on the block alone is computed at its first call.

    Args:
        graph: of inputs (rows of every name, their numbers, further tensors), then ``external``.
        external: the tensors that existed before.
        inputs: an example of the inputs.
        rows: how many inputs belong to a block of rows; the others change at every call.
        repeated: whether a block is called more than once.
        compiled: whether to make native code of what is computed at every call.

    Raises:
        NotRecordable: the compiler fails, or an input is changed in place.
    """

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        external: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
        rows: int,
        repeated: bool,
        compiled: bool,
    ):
        self._lasting = rows if repeated else 0
        self._external = [value.detach() for value in external]
        self._block: object = None
        self._kept: Sequence[torch.Tensor] = self._external
        self._once: tracing.Function | None = None
        again = graph
        if repeated:
            lasting = [number < rows for number in range(len(inputs))]
            split = SplitGraph(graph, [*lasting, *[True] * len(external)])
            self._once, again = plain_function(split.once), split.again
        changing = inputs[self._lasting :]
        self._again = (
            tracing.native(again, [*changing, *self._keep(inputs)]) if compiled else plain_function(again)
        )

    def __call__(self, block: object, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The value of the function.

        Args:
            block: the same object at every call with the same rows, until those of another block come.
        """
        if block is not self._block:
            self._kept, self._block = self._keep(inputs), block
        return self._again(*inputs[self._lasting :], *self._kept)[0]

    def _keep(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """What every call on a block of rows gets beside the inputs that change."""
        if self._once is None:
            return self._external
        return self._once(*inputs[: self._lasting], *self._external)
