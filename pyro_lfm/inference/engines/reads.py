"""``Reads``: the Python code that ran during a step, and so the values outside the graph that it may have read."""

from __future__ import annotations

import dis
import gc
import io
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import torch

from pyro_lfm.inference.engines import tracing

# Packages whose code is not watched: the globals of their functions do not change.
_OWN = {"torch", "pyro", "pyro_lfm", "numpy", "opt_einsum"}
_LIBRARIES = _OWN | sys.stdlib_module_names - {"__main__"}
# Functions whose result does not follow from values in memory.
_FROM_OUTSIDE = frozenset(
    [
        *(f for name, f in vars(time).items() if callable(f) and not isinstance(f, type) and name != "sleep"),
        *(os.stat, os.listdir, os.scandir, os.getcwd, os.write, input),
        *(datetime.now, datetime.utcnow, datetime.today, date.today),
        *tracing.OUTSIDE,
    ]
) | (_WHOEVER := frozenset([os.urandom, os.open, os.read, open, io.open_code]))
_MODULES_OUTSIDE = {"subprocess", "socket", "secrets", "tempfile", "urllib", "http", "multiprocessing"}
_EXTENDED, _LOAD_ATTR, _LOAD_METHOD, _LOAD_SUPER, _IMPORT_FROM = map(
    dis.opmap.get, ("EXTENDED_ARG", "LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM")
)
# From Python 3.12 one instruction loads attributes and methods; its lowest bit says which.
_ONE_FOR_BOTH = sys.version_info >= (3, 12)
_SEEDING = {"manual_seed", "seed", "set_state"}
# Names by which code may read an attribute whose name does not stand in it.
_ANY_NAME = frozenset(
    "getattr vars __dict__ __getattribute__ attrgetter eval exec globals locals asdict astuple fields "
    "copy deepcopy replace dumps getmembers".split()
)


def is_library(module: str | None) -> bool:
    """Whether the module of this name belongs to one of the packages that are not watched."""
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


def is_outside(function: BuiltinFunctionType) -> bool:
    """Whether the result of a function made in C does not follow from values in memory."""
    try:
        return function in _FROM_OUTSIDE
    except TypeError:  # not hashable
        return False


class ReadNames:
    """The names of the attributes that some code may have read.

    Args:
        attributes: names that are read; None where any may be.
        methods: names that are called at once, as in ``x.log()``: only values that can be called count.
        near: the attributes that are read by code outside the libraries, or in this one.
    """

    def __init__(
        self,
        attributes: Collection[str] | None,
        methods: Collection[str] = (),
        near: Collection[str] = (),
    ):
        self.attributes = None if attributes is None else frozenset(attributes)
        self.methods, self.near = frozenset(methods), frozenset(near)

    def of(self, kind: type, own: Collection[str] = ()) -> ReadNames:
        """The names that may have been read of an object of a class; those of ``own`` are read in any case.

        The code of a library reads only those attributes of a user's class whose names stand in its own bases of the class.
        """
        if self.attributes is None:
            return self
        attributes: Collection[str] = self.attributes
        if not is_library(kind.__module__):
            of_bases = {
                name for base in kind.__mro__ if is_library(base.__module__) for name in _names_in(base)
            }
            attributes = self.near | (self.attributes & of_bases)
        return ReadNames({*attributes, *own}, self.methods)

    def counts(self, name: str, *values: Any) -> bool:
        """Whether an attribute of this name, which has these values, may have been read."""
        if self.attributes is None or name in self.attributes:
            return True
        return name in self.methods and any(map(callable, values))


# All names, as of the entries of a dict.
ALL = ReadNames(None)


class _Ran(NamedTuple):
    """Code that ran, and the globals that it read from."""

    code: CodeType
    namespace: dict[str, Any]


class Reads:
    """The code that ran in some steps, and the names that stand in it.

    Attributes:
        names: the attributes that the code may have read; None where it may have read any.
        near: those of them whose names stand in code outside the libraries, or in this one.
        methods: the names that the code calls at once, as in ``x.log()``.
        written: the names in code outside the libraries.
        modules: {id: (globals, names)} of the globals that code outside the libraries read.
        functions: the functions outside the libraries that ran, wherever they are held.
        outside: what the last step did beside reading memory, such as reading a clock, in words.
        new: whether the last step ran code that no step before it ran.
    """

    def __init__(self) -> None:
        self.codes: dict[int, CodeType] = {}
        self.names: set[str] | None = set()
        self.near: set[str] = set()
        self.methods: set[str] = set()
        self.written: set[str] = set()
        self.modules: dict[int, tuple[dict[str, Any], set[str]]] = {}
        self.imported: dict[str, Any] = {}
        self.functions: list[FunctionType] = []
        self.outside: str | None = None
        self.new = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """The context of a step on this thread."""
        ran: dict[int, _Ran] = {}
        self.outside = None
        known = self.codes

        def see(frame: FrameType, event: str, argument: Any) -> None:
            if event == "call":
                code = frame.f_code
                if id(code) not in known and id(code) not in ran:
                    ran[id(code)] = _Ran(code, frame.f_globals)
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
            self.outside, self.new = "a profiler is running", False
            yield
            return
        # Python collects garbage at moments of its own, and may then run code of anybody's: finalizers, callbacks.
        collects = gc.isenabled()
        gc.disable()
        sys.setprofile(see)
        try:
            yield
        finally:
            sys.setprofile(before)
            if collects:
                gc.enable()
            self.new = bool(ran)
            self._add(ran)

    def _add(self, ran: dict[int, _Ran]) -> None:
        users = []
        for number, each in ran.items():
            self.codes[number] = code = each.code
            attributes, methods = _names_read(code)
            module = each.namespace.get("__name__")
            if not is_library(module):
                users.append(code)
                attributes |= self._add_written(each)
            self.methods |= methods
            if not is_library(module) or str(module).startswith("pyro_lfm"):
                self.near |= attributes
            if self.names is not None:
                self.names |= attributes
        if users:
            # Wherever they are held: in a module, a closure, a registry.
            held = {id(code) for code in users}
            self.functions += [
                f for f in gc.get_referrers(*users) if isinstance(f, FunctionType) and id(f.__code__) in held
            ]

    def _add_written(self, ran: _Ran) -> set[str]:
        """Adds the names that code outside the libraries reads, and gives the names of further attributes."""
        code, namespace = ran
        self.written.update(code.co_names)
        instructions = [*dis.get_instructions(code)]
        if _ANY_NAME & set(code.co_names):
            self.names = None
        _, names = self.modules.setdefault(id(namespace), (namespace, set()))
        for instruction in instructions:
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
                names.add(instruction.argval)
            elif instruction.opname == "IMPORT_NAME" and instruction.argval in sys.modules:
                self.imported[instruction.argval] = sys.modules[instruction.argval]
        strings = {constant for constant in code.co_consts if isinstance(constant, str)}
        if "globals" in code.co_names:
            names |= strings
        # Attributes that it changes count too: hidden state must be the same as after eager steps.
        return strings | {i.argval for i in instructions if i.opname in ("STORE_ATTR", "DELETE_ATTR")}


def _names_in(kind: type) -> Iterator[str]:
    """The names in the code of a class."""
    for value in vars(kind).values():
        parts = (value, *(getattr(value, part, None) for part in ("fget", "__func__", "func", "__wrapped__")))
        for function in parts:
            if isinstance(function, FunctionType):
                yield from function.__code__.co_names


def _names_read(code: CodeType) -> tuple[set[str], set[str]]:
    """The names of the attributes that code reads, and of the methods that it calls at once."""
    names, wide = code.co_names, 0
    attributes: set[str] = set()
    methods: set[str] = set()
    for operation, argument in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument |= wide
        wide = argument << 8 if operation == _EXTENDED else 0
        if operation == _LOAD_ATTR and _ONE_FOR_BOTH:
            (methods if argument & 1 else attributes).add(names[argument >> 1])
        elif operation == _LOAD_ATTR:
            attributes.add(names[argument])
        elif operation == _LOAD_METHOD:
            methods.add(names[argument])
        elif operation == _LOAD_SUPER:
            attributes.add(names[argument >> 2])
        elif operation == _IMPORT_FROM:
            attributes.add(names[argument])
    return attributes, methods


def _outside(function: BuiltinFunctionType, frame: FrameType) -> str | None:
    """What a call of a function made in C reads or writes beside memory, in words; None if nothing."""
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__name__", "")
    if isinstance(owner, torch.Generator) and name in _SEEDING:
        if _caller(frame, ("torch",)) == "pyro_lfm":
            return None
        return f"it seeds random numbers ({name}){_place(frame)}"
    # The libraries read clocks and paths for purposes of their own.
    if is_outside(function) and (function in _WHOEVER or _caller(frame, ()) not in _OWN):
        return f"it reads values outside the program ({name}){_place(frame)}"
    if function is print or isinstance(owner, io.IOBase):
        return f"it writes or reads a file or the screen ({name}){_place(frame)}"
    return None


def _caller(frame: FrameType | None, without: tuple[str, ...]) -> str:
    """The package that a call comes from, the standard library and those in ``without`` skipped."""
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
