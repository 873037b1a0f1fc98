"""All private names of torch and Pyro that compiled steps use: recording, native code, and facts about tensors.

``make_fx`` records a program as one flat graph of tensor operations, gradients included, and inductor turns it into native
code. If a release of torch or Pyro changes something here, tests/inference/test_compiled.py notices, as it compares compiled
with eager steps over all cases. So does the engine at run time, as it compares them too.
"""

from __future__ import annotations

import copy
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch._decomp import core_aten_decompositions
from torch._ops import OpOverload as Operation
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx
from torch.fx.node import Argument
from torch.nn.modules import module as modules
from torch.utils._python_dispatch import TorchDispatchMode as DispatchMode  # noqa: F401

# The versions that compiled steps were tested with, from (included) to (excluded).
TESTED = {"torch": ("2.13", "2.14"), "pyro-ppl": ("1.9", "1.10")}

# A function of tensors, as Python or as native code.
Function = Callable[..., Sequence[torch.Tensor]]


class NotRecordable(Exception):
    """A program that cannot be recorded as a graph of tensor operations."""


def untested() -> str | None:
    """The package whose version compiled steps were not tested with, in words; None if there is none."""
    for package, (first, end) in TESTED.items():
        installed = version(package)
        numbers = [tuple(map(int, number.split(".")[:2])) for number in (first, installed, end)]
        if not numbers[0] <= numbers[1] < numbers[2]:
            return (
                f"compiled steps were tested with {package} from {first} to before {end}; this is {installed}"
            )
    return None


# Facts about tensors and operations ----------------------------------------------------------------------

# Functions made in C that hand out the memory of a tensor, unnoticed by dispatch modes.
OUTSIDE = (torch._C._to_dlpack,)


# Functions made in C that draw until they accept.
BY_REJECTION = (torch._standard_gamma, torch._sample_dirichlet)


def memory(tensor: torch.Tensor) -> int | None:
    """The id of a tensor's memory, which views share; None where it is not known."""
    with torch._C.DisableTorchFunction():
        if tensor.layout is not torch.strided:
            return None
        return tensor.untyped_storage()._cdata


def is_random(operation: Operation) -> bool:
    """Whether an operation draws random numbers."""
    return torch.Tag.nondeterministic_seeded in operation.tags


def is_literal(operation: Operation) -> bool:
    """Whether an operation gives a tensor of numbers that stand in the program's text."""
    return operation in (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default)


def changes_arguments(operation: Operation) -> bool:
    """Whether an operation works in place."""
    return bool(operation._schema.is_mutable)


def unrecorded(operation: Operation, arguments: Sequence[Argument], options: dict[str, Argument]) -> Any:
    """The result of an operation, which is left out of the graph."""
    with disable_proxy_modes_tracing():
        return operation(*arguments, **options)


def gives_value(operation: Operation) -> bool:
    """Whether an operation gives a number to Python."""
    return torch.Tag.data_dependent_output in operation.tags


def shape_by_value(operation: Operation, arguments: Sequence[Argument]) -> bool:
    """Whether the shape of an operation's result depends on the values of a tensor."""
    if operation is not torch.ops.aten.index.Tensor:
        return torch.Tag.dynamic_output_shape in operation.tags
    indices: Any = arguments[1]
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def tensor_state(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Everything about a tensor but its values that a recorded graph depends on."""
    hooks = tensor._backward_hooks, tensor._post_accumulate_grad_hooks
    hooked = [tuple(map(id, h.values())) if h else None for h in hooks]
    return tensor.requires_grad, tensor.dtype, tensor.shape, *hooked


def settings(kind: str) -> dict[str, Any]:
    """The settings of the process that operations on a kind of device depend on."""
    everywhere = (
        *(modules._global_forward_hooks, modules._global_forward_pre_hooks),
        *(modules._global_backward_hooks, modules._global_backward_pre_hooks),
    )
    return {
        "torch.get_default_dtype": torch.get_default_dtype(),
        "torch.autocast": (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)),
        "torch.is_grad_enabled": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "torch.use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch.get_float32_matmul_precision": torch.get_float32_matmul_precision(),
        "validation of distributions": torch.distributions.Distribution._validate_args,
        "hooks of all modules": [tuple(map(id, hooks.values())) for hooks in everywhere],
    }


# Recording ----------------------------------------------------------------------------------------------


def nan_if_refused(
    accepted: torch.Tensor | None, first: torch.Tensor, *rest: torch.Tensor
) -> list[torch.Tensor]:
    """Outputs whose first is NaN where a distribution refuses its parameters, see ``record``."""
    return [first if accepted is None else torch.where(accepted, first, torch.nan), *rest]


def record(
    function: Function, inputs: Sequence[torch.Tensor], check: Function = nan_if_refused
) -> tuple[torch.fx.GraphModule, list[torch.Tensor]]:
    """The operations of ``check(accepted, *function(*inputs))`` as one graph, and the tensors for its further inputs.

    ``accepted`` tells whether all distributions accept their parameters, None where none was asked. Every tensor that is
    read and that existed before becomes one more input, so that the graph follows later changes in place.
    """

    def recorded(*arguments: torch.Tensor) -> Sequence[torch.Tensor]:
        with _without_values() as valid:
            outputs = function(*arguments)
        return check(torch.stack(valid).all() if valid else None, *outputs)

    try:
        graph = make_fx(recorded)(*inputs)
    except Exception as error:
        raise NotRecordable(_reason(error)) from error
    return graph, _lift(graph)


@contextmanager
def _without_values() -> Iterator[list[torch.Tensor]]:
    """On this thread, collects the checks of distributions as tensors instead of reading their values."""
    valid: list[torch.Tensor] = []
    here = threading.get_ident()
    patches: list[tuple[Any, str, Any]] = []

    def patch(module: ModuleType, name: str, instead: Callable[..., torch.Tensor | float]) -> None:
        original = getattr(module, name)
        patches.append((module, name, original))

        def either(*arguments: Any, **options: Any) -> Any:
            mine = threading.get_ident() == here
            return instead(*arguments, **options) if mine else original(*arguments, **options)

        setattr(module, name, either)

    def collect(value: torch.Tensor) -> bool:
        valid.append(value.all())
        return True

    patch(torch, "_is_all_true", collect)
    instead: dict[str, Callable[..., torch.Tensor | float]] = {
        # Detached, as a number has no gradient.
        "torch_item": lambda value: value.detach() if isinstance(value, torch.Tensor) else value,
        "warn_if_nan": lambda value, *_, **__: value,
        "warn_if_inf": lambda value, *_, **__: value,
    }
    for module in [module for name, module in sys.modules.items() if name.startswith("pyro.")]:
        for name in instead.keys() & vars(module).keys():
            patch(module, name, instead[name])
    try:
        yield valid
    finally:
        for module, name, original in reversed(patches):
            setattr(module, name, original)


def _lift(graph: torch.fx.GraphModule) -> list[torch.Tensor]:
    """Makes inputs of the tensors that a graph holds, except those of numbers in the program's text."""
    fresh = torch.ops.aten.lift_fresh_copy.default
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
    lifted: dict[int, tuple[torch.Tensor, torch.fx.Node]] = {}
    for node in [node for node in graph.graph.nodes if node.op == "get_attr"]:
        value = getattr(graph, node.target)
        if all(user.target is fresh for user in node.users):
            continue
        if id(value) not in lifted:
            with graph.graph.inserting_after(last):
                last = graph.graph.placeholder(f"external_{len(lifted)}")
            lifted[id(value)] = value, last
        node.replace_all_uses_with(lifted[id(value)][1])
        graph.graph.erase_node(node)
    graph.recompile()
    return [value for value, _ in lifted.values()]


def _reason(error: Exception) -> str:
    """What stopped a recording, and the line of the user's program, or of the library, where it did."""
    what = str(error).split("\n")[0]
    if "get value out of a tracing tensor" in what:
        what = "what it does depends on the value of a tensor"
    frames = traceback.extract_tb(error.__traceback__)
    inner = tuple(str(Path(sys.modules[name].__file__ or "").parent) for name in ("torch", "pyro"))
    outer = str(Path(__file__).parent)
    lines = [f for f in frames if f.line and not f.filename.startswith((*inner, outer))]
    own = str(Path(__file__).parents[2])
    users = [frame for frame in lines if not frame.filename.startswith(own)]
    for frame in (users or lines)[-1:]:
        what += f" in {Path(frame.filename).name}, line {frame.lineno}: {frame.line}"
    return what


def decomposed(graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> torch.fx.GraphModule:
    """The graph by few operations, none of them in place but on inputs, with the shape of each result in ``node.meta``.

    Random operations stay as they are.
    """
    few = {name: rule for name, rule in core_aten_decompositions().items() if not is_random(name)}
    functional = torch.func.functionalize(graph, remove="mutations")
    try:
        return make_fx(functional, decomposition_table=few, tracing_mode="fake")(*inputs)
    except Exception as error:  # torch's own rules may fail in any way
        raise NotRecordable(f"torch cannot decompose it: {str(error).splitlines()[:1]}") from error


# Native code --------------------------------------------------------------------------------------------


def native(graph: torch.fx.GraphModule, inputs: Sequence[torch.Tensor]) -> Function:
    """The graph as native code for inputs of these shapes. It draws the random numbers that eager would draw."""
    for node in graph.graph.nodes:
        node.meta.clear()
    on_cpu = all(value.device.type == "cpu" for value in inputs)
    failed: Exception | None = None
    # The wrapper in C++ saves some microseconds at every step, but does not know all operations.
    for cpp_wrapper in (True, False) if on_cpu else (False,):
        options = {"fallback_random": True, "cpp_wrapper": cpp_wrapper}
        try:
            with torch.no_grad(), _quiet_compiler():
                return torch._inductor.compile(copy.deepcopy(graph), list(inputs), options=options)
        except Exception as error:
            failed = error
    raise NotRecordable(f"the compiler failed: {str(failed).splitlines()[0]}") from failed


@contextmanager
def _quiet_compiler() -> Iterator[None]:
    """Silences inductor's warnings about its own code."""
    log = logging.getLogger("torch._inductor.ir")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
