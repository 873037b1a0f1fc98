"""``Resuming``: keeps the state of a training loop in the folder of a checkpoint, and puts it back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pyro_lfm.data.digests import of_rows, of_weights
from pyro_lfm.errors import DataError, DeclarationError
from pyro_lfm.identity import identity_of
from pyro_lfm.identity.version import library_version
from pyro_lfm.inference.engines.engine import Engine
from pyro_lfm.inference.svi.checkpoint import Checkpoint
from pyro_lfm.inference.svi.fit_identity import FitIdentity
from pyro_lfm.inference.svi.further_files import further_files
from pyro_lfm.inference.svi.history_columns import columns_of, records_of
from pyro_lfm.inference.svi.module_attributes import module_states, restore_modules
from pyro_lfm.inference.svi.optimizer_states import EngineState
from pyro_lfm.inference.svi.position import Position
from pyro_lfm.inference.svi.snapshots import Snapshot
from pyro_lfm.inference.svi.training_state import TrainingFolder, TrainingState
from pyro_lfm.programs.program import Program
from pyro_lfm.schedules import value_ahead
from pyro_lfm.storage.plain_values import plain

if TYPE_CHECKING:
    from pyro_lfm.inference.svi.loop import Loop

# The arguments of lfm.SVI that must be the same when a fit goes on.
_SAME = ("optimizer", "learning_rate", "clip_norm", "drop_last", "alternate")
# The errors of a state whose values are of other kinds than those that were written.
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError)


class Resuming:
    """Keeps the state of a loop after epochs and at times, and puts it back.

    Args:
        loop: the training loop of the fit.
        checkpoint: where and how often.

    Raises:
        CheckpointError: the folder belongs to another fit; nothing was changed.
    """

    def __init__(self, loop: Loop, checkpoint: Checkpoint):
        self.loop, self.checkpoint = loop, checkpoint
        self.folder = TrainingFolder(checkpoint)
        self.programs: dict[str, Program] = {"model": loop.model, "guide": loop.guide}
        svi = loop.svi
        for name, schedule in loop.schedules.items():
            value_ahead(name, schedule, 0.0)  # refuses schedules whose state cannot be put back
        options = {name: getattr(svi, name) for name in _SAME}
        if svi.schedule or loop.scheduled:
            options["steps"] = loop.total_steps
        fixed = {
            # All processes have the same rows: one of them reads them.
            "data": loop.processes.first(lambda: of_rows(loop.table)),
            "row_weights": of_weights(loop.table),
            "validation": loop.processes.first(lambda: loop.validation and of_rows(loop.validation)),
            "seed": loop.seed,
            "batch_size": loop.batch_size,
            "row_order": str(loop.in_order),
            "autocast": torch.is_autocast_enabled(loop.model.device.type),
            **options,
            "version": library_version(),
        }
        parts = {**self.programs, "objective": svi.objective, "schedule": svi.schedule}
        self.identity = FitIdentity(identity_of(weights=False, **fixed), parts)
        # Of a state that is there: the state dicts of the programs, and the rest until the engine has its part.
        self.states: Mapping[str, Mapping[str, Any]] = {}
        self.saved: TrainingState | None = None
        if (there := loop.processes.first(self.folder.load)) is not None:
            self.states, self.saved = there
            try:
                self._check(self.saved)
            except _MALFORMED as error:
                raise self._malformed(error) from None
        self.before: Snapshot | None = None
        # The place in the fit that was written last, when, and whether all values are known to be such that they can be.
        self.written: tuple[int, int, bool] | None = None
        self.since, self.tried = time.monotonic(), False

    def _check(self, saved: TrainingState) -> None:
        loop = self.loop
        self.folder.check_shapes(self.states, self.programs)
        made_of = self.identity.made_of
        if loop.svi.patience and saved["patience"] is None:
            made_of["patience"] = str(loop.svi.patience)
        self.folder.check(saved, made_of)
        if saved["step"] > loop.total_steps:
            raise self.folder.refused(
                f"a longer fit: it has done {saved['epoch']} epochs ({saved['step']} steps), and this fit is to do "
                f"{self._planned()} in all"
            )
        # Values that training changed before the interruption may differ after it too.
        self.identity.moved = set(saved["moved"])

    def _planned(self) -> str:
        """The length of this fit, in words."""
        steps, epochs = self.loop.total_steps, self.loop.svi.epochs
        return f"{steps} steps" if epochs is None else f"{epochs} epochs ({steps} steps)"

    def _malformed(self, error: Exception) -> Exception:
        """The error of a state that cannot be put back, in words."""
        if isinstance(error, DataError | DeclarationError):
            return error
        return self.folder.unreadable(
            f"a value of its state is of another kind than the one written ({type(error).__name__})"
        )

    def restore(self) -> None:
        """Puts everything back but the state of the engine, which is made of the restored programs later."""
        if self.saved is None:
            return
        self.before = Snapshot(*self.programs.values())
        with self._weights_kept(self.before):
            self._restore(self.saved)
        for path, part in self.identity.stateful().items():
            if path in self.saved["stateful"]:
                part.load_state_dict(self.saved["stateful"][path])
        self.written = self.loop.place

    def _restore(self, saved: TrainingState) -> None:
        loop = self.loop
        for kind, program in self.programs.items():
            program.load_state_dict(self.states[kind])
            for name, parameter in program.named_parameters():
                parameter.requires_grad_(name not in saved["frozen"][kind])
            restore_modules(program, saved["hidden"][kind])
            for name, value in saved["unsaved_buffers"][kind].items():
                owner, _, own = name.rpartition(".")
                setattr(program.get_submodule(owner), own, value.to(loop.model.device))
        loop.stream.state = saved["stream"]
        if loop.stream.device_state is not None and saved["device_stream"] is not None:
            loop.stream.device_state = saved["device_stream"]
        loop.shuffle.set_state(saved["shuffle"])
        loop.best.load(saved["best"])
        tables = saved["held_out_tables"]
        loop.held_out_tables = tables and [table.to(loop.model.device) for table in tables]
        loop.history.extend(records_of(saved["history"]))
        loop.step, loop.epoch = saved["step"], saved["epoch"]
        loop.skipped.load(saved["skipped"])
        if saved["position"] is not None:
            loop.position = Position.of(saved["position"], loop.model.device)
            loop.model.keep_codes(loop.guide)

    @property
    def engine_before(self) -> EngineState | None:
        """The state of the engine of the saved fit, if that was to be as long as this one."""
        if self.saved is None or self.saved["total_steps"] != self.loop.total_steps:
            return None
        return self.saved["engine"]

    def restore_engine(self, engine: Engine) -> None:
        if self.saved is None or self.before is None:
            return
        with self._weights_kept(self.before):
            engine.load(self.saved["engine"])
        self.saved, self.before = None, None

    @contextmanager
    def _weights_kept(self, before: Snapshot) -> Iterator[None]:
        """Restores the weights where the state cannot be put back."""
        try:
            yield
        except _MALFORMED as error:
            before.restore()
            raise self._malformed(error) from None

    @property
    def last_saved(self) -> tuple[Path, int] | None:
        """The folder, and the last epoch of which it holds a part; None before the first write."""
        return None if self.written is None else (self.checkpoint.path, self.written[0])

    def after_epoch(self, engine: Engine) -> None:
        """Writes the state if it is due. After the first epoch at least its values are checked."""
        epochs = self.checkpoint.epochs
        if (epochs is not None and self.loop.epoch % epochs == 0) or self._is_time():
            self._save(engine)
        elif not self.tried:
            self.folder.files(self.programs, self._state(engine))
            self.tried = True

    def within_epoch(self, engine: Engine) -> None:
        """Writes the state if so many seconds have passed."""
        if self._is_time():
            self._save(engine)

    def _is_time(self) -> bool:
        seconds = self.checkpoint.seconds
        return seconds is not None and time.monotonic() - self.since >= seconds

    def at_end(self, engine: Engine) -> None:
        """Writes the state unless it is on the disk."""
        if self.written != self.loop.place:
            self._save(engine)

    def _save(self, engine: Engine) -> None:
        if self.loop.processes.is_first:
            self.folder.save(self.programs, self._state(engine), further_files(self.loop.result))
        self.written, self.since, self.tried = self.loop.place, time.monotonic(), True

    def _state(self, engine: Engine) -> TrainingState:
        loop, moved, position = self.loop, self.identity.moved, self.loop.position
        self.identity.record_changes()
        return {
            "made_of": self.identity.made_of,
            "moved": sorted(moved),
            "patience": loop.svi.patience,
            "best": loop.best.state(),
            "frozen": {
                kind: [n for n, p in program.named_parameters() if not p.requires_grad]
                for kind, program in self.programs.items()
            },
            "hidden": {kind: module_states(kind, program, moved) for kind, program in self.programs.items()},
            "unsaved_buffers": {kind: _not_in_state(program) for kind, program in self.programs.items()},
            "stateful": {path: part.state_dict() for path, part in self.identity.stateful().items()},
            "engine": engine.state(),
            "stream": loop.stream.state,
            "device_stream": loop.stream.device_state,
            # Inside an epoch the stream as it was before, from which the order of the epoch is drawn again.
            "shuffle": loop.shuffle.get_state() if position is None else position.shuffle,
            "held_out_tables": loop.held_out_tables,
            "step": loop.step,
            "epoch": loop.epoch,
            "total_steps": loop.total_steps,
            "skipped": loop.skipped.state(),
            "position": None if position is None else position.state(),
            "history": columns_of([plain(r, f"history[{k}]") for k, r in enumerate(loop.history)]),
        }


def _not_in_state(program: Program) -> dict[str, torch.Tensor]:
    """The buffers that a program leaves out of its state dict, and that training may change all the same."""
    held = program.state_dict()
    return {name: buffer for name, buffer in program.named_buffers() if name not in held}
