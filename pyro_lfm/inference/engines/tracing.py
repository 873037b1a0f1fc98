"""Private names of torch that recorded steps use: facts about tensors and operations, and native code by inductor.

If a release of torch changes something here, tests/inference/test_compiled.py notices, as it compares compiled with eager
steps over all cases. So does the engine at run time, as it compares them too.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from torch._decomp import core_aten_decompositions
from torch._ops import OpOverload as Operation
from torch.fx.node import Argument
from torch.nn.modules import module as modules
from torch.utils._python_dispatch import TorchDispatchMode

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


class DispatchMode(TorchDispatchMode):
    """A context that sees each operation on tensors. It does not import torch's compiler, as torch's own class does."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


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


def direct(operation: Operation) -> Function:
    """An operation without the call in Python around it."""
    function: Function = operation._op
    return function


def into_new(operation: Operation) -> Operation | None:
    """The operation that gives in a new tensor what another one does in place; None where there is none."""
    name = operation.overloadpacket.__name__
    packet = getattr(
        torch.ops.aten, "normal_functional" if name == "normal_" else name.removesuffix("_"), None
    )
    new: Operation | None = getattr(packet, operation._overloadname, None)
    alike = new is not None and len(new._schema.arguments) == len(operation._schema.arguments)
    return new if alike else None


def rules_for_others(kept: Collection[str]) -> dict[Operation, Function]:
    """How operations are done by few others, but for random ones and those of these names."""
    return {
        operation: rule
        for operation, rule in core_aten_decompositions().items()
        if operation.overloadpacket.__name__ not in kept and not is_random(operation)
    }


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
