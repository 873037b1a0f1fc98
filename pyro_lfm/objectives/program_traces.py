"""Traces of models and guides, for objectives: by Pyro, or directly where that gives the same trace."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from pyro import poutine
from pyro.poutine.trace_struct import Trace

from pyro_lfm.objectives.enumeration import SumOut
from pyro_lfm.objectives.handlers import Draws
from pyro_lfm.objectives.trace_sites import Arguments, Keywords, PyroProgram
from pyro_lfm.programs.program import Program
from pyro_lfm.programs.statements import Direct, OtherStatement
from pyro_lfm.runtime import handlers, in_isolation

# Whether the statements of a declared program are all that it does, which its first trace shows: a network of the user may
# hold statements of its own.
_ALONE: WeakKeyDictionary[Program, bool] = WeakKeyDictionary()


def trace_of(
    program: PyroProgram,
    args: Arguments,
    kwargs: Keywords,
    given: SumOut | None = None,
    seen: Trace | None = None,
) -> Trace:
    """A run of a program.

    A declared program runs without Pyro's handlers where there are none but plates of draws.

    Args:
        given: the latents that take all their values.
        seen: the trace whose values its statements take.
    """
    if isinstance(program, Program) and _ALONE.get(program) and in_isolation():
        plates = [handler for handler in reversed(handlers()) if isinstance(handler, Draws)]
        if len(plates) == len(handlers()):
            direct = Direct(seen, given.values if given else {}, plates)
            try:
                with direct:
                    program(*args, **kwargs)
                return direct.recorded
            except OtherStatement:
                _ALONE[program] = False
    run = program if seen is None else poutine.replay(program, trace=seen)
    trace = poutine.trace(run if given is None else given(run)).get_trace(*args, **kwargs)
    if isinstance(program, Program) and program not in _ALONE:
        own = {"_INPUT", "_RETURN", "rows", *(program.statements or ())}
        _ALONE[program] = program.statements is not None and own >= trace.nodes.keys()
    return trace
