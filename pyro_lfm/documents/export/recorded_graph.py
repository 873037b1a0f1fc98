"""A function of a fit as a graph of tensor operations for any number of rows, recorded by ``torch.export``."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.func import functional_call

from pyro_lfm.documents.export.elementary_algebra import Decompositions, TooLarge
from pyro_lfm.documents.export.exported_parts import ExportedPart, Tensors
from pyro_lfm.documents.export.quiet import trial
from pyro_lfm.errors import DeclarationError, first_line

# The errors of torch for a program that looks at values of tensors, by the names of their classes.
_BY_VALUE = frozenset(
    "GuardOnDataDependentSymNode DataDependentOutputException DynamicOutputShapeException".split()
)


def _broadcast(tensors: list[Tensor]) -> list[Tensor]:
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return [tensor.expand(shape) for tensor in tensors]


# As one operation of several tensors it would make each of them seem to depend on the others.
_ALWAYS: Decompositions = {torch.ops.aten.broadcast_tensors.default: _broadcast}


@dataclass(frozen=True, eq=False)
class Recorded:
    """A recorded function.

    Attributes:
        part: the function. program: its graph. inputs: examples of the inputs that matter. outputs: the outputs for these.
    """

    part: ExportedPart
    program: ExportedProgram
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def evaluate(part: ExportedPart, inputs: Tensors) -> dict[str, Tensor]:
    """The outputs of a function, computed as the library computes them."""
    return evaluate_with(part, {}, inputs)


def evaluate_with(part: ExportedPart, weights: Tensors, inputs: Tensors) -> dict[str, Tensor]:
    """The same with other weights, by the names of parameters and buffers of the function."""
    with trial(part, part.outline.device), _reachable(part):
        own = {name for names in (part.named_parameters(), part.named_buffers()) for name, _ in names}
        given = {name: value for name, value in weights.items() if name in own}
        outputs: dict[str, Tensor] = functional_call(part, given, (dict(inputs),))
        return outputs


def record(part: ExportedPart, name: str, decompositions: Decompositions) -> Recorded:
    """Records a function, without the inputs on which no output depends.

    Args:
        name: of the function, for errors, such as "encode".
        decompositions: operations of torch that the graph must not hold, with what stands for them.

    Raises:
        DeclarationError: its Python looks at values of tensors, it draws random numbers, or torch cannot record it.
    """
    inputs = dict(part.examples)
    # Distributions keep what they compute first: that must be tensors, and not the symbols of a recording.
    evaluate(part, inputs)
    program = _program(part, inputs, name, decompositions)
    needed = _used(program, inputs)
    if not any(map(part.per_row, needed)):
        needed |= {next(filter(part.per_row, inputs))}  # it gives the number of rows
    if len(needed) < len(inputs):
        inputs = {n: value for n, value in inputs.items() if n in needed}
        program = _program(part, inputs, name, decompositions)
    random = sorted({str(n.target) for n in program.graph.nodes if _is_random(n)})
    if random:
        why = "; ".join({**part.obstacles}.values()) or f"it draws random numbers ({', '.join(random)})"
        raise DeclarationError(
            f"{name} cannot be exported: {why}, and a file draws none: leave this part out of parts="
        )
    return Recorded(part, program, inputs, evaluate(part, inputs))


def _program(
    part: ExportedPart, inputs: dict[str, Tensor], name: str, decompositions: Decompositions
) -> ExportedProgram:
    rows = Dim("rows")
    shapes = {n: {0: rows} if part.per_row(n) else None for n in inputs}
    try:
        # Where torch fails it prints what it has recorded.
        with trial(part, part.outline.device), _reachable(part), contextlib.redirect_stderr(io.StringIO()):
            program = torch.export.export(part, (inputs,), dynamic_shapes=(shapes,), strict=False)
            program = program.run_decompositions({**_ALWAYS, **decompositions})
            _without_dead_code(program)
            return program
    except DeclarationError as error:
        raise DeclarationError(f"{name} cannot be exported: {error}") from None
    except TooLarge as error:
        raise DeclarationError(
            f'{name} cannot be exported: {error}: give format="torch", or leave this part out of parts='
        ) from None
    except Exception as error:  # of any kind: torch runs the user's code
        raise DeclarationError(f"{name} cannot be exported: {_reason(error)}") from None


@contextlib.contextmanager
def _reachable(part: nn.Module) -> Iterator[None]:
    """The function without submodules behind a class attribute of the same name, which neither it nor torch can reach."""
    children = [(parent, *child) for parent in part.modules() for child in parent.named_children()]
    hidden = [each for each in children if getattr(each[0], each[1]) is not each[2]]
    for parent, name, _ in hidden:
        delattr(parent, name)
    try:
        yield
    finally:
        for parent, name, child in hidden:
            setattr(parent, name, child)


def _reason(error: BaseException) -> str:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    if _BY_VALUE & {type(link).__name__ for link in chain}:
        return (
            "its Python code looks at values of tensors, as in if or .item(), which a graph cannot: compute with "
            "torch.where or the like, or leave this part out of parts="
        )
    return (
        f"torch.export does not record it ({type(chain[-1]).__name__}: {first_line(chain[-1])}): write it in operations of "
        "torch alone, or leave this part out of parts="
    )


def _without_dead_code(program: ExportedProgram) -> None:
    """Removes operations on whose results nothing depends, random draws and checks of values included."""
    program.graph.eliminate_dead_code(_has_effect)
    program.graph_module.recompile()


def _has_effect(node: torch.fx.Node) -> bool:
    """Whether an operation matters although nothing uses its result: it changes a tensor in place."""
    if node.op in ("placeholder", "output"):
        return True
    schema: Any = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _is_random(node: torch.fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _used(program: ExportedProgram, inputs: dict[str, Tensor]) -> set[str]:
    """The names of the inputs on whose values some output depends, and not only on their number of rows."""
    size: Any = torch.ops.aten.sym_size.int
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    names = program.graph_signature.user_inputs
    return {
        name
        for name, node in zip(inputs, names, strict=True)
        if any(user.target is not size for user in nodes[str(node)].users)
    }
