"""``choose``: the engine of a fit, by a rough estimate of what compiling costs and saves."""

from __future__ import annotations

from pyro_lfm.errors import CompilationWarning, warn
from pyro_lfm.inference.engines import tracing
from pyro_lfm.inference.engines.compiled import LOG, Compiled
from pyro_lfm.inference.engines.eager import Eager
from pyro_lfm.inference.engines.engine import Engine, Setup
from pyro_lfm.inference.engines.pyro_svi import Pyro
from pyro_lfm.inference.svi.optimizer_states import EngineState

ENGINES = ("auto", "compiled", "eager", "pyro")

# Rough figures of a slow CPU for what compiling costs and saves. The declaration and the data alone decide, never a clock,
# so that a seed repeats a fit bit for bit.
COMPILING = 20.0  # seconds to record a step and make it native, with nothing cached
HANDLERS = 1e-3  # seconds that Pyro's handlers take at every step
FUSED = 0.2  # of the time of the operations, saved by fusing those between matrix products
OPERATIONS = 5e10  # floating-point operations per second
# "auto" does the first epoch in eager, so that the first result comes as soon, but no more steps than this.
FIRST = 1000


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
        name: "auto", "compiled", "eager" or "pyro".
        total_steps: the most steps of the fit.
        batch_size: rows of all batches but the last of an epoch, which ``drop_last`` leaves out.
        before: the state of the engine of a fit of the same length that goes on: "auto" chooses that engine again.
    """
    if name == "auto" and before is not None:
        if (native := before.get("native")) is not None:
            return Compiled(setup, frozenset(native["sizes"]), native["after"], insist=False)
        name = "eager"
    if name == "pyro":
        return Pyro(setup)
    if name == "eager":
        return Eager(setup)
    full, rest = divmod(setup.total, batch_size)
    rest = 0 if drop_last else rest
    epochs, further = divmod(total_steps, full + (rest > 0))
    # The number of steps of each batch size.
    steps = {batch_size: epochs * full + min(further, full)}
    if rest:
        steps[rest] = epochs
    after = 0 if name == "compiled" else min(FIRST, full + (rest > 0))
    gains = {
        size: (count - after * (size == batch_size)) * saving(setup, size) for size, count in steps.items()
    }
    sizes = {size for size, gain in gains.items() if gain > COMPILING}
    untested = tracing.untested()
    if name == "compiled":
        if untested:
            warn(f"{untested}; each step is compared with eager all the same", CompilationWarning)
        sizes.add(batch_size)
    elif not sizes:
        LOG.info(
            "engine: eager, as compiling would save about %.1f s and take about %.0f s",
            max(0.0, *gains.values()),
            COMPILING,
        )
        return Eager(setup)
    elif untested:
        LOG.info('engine: eager, as %s: engine="compiled" tries it', untested)
        return Eager(setup)
    LOG.info(
        "engine: compiled for batches of %s rows after %d steps, which saves about %.0f s and takes about %.0f s",
        " and ".join(map(str, sorted(sizes))), after, sum(gains[size] for size in sizes), COMPILING * len(sizes),
    )  # fmt: skip
    return Compiled(setup, frozenset(sizes), after, insist=name == "compiled")
