"""Functions of a batch that are wanted without gradients, many times: native code where that pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.choice import COMPILING, saving
from pyro_lfm.inference.engines.compiled import LOG
from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.inference.engines.recorded import rewound


class Evaluation:
    """A function of a batch, called on many; to be used within ``isolated()`` and without gradients.

    Args:
        setup: the programs that it runs.
        function: of a batch, a tensor.
        seconds: about how long all the calls will be shorter compiled, as told by ``worth``.
    """

    def __init__(self, setup: Setup, function: Callable[[Batch], torch.Tensor], seconds: float):
        self.setup, self.function = setup, function
        self.native: tracing.Function | None = None
        self.size = 0 if seconds > COMPILING and tracing.untested() is None else -1

    def __call__(self, rows: Mapping[str, torch.Tensor], index: torch.Tensor) -> torch.Tensor:
        inputs = [*rows.values(), index]
        if self.size == 0:  # the size of the first call is the one that is compiled
            self.size = len(index)
            self._build([*rows], inputs)
        if self.native is not None and len(index) == self.size:
            return self.native(*inputs, *self.external)[0]
        return self.function(self.setup.batch(rows, index))

    def _build(self, names: list[str], inputs: list[torch.Tensor]) -> None:
        def python(*arguments: torch.Tensor) -> list[torch.Tensor]:
            rows = dict(zip(names, arguments, strict=False))
            return [self.function(self.setup.batch(rows, arguments[-1]))]

        try:
            with rewound(self.setup):
                expected = python(*inputs)[0]
            with rewound(self.setup):
                graph, external = tracing.record(python, [value.flip(0) for value in inputs])
            self.external = [value.detach() for value in external]
            native = tracing.native(graph, [*inputs, *self.external])
            with rewound(self.setup):
                found = native(*inputs, *self.external)[0]
            if not torch.allclose(found, expected, rtol=1e-4, atol=1e-3, equal_nan=True):
                raise tracing.NotRecordable("native code gives other values")
            self.native = native
        except tracing.NotRecordable as error:
            LOG.info("evaluation in eager: %s", error)


def worth(setup: Setup, rows: int, draws: int, calls: int) -> float:
    """About how many seconds so many calls on so many rows and draws are shorter compiled."""
    # A step's operations are three times those of an evaluation.
    return calls * saving(setup, rows * draws // 3)
