"""What of a fit is kept in its checkpoint, and how a fit takes it up again."""

from __future__ import annotations

from typing import Any

import torch

from pyro_lfm.data.digests import of_rows
from pyro_lfm.documents.identity.version import library_version
from pyro_lfm.inference.engines.engine import Engine
from pyro_lfm.inference.svi.checkpoint import Checkpoint, Journal
from pyro_lfm.inference.svi.module_attributes import restore, state_of
from pyro_lfm.programs.program import Program
from pyro_lfm.schedules import value_ahead

# The arguments of lfm.SVI that must be the same when a fit is taken up again.
_SAME = ("optimizer", "learning_rate", "clip_norm", "drop_last", "alternate")


class Resuming:
    """Saves the state of a loop after every epoch, and puts it back.

    Args:
        loop: the ``Loop`` of the fit. checkpoint: the file.

    Raises:
        CheckpointError: the file belongs to another fit; nothing was changed.
    """

    def __init__(self, loop: Any, checkpoint: Checkpoint):
        self.loop, self.checkpoint = loop, checkpoint
        svi = loop.svi
        for name, schedule in loop.schedules.items():
            value_ahead(name, schedule, 0.0)  # refuses those that cannot be taken up again
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
            # Where parameters start, which the programs no longer hold.
            "declared": {"model": _declared(loop.model), "guide": _declared(loop.guide)},
        }
        self.journal = Journal(fixed, parts)
        self.saved = checkpoint.load()
        if self.saved is not None:
            self._check(self.saved)

    def _check(self, saved: dict[str, Any]) -> None:
        loop = self.loop
        self.checkpoint.check_shapes(saved, {"model": loop.model, "guide": loop.guide})
        made_of = self.journal.made_of
        if loop.svi.patience and saved["patience"] is None:
            made_of["patience"] = str(loop.svi.patience)
        self.checkpoint.check(saved, made_of)
        if saved["step"] > loop.total_steps:
            raise self.checkpoint.refused(
                f"a longer fit: it has done {saved['epoch']} epochs ({saved['step']} steps), now {loop.total_steps} steps "
                "are asked for"
            )
        # What the training changed before is no difference afterwards either.
        self.journal.moved = set(saved["moved"])

    def restore(self) -> None:
        """Everything but the engine's state, which is made of what this has put back."""
        if self.saved is None:
            return
        loop, saved = self.loop, self.saved
        loop.model.load_state_dict(saved["model"])
        loop.guide.load_state_dict(saved["guide"])
        for kind, program in (("model", loop.model), ("guide", loop.guide)):
            for name, parameter in program.named_parameters():
                parameter.requires_grad_(name not in saved["frozen"][kind])
            restore(program, saved["hidden"][kind])
            for name, value in saved["unsaved_buffers"][kind].items():
                owner, _, own = name.rpartition(".")
                setattr(program.get_submodule(owner), own, value.to(loop.model.device))
        for path, part in self.journal.stateful().items():
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
        """Writes what has come of the fit so far."""
        loop = self.loop
        self.journal.look()
        programs = {"model": loop.model, "guide": loop.guide}
        self.checkpoint.save(
            {
                "made_of": self.journal.made_of,
                "moved": sorted(self.journal.moved),
                "patience": loop.svi.patience,
                "best": loop.best.state(),
                **{kind: program.state_dict() for kind, program in programs.items()},
                "frozen": {
                    kind: [n for n, p in program.named_parameters() if not p.requires_grad]
                    for kind, program in programs.items()
                },
                "hidden": {
                    kind: state_of(kind, program, self.journal.moved) for kind, program in programs.items()
                },
                "unsaved_buffers": {kind: _not_in_state(program) for kind, program in programs.items()},
                "stateful": {path: part.state_dict() for path, part in self.journal.stateful().items()},
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


def _declared(program: Program) -> dict[str, list[Any]]:
    """The sources of each factor as they were declared."""
    factors = getattr(program, "factors", {})
    return {name: factor.declared_sources for name, factor in factors.items()}


def _not_in_state(program: Program) -> dict[str, torch.Tensor]:
    """The buffers that a module leaves out of its state, which training may move all the same."""
    held = program.state_dict()
    return {name: buffer for name, buffer in program.named_buffers() if name not in held}
