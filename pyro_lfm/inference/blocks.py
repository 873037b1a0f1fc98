"""Functions of rows evaluated without gradients, block by block, for queries and metrics; compiled where it pays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from pyro_lfm.data.batch import Batch
from pyro_lfm.data.readers import Table
from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.choice import COMPILING, HANDLERS, RECORDING, fused
from pyro_lfm.inference.engines.compiled import LOG
from pyro_lfm.inference.engines.engine import Setup
from pyro_lfm.inference.engines.exits import record
from pyro_lfm.inference.engines.replay import Replay
from pyro_lfm.inference.engines.watched import Watched
from pyro_lfm.probes import evaluating
from pyro_lfm.programs.model import AnyModel
from pyro_lfm.programs.program import Program
from pyro_lfm.runtime import Stream, isolated
from pyro_lfm.shapes import whole

# The most numbers that the draws of one block may have together.
NUMBERS = 2**22
# And the most that stay in the cache of a core.
CACHED = 2**18


# Rows by name, (B, *event) each, and their numbers (B,).
Block = tuple[dict[str, torch.Tensor], torch.Tensor]


class TableRows:
    """All rows of a table, which are read from it block by block, as a source of ``Blocks``.

    Args:
        table: validated rows.
        dtype, device: those of the model.
    """

    def __init__(self, table: Table, dtype: torch.dtype, device: torch.device):
        self.table, self.dtype, self.device = table, dtype, device
        self.names, self.size, self.total = [*table.names], len(table), len(table)
        self.missing = {name: table.has_missing[name] for name in table.names}

    def at(self, places: torch.Tensor) -> Block:
        """The rows at these places among all, (B,)."""
        return self.table.take(places, self.dtype, self.device), places.to(self.device)

    def block(self, start: int, stop: int) -> Block:
        """The rows from one place to before another one, or to the last."""
        return self.at(torch.arange(start, min(stop, self.size)))


class _BatchRows:
    """The rows of a batch as a source of ``Blocks``."""

    def __init__(self, batch: Batch):
        self.index, self.size, self.total = batch.index, batch.size, batch.total
        self.rows = {name: batch.with_gaps(name) for name in batch.names}
        self.missing = {name: batch.mask(name) is not None for name in batch.names}

    def at(self, places: torch.Tensor | slice) -> Block:
        """The rows at these places among all, (B,)."""
        return {name: value[places] for name, value in self.rows.items()}, self.index[places]

    def block(self, start: int, stop: int) -> Block:
        """The rows from one place to before another one, or to the last."""
        return self.at(slice(start, stop))


class Blocks:
    """Rows in blocks, and the programs that run on them in evaluation mode.

    Iteration gives one ``Block`` after the other. The last may be smaller.

    Args:
        model, guide: the programs.
        rows: all rows.
        size: rows per block, at most all.
        seed: of the noise.
    """

    def __init__(self, model: AnyModel, guide: Program, rows: Batch | TableRows, size: int, seed: int):
        self.width = sum(variable.shape.numel() for variable in model.sites.all.values())
        self.shares_latents = not all(latent.per_row for latent in model.sites.latents.values())
        self.source = _BatchRows(rows) if isinstance(rows, Batch) else rows
        self.size, self.count = min(size, rows.size), rows.size
        stream = Stream(whole("seed", seed, least=0), model.device)
        self.setup = Setup(model, guide, torch.optim.Adam, 1.0, stream, rows.total, self.source.missing)

    def __iter__(self) -> Iterator[Block]:
        for start in range(0, self.count, self.size):
            yield self.source.block(start, start + self.size)

    @classmethod
    def holding(
        cls, model: AnyModel, guide: Program, rows: Batch | TableRows, size: int, seed: int, draws: int
    ) -> Blocks:
        """Blocks of at most ``size`` rows, so small that ``draws`` draws of each fit in memory together.

        They have equal sizes as far as possible, as a smaller last block is not compiled.
        """
        width = sum(variable.shape.numel() for variable in model.sites.all.values())
        count = -(-rows.size // max(1, min(size, NUMBERS // (draws * width))))
        return cls(model, guide, rows, -(-rows.size // count), seed)

    def draws_at_once(self, most: int, numbers: int | None = None) -> int:
        """How many draws of a block, of at most ``most``, have so many numbers together; by default as fit in memory."""
        return max(1, min(most, (NUMBERS if numbers is None else numbers) // (self.size * self.width)))

    def copies(self, draws: int, rows: int) -> int:
        """How many of the draws a block takes side by side, as copies of its rows up to ``rows`` of them.

        A latent that rows share is drawn once in a run, so that draws of it cannot stand side by side.
        """
        return 1 if self.shares_latents else max(1, min(draws, rows // self.size))

    @contextmanager
    def running(self) -> Iterator[None]:
        """The context in which the blocks are evaluated: evaluation mode, a stream for the noise, no gradients."""
        setup = self.setup
        with evaluating(*setup.programs), isolated(setup.stream, setup.model.device), torch.no_grad():
            yield


def side_by_side(block: Block, copies: int) -> Block:
    """A block with its rows several times over, as further rows: (copies * B, ...)."""
    rows, index = block
    return {n: value.repeat(copies, *(1,) * (value.dim() - 1)) for n, value in rows.items()}, index.repeat(
        copies
    )


class Evaluation:
    """A function of a batch that is called on many blocks, within ``blocks.running()``.

    Many calls are recorded as one graph, which is replayed without the programs. Where it pays, native code is made of it.
    Both draw the random numbers of the programs, and are compared with them first.

    Args:
        blocks: the blocks.
        function: takes a batch, and further tensors, and gives a tensor.
        draws: how many draws of each row the function takes.
        calls: how often the function is called on every block, at least.
        passes: the cost of a call in evaluations: 3 for one with a gradient.
        copies: how often a block holds each row, see ``side_by_side``.
    """

    def __init__(
        self,
        blocks: Blocks,
        function: Callable[..., torch.Tensor],
        draws: int = 1,
        calls: int = 1,
        passes: int = 1,
        copies: int = 1,
    ):
        self.setup, self.function, self.draws = blocks.setup, function, draws
        self.size = blocks.size * copies
        self.repeated = calls > 1
        total = calls * passes * (blocks.count // blocks.size)
        self.compiled = total * fused(self.setup, self.size * draws) > COMPILING
        pays = self.compiled or total * HANDLERS > RECORDING
        self.wanted = pays and tracing.untested() is None
        self.watched = Watched(self.setup, function)
        self.native: Replay | None = None

    def __call__(self, block: Block, *further: torch.Tensor) -> torch.Tensor:
        rows, index = block
        inputs = [*rows.values(), index, *further]
        if self.wanted:
            return self._first([*rows], inputs)
        if self.native is not None and len(index) == self.size:
            value = self.native(block, inputs)
            if not bool(value.isnan().any()):
                return value
            # NaN may mean that a distribution refuses its parameters: the programs raise the error.
        return self.function(self.setup.batch(rows, index), *further)

    def _first(self, names: list[str], inputs: list[torch.Tensor]) -> torch.Tensor:
        """The value by the programs, which are watched, and a replay for the next call."""

        def run() -> torch.Tensor:
            rows, (index, *further) = dict(zip(names, inputs, strict=False)), inputs[len(names) :]
            return self.function(self.setup.batch(rows, index), *further)

        with self.watched.run(self.function):
            value = run()
        self.watched.confirm(run, inputs)
        if self.watched.reason is not None:
            self._give_up(self.watched.reason)
        elif self.watched.settled:
            self.wanted = False
            self._build(names, inputs)
        return value

    def _build(self, names: list[str], inputs: list[torch.Tensor]) -> None:
        def python(*arguments: torch.Tensor) -> list[torch.Tensor]:
            rows = dict(zip(names, arguments, strict=False))
            index, *further = arguments[len(names) :]
            return [self.function(self.setup.batch(rows, index), *further)]

        trial = self.watched.trial
        try:
            with trial(inputs):
                expected = python(*inputs)[0]
            with trial():
                graph, external = record(python, [value.flip(0) for value in inputs])
            if self.watched.left_behind(external):
                raise tracing.NotRecordable("it reads a tensor that the previous run left")
            with trial():
                rows = len(names) + 1
                native = Replay(graph, external, inputs, rows, self.repeated, self.compiled)
            # Twice, as a replay keeps what depends on the rows alone.
            for _ in range(2):
                with trial(inputs):
                    value = native(names, inputs)
                if not torch.allclose(value, expected, rtol=1e-4, atol=1e-3, equal_nan=True):
                    raise tracing.NotRecordable("a replay gives other values")
            self.native = native
        except tracing.NotRecordable as error:
            self._give_up(str(error))

    def _give_up(self, reason: str) -> None:
        self.wanted = False
        LOG.info("evaluation in eager: %s", reason)


def in_parts(
    blocks: Blocks, draws: int, function: Callable[[int], Callable[..., torch.Tensor]]
) -> list[Evaluation]:
    """Evaluations that together take ``draws`` draws of each row, each as many as fit in memory.

    Args:
        function: gives, for a number of draws, the function of a batch that takes so many.
    """
    # Many draws are recorded, and a replay has nearly no cost of its own: its tensors may be so small that they stay in a
    # cache. Programs take as many draws at once as fit in memory.
    cached = blocks.draws_at_once(draws, CACHED)
    many = blocks.count // blocks.size * (draws // cached) * HANDLERS > RECORDING
    most = cached if many else blocks.draws_at_once(draws)
    counts = [most] * (draws // most) + [draws % most] * (draws % most > 0)
    evaluations = {n: Evaluation(blocks, function(n), draws=n, calls=counts.count(n)) for n in set(counts)}
    return [evaluations[n] for n in counts]
