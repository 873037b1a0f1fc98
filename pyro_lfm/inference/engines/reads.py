"""What Python code ran during a step, and so which values outside the graph it may have read."""

from __future__ import annotations

import dis
import gc
import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch

from pyro_lfm.inference.engines import tracing

# Code of these packages is read by its authors alone: what its functions hold as globals does not change.
_OWN = {"torch", "pyro", "pyro_lfm", "numpy", "opt_einsum"}
_LIBRARIES = _OWN | sys.stdlib_module_names - {"__main__"}
# Functions whose result no value in memory decides.
_FROM_OUTSIDE = frozenset(
    [
        *(f for name, f in vars(time).items() if callable(f) and not isinstance(f, type) and name != "sleep"),
        *(os.stat, os.listdir, os.scandir, os.getcwd, os.write, input),
        *(datetime.now, datetime.utcnow, datetime.today, date.today),
        *tracing.OUTSIDE,
    ]
) | (_WHOEVER := frozenset([os.urandom, os.open, os.read, open, io.open_code]))
_MODULES_OUTSIDE = {"subprocess", "socket", "secrets", "tempfile", "urllib", "http", "multiprocessing"}
_SEEDING = {"manual_seed", "seed", "set_state"}
# Names by which code may reach an attribute that is not written out in it.
_ANY_NAME = frozenset(
    "getattr vars __dict__ __getattribute__ attrgetter eval exec globals locals asdict astuple fields "
    "copy deepcopy replace dumps getmembers".split()
)


def is_library(module: Any) -> bool:
    """Whether a module, by its name, belongs to one of the packages that are not watched."""
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


def is_outside(function: Any) -> bool:
    """Whether a function made in C gives what no value in memory decides."""
    try:
        return function in _FROM_OUTSIDE
    except TypeError:  # not hashable
        return False


class Reads:
    """The code that ran in some steps, and the names that stand in it.

    Attributes:
        names: of all attributes that the code may have read; None where it may have read any.
        modules: {id: (globals, names)} of the globals that code outside the libraries read.
        functions: those outside the libraries that ran, wherever they are held.
        outside: what the last step did beyond the reach of memory, such as reading a clock, in words.
    """

    def __init__(self) -> None:
        self.codes: dict[int, CodeType] = {}
        self.names: set[str] | None = set()
        self.written: set[str] = set()  # the names in code outside the libraries
        self.modules: dict[int, tuple[dict[str, Any], set[str]]] = {}
        self.imported: dict[str, Any] = {}
        self.functions: list[FunctionType] = []
        self.outside: str | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The time of a step on this thread."""
        ran: dict[int, tuple[CodeType, dict[str, Any]]] = {}
        self.outside = None
        known = self.codes

        def see(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call":
                code = frame.f_code
                if id(code) not in known and id(code) not in ran:
                    ran[id(code)] = code, frame.f_globals
                elif self.outside is None and code.co_filename in files:
                    self.outside = f"it calls {files[code.co_filename]}"
            elif event == "c_call" and self.outside is None:
                self.outside = _outside(argument, frame)

        files = {
            module.__file__: name
            for name in _MODULES_OUTSIDE
            if (module := sys.modules.get(name)) is not None and module.__file__
        }
        before = sys.getprofile()
        if before is not None and not callable(before):
            self.outside = "a profiler is running"
            yield
            return
        sys.setprofile(see)
        try:
            yield
        finally:
            sys.setprofile(before)
            self.new = bool(ran)
            self._add(ran)

    def _add(self, ran: dict[int, tuple[CodeType, dict[str, Any]]]) -> None:
        users = []
        for number, (code, namespace) in ran.items():
            self.codes[number] = code
            if self.names is not None:
                self.names.update(code.co_names)
            if not is_library(namespace.get("__name__")):
                users.append(code)
                self._add_written(code, namespace)
        if users:
            # Wherever they are held: in a module, a closure, a registry.
            held = {id(code) for code in users}
            self.functions += [
                f
                for f in gc.get_referrers(*users)
                if isinstance(f, FunctionType) and id(f.__code__) in held
            ]

    def _add_written(self, code: CodeType, namespace: dict[str, Any]) -> None:
        self.written.update(code.co_names)
        strings = {constant for constant in code.co_consts if isinstance(constant, str)}
        if self.names is not None:
            self.names |= strings
        if _ANY_NAME & set(code.co_names):
            self.names = None
        _, names = self.modules.setdefault(id(namespace), (namespace, set()))
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
                names.add(instruction.argval)
            elif instruction.opname == "IMPORT_NAME" and instruction.argval in sys.modules:
                self.imported[instruction.argval] = sys.modules[instruction.argval]


def _outside(function: Any, frame: FrameType) -> str | None:
    """What a call of a function made in C reads or writes that is not in memory, in words."""
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", "")
    if isinstance(owner, torch.Generator) and name in _SEEDING:
        if _caller(frame, ("torch",)) == "pyro_lfm":
            return None
        return f"it seeds random numbers ({name}){_place(frame)}"
    # The libraries look at clocks and paths for their own sake.
    if is_outside(function) and (function in _WHOEVER or _caller(frame, ()) not in _OWN):
        return f"it reads what is outside the program ({name}){_place(frame)}"
    if function is print or isinstance(owner, io.IOBase):
        return f"it writes or reads a file or the screen ({name}){_place(frame)}"
    return None


def _caller(frame: FrameType | None, without: tuple[str, ...]) -> str:
    """The package that a call comes from, but for the standard library and some others."""
    while frame is not None:
        top = str(frame.f_globals.get("__name__")).partition(".")[0]
        if top not in without and (top not in sys.stdlib_module_names or top == "__main__"):
            return top
        frame = frame.f_back
    return ""


def _place(frame: FrameType | None) -> str:
    """The line of the user's program that a call comes from, in words."""
    while frame is not None:
        if not is_library(frame.f_globals.get("__name__")):
            return f" in {os.path.basename(frame.f_code.co_filename)}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""
