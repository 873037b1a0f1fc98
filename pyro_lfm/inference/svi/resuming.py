"""``Resuming``: saves the state of a training loop in a checkpoint after every epoch, and puts it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pyro_lfm.data.digests import of_rows
from pyro_lfm.identity import identity_of
from pyro_lfm.identity.version import library_version
from pyro_lfm.inference.engines.engine import Engine
from pyro_lfm.inference.svi.checkpoint import Checkpoint, FitIdentity, SavedFit
from pyro_lfm.inference.svi.module_attributes import module_states, restore_modules
from pyro_lfm.programs.program import Program
from pyro_lfm.schedules import value_ahead

if TYPE_CHECKING:
    from pyro_lfm.inference.svi.loop import Loop

# The arguments of lfm.SVI that must be the same when a fit goes on.
_SAME = ("optimizer", "learning_rate", "clip_norm", "drop_last", "alternate")


class Resuming:
    """Saves the state of a loop after every epoch, and puts it back.

    Args:
        loop: the training loop of the fit.
        checkpoint: the file.

    Raises:
        CheckpointError: the file belongs to another fit; nothing was changed.
    """

    def __init__(self, loop: Loop, checkpoint: Checkpoint):
        self.loop, self.checkpoint = loop, checkpoint
        svi = loop.svi
        for name, schedule in loop.schedules.items():
            value_ahead(name, schedule, 0.0)  # refuses schedules whose state cannot be put back
        options = {name: getattr(svi, name) for name in _SAME}
        if svi.schedule or loop.scheduled:
            options["steps"] = loop.total_steps
        fixed = {
            "data": of_rows(loop.table),
            "validation": None if loop.validation is None else of_rows(loop.validation),
            "seed": loop.seed,
            "batch_size": loop.batch_size,
            "autocast": torch.is_autocast_enabled(loop.model.device.type),
            **options,
            "version": library_version(),
        }
        parts = {
            "model": loop.model,
            "guide": loop.guide,
            "objective": svi.objective,
            "schedule": svi.schedule,
        }
        self.identity = FitIdentity(identity_of(weights=False, **fixed), parts)
        self.saved = checkpoint.load()
        if self.saved is not None:
            self._check(self.saved)

    def _check(self, saved: SavedFit) -> None:
        loop = self.loop
        self.checkpoint.check_shapes(saved, loop.model, loop.guide)
        made_of = self.identity.made_of
        if loop.svi.patience and saved["patience"] is None:
            made_of["patience"] = str(loop.svi.patience)
        self.checkpoint.check(saved, made_of)
        if saved["step"] > loop.total_steps:
            raise self.checkpoint.refused(
                f"a longer fit: it has done {saved['epoch']} epochs ({saved['step']} steps), now {loop.total_steps} steps "
                "are to be done"
            )
        # Values that training changed before the interruption may differ after it too.
        self.identity.moved = set(saved["moved"])

    def restore(self) -> None:
        """Puts everything back but the state of the engine, which is made of the restored programs later."""
        if self.saved is None:
            return
        loop, saved = self.loop, self.saved
        loop.model.load_state_dict(saved["model"])
        loop.guide.load_state_dict(saved["guide"])
        for kind, program in (("model", loop.model), ("guide", loop.guide)):
            for name, parameter in program.named_parameters():
                parameter.requires_grad_(name not in saved["frozen"][kind])
            restore_modules(program, saved["hidden"][kind])
            for name, value in saved["unsaved_buffers"][kind].items():
                owner, _, own = name.rpartition(".")
                setattr(program.get_submodule(owner), own, value.to(loop.model.device))
        for path, part in self.identity.stateful().items():
            if path in saved["stateful"]:
                part.load_state_dict(saved["stateful"][path])
        loop.stream.state = saved["stream"]
        if loop.stream.device_state is not None and saved["device_stream"] is not None:
            loop.stream.device_state = saved["device_stream"]
        loop.shuffle.set_state(saved["shuffle"])
        loop.best.load(saved["best"])
        tables = saved["held_out_tables"]
        loop.held_out_tables = tables and [table.to(loop.model.device) for table in tables]
        loop.history.extend(saved["history"])
        loop.step, loop.epoch = saved["step"], saved["epoch"]

    def restore_engine(self, engine: Engine) -> None:
        if self.saved is not None:
            engine.load(self.saved["engine"])
            self.saved = None

    def save(self, engine: Engine) -> None:
        """Writes the state of the fit after an epoch."""
        loop, moved = self.loop, self.identity.moved
        self.identity.record_changes()
        programs = {"model": loop.model, "guide": loop.guide}
        self.checkpoint.save(
            {
                "made_of": self.identity.made_of,
                "moved": sorted(moved),
                "patience": loop.svi.patience,
                "best": loop.best.state(),
                "model": loop.model.state_dict(),
                "guide": loop.guide.state_dict(),
                "frozen": {
                    kind: [n for n, p in program.named_parameters() if not p.requires_grad]
                    for kind, program in programs.items()
                },
                "hidden": {kind: module_states(kind, program, moved) for kind, program in programs.items()},
                "unsaved_buffers": {kind: _not_in_state(program) for kind, program in programs.items()},
                "stateful": {path: part.state_dict() for path, part in self.identity.stateful().items()},
                "engine": engine.state(),
                "stream": loop.stream.state,
                "device_stream": loop.stream.device_state,
                "shuffle": loop.shuffle.get_state(),
                "held_out_tables": loop.held_out_tables,
                "step": loop.step,
                "epoch": loop.epoch,
                "history": loop.history,
            }
        )


def _not_in_state(program: Program) -> dict[str, torch.Tensor]:
    """The buffers that a program leaves out of its state dict, and that training may change all the same."""
    held = program.state_dict()
    return {name: buffer for name, buffer in program.named_buffers() if name not in held}
