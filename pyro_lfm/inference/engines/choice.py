"""``choose``: the engine of a fit, by a rough estimate of what compiling costs and saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from pyro_lfm.errors import DeclarationError, warn
from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.compiled import LOG, Compiled
from pyro_lfm.inference.engines.eager import Eager
from pyro_lfm.inference.engines.engine import Engine, Setup
from pyro_lfm.inference.engines.pyro_svi import Pyro
from pyro_lfm.inference.engines.recorded_step import Compiler, inductor, replayed
from pyro_lfm.inference.svi.optimizer_states import EngineState
from pyro_lfm.warning_kinds import CompilationWarning

ENGINES = ("auto", "xla", "compiled", "eager", "pyro")

# Rough figures of a slow CPU for what compiling costs and saves. The declaration and the data alone decide, never a clock,
# so that a seed repeats a fit bit for bit.
COMPILING = 20.0  # seconds to record a step and make it native by torch's compiler, with nothing cached
BY_XLA = 3.0  # the same by XLA
RECORDING = 0.15  # seconds to watch and record a step alone
HANDLERS = 1e-3  # seconds that Pyro's handlers take at every step
FUSED = 0.2  # of the time of the operations, saved by fusing those between matrix products
OPERATIONS = 5e10  # floating-point operations per second
# "auto" does the first steps in eager, so that the first results come as soon: an epoch, but no more than this.
FIRST = 1000
FIRST_BY_XLA = 20
FIRST_REPLAYED = 5


def saving(setup: Setup, batch_size: int) -> float:
    """About how many seconds a compiled step is shorter than an eager one."""
    # A step's operations are three times those of an evaluation: one product forward, two backward.
    return HANDLERS + 3 * fused(setup, batch_size)


def fused(setup: Setup, rows: int) -> float:
    """About how many seconds fusing the operations saves in one evaluation of so many rows."""
    tables = {id(table.rows) for program in setup.programs for table in program.tables}
    weights = sum(
        p.numel() for program in setup.programs for p in program.parameters() if id(p) not in tables
    )
    # A multiplication and an addition for every weight and row.
    return FUSED * 2 * weights * rows / OPERATIONS


def choose(
    name: str,
    setup: Setup,
    total_steps: int,
    batch_size: int,
    drop_last: bool = False,
    before: EngineState | None = None,
) -> Engine:
    """The engine of a fit.

    Args:
        name: "auto", "xla", "compiled", "eager" or "pyro".
        total_steps: the most steps of the fit.
        batch_size: rows of all batches but the last of an epoch, which ``drop_last`` leaves out.
        before: the state of the engine of a fit of the same length that goes on: "auto" chooses that engine again.

    Raises:
        ImportError: "xla" without JAX.
        DeclarationError: "xla" on a GPU, or beside workers that are forked.
    """
    if name == "auto" and before is not None:
        if (native := before.get("native")) is not None:
            served = [name for name in native["compilers"] if name != "xla" or xla_serves(setup)]
            kind = Native(served or ["torch"], insist=False)
            return kind.engine(setup, frozenset(native["sizes"]), native["after"])
        name = "eager"
    if name == "pyro":
        return Pyro(setup)
    if name == "eager":
        return Eager(setup)
    if name == "xla":
        check_xla(setup)
    by_xla = xla_serves(setup)
    cost = BY_XLA if by_xla else COMPILING
    full, rest = divmod(setup.total, batch_size)
    rest = 0 if drop_last else rest
    epochs, further = divmod(total_steps, full + (rest > 0))
    # The number of steps of each batch size.
    steps = {batch_size: epochs * full + min(further, full)}
    if rest:
        steps[rest] = epochs
    after = 0 if name != "auto" else min(FIRST_BY_XLA if by_xla else FIRST, full + (rest > 0))
    gains = {
        size: (count - after * (size == batch_size)) * saving(setup, size) for size, count in steps.items()
    }
    sizes = {size for size, gain in gains.items() if gain > cost}
    untested = tracing.untested()
    if name != "auto":
        if untested:
            warn(f"{untested}; each step is compared with eager all the same", CompilationWarning)
        sizes.add(batch_size)
    elif untested:
        LOG.info('engine: eager, as %s: engine="compiled" tries it', untested)
        return Eager(setup)
    elif not sizes:
        return _without_compiler(setup, steps)
    by = "XLA" if by_xla else "torch's compiler"
    LOG.info(
        "engine: compiled by %s for batches of %s rows after %d steps, which saves about %.0f s and takes about %.0f s",
        by, " and ".join(map(str, sorted(sizes))), after, sum(gains[size] for size in sizes), cost * len(sizes),
    )  # fmt: skip
    # What XLA cannot do is left to torch's compiler, where that pays too.
    other = name == "compiled" or (name == "auto" and min(gains[size] for size in sizes) > COMPILING)
    compilers = ["xla"] * by_xla + ["torch"] * (other or not by_xla) + ["replay"] * (name == "auto")
    return Native(compilers, insist=name != "auto").engine(setup, frozenset(sizes), after)


def _without_compiler(setup: Setup, steps: dict[int, int]) -> Engine:
    """The engine of a fit in which compiling does not pay: recorded steps are replayed where that pays.

    Args:
        steps: their number by batch size.
    """
    # A replay does without Pyro's handlers and without autograd.
    gains = {size: (count - FIRST_REPLAYED) * HANDLERS for size, count in steps.items()}
    sizes = frozenset(size for size, gain in gains.items() if gain > RECORDING)
    if not sizes:
        LOG.info("engine: eager, as recording a step would save about %.1f s", max(0.0, *gains.values()))
        return Eager(setup)
    LOG.info(
        "engine: steps are replayed after %d steps, as compiling them takes longer than it saves",
        FIRST_REPLAYED,
    )
    return Native(["replay"], insist=False).engine(setup, sizes, FIRST_REPLAYED)


@dataclass(frozen=True)
class Native:
    """How recorded steps are done.

    Args:
        compilers: "xla", "torch" or "replay". Each is tried where those before it cannot make native code of a step.
        insist: whether a program that cannot be compiled gets a warning, or only a line in the log.
    """

    compilers: Sequence[str]
    insist: bool = True

    def engine(self, setup: Setup, sizes: frozenset[int], after: int) -> Engine:
        made: dict[str, Compiler] = {"torch": inductor, "replay": replayed}
        kind = Compiled
        if "xla" in self.compilers:
            # JAX is imported by fits that use it.
            from pyro_lfm.inference.engines.xla.block_engine import Xla
            from pyro_lfm.inference.engines.xla.compiled_step import XlaStep

            kind, made["xla"] = Xla, XlaStep
        return kind(setup, sizes, after, self.insist, {name: made[name] for name in self.compilers})


def xla_serves(setup: Setup) -> bool:
    """Whether XLA can train these programs: JAX is installed, they are on a CPU, and no workers are forked."""
    return setup.model.device.type == "cpu" and not setup.forks and find_spec("jax") is not None


def check_xla(setup: Setup) -> None:
    """Refuses engine="xla" where there is no XLA."""
    if find_spec("jax") is None:
        raise ImportError("engine=\"xla\" needs JAX: pip install 'pyro_lfm[jax]'")
    if setup.model.device.type != "cpu":
        raise DeclarationError(
            f'engine="xla" trains on the CPU; the model is on {setup.model.device}: use engine="compiled"'
        )
    if setup.forks:
        raise DeclarationError(
            'engine="xla" runs threads that forked workers do not survive: leave workers= out, or use engine="compiled"'
        )
