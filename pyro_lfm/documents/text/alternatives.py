"""The values that an argument of a part may take, as its annotation says them: words, a check, and a JSON schema."""

from __future__ import annotations

import ast
import builtins
import sys
import typing
from dataclasses import dataclass
from typing import Any

from pyro_lfm.declarations import Part
from pyro_lfm.documents.text.registry import suggestion

# Names in annotations that stand for several alternatives.
_ALIASES = {
    "SourceLike": ("source", "function", "str", "None"),
    "Weight": ("float", "function"),
    "Numbers": ("numbers",),
    "ArrayLike": ("numbers",),
    "Tensor": ("numbers",),
    "Module": ("function",),
    "Callable": ("function",),
    "Constraint": ("constraint",),
    "Any": ("anything",),
}
# The key of a reference to a definition of the whole document, see ``json_schema``.
DEFINED = "x-defined"
_PLAIN = {"int", "float", "bool", "str", "None", "NoneType"}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a string",
    "int list": "a list of whole numbers",
    "str list": "a list of strings",
    "numbers": "a number or a list of numbers",
    "source": "a source such as MLP(64)",
    "function": "the name of a registered function",
    "optimizer": 'an optimizer such as "Adam"',
    "constraint": "a constraint such as constraints.positive",
    "mapping": "a table",
}
_EXAMPLES = {
    "Covariance": "a covariance such as Full()",
    "Factor": "a factor such as Gaussian(2)",
    "Objective": "an objective such as ELBO()",
    "Penalty": "a penalty such as TotalCorrelation()",
    "WeightPrior": "a prior such as parameter_priors.ARD()",
}
# Arguments of dataclasses and functions that are not annotated may be anything that a text can hold.
ANYTHING = frozenset({"anything"})


@dataclass(frozen=True)
class Alternatives:
    """The values that an argument may take.

    Attributes:
        names: of the kinds of values, such as "int" and "source".
        kinds: the classes of parts among them.
        literals: the strings among them, where only some are allowed.
        entries: the values of a mapping.
    """

    names: frozenset[str]
    kinds: tuple[type, ...] = ()
    literals: tuple[str, ...] = ()
    entries: Alternatives | None = None

    @property
    def takes_parts(self) -> bool:
        return bool(self.kinds) or bool(self.names & {"source", "function", "anything"})

    @property
    def takes_names(self) -> bool:
        return bool(self.names & {"function", "source", "optimizer"})

    @property
    def words(self) -> str:
        """The alternatives in words, as in "a number or a list of numbers"."""
        words = [_WORDS[name] for name in _WORDS if name in self.names]
        words += [_EXAMPLES.get(kind.__name__, f"a part such as {kind.__name__}(...)") for kind in self.kinds]
        words += [" or ".join(map(repr, self.literals))] * bool(self.literals)
        return " or ".join(words) or "a value"

    def fault_of(self, value: Any) -> str | None:
        """The fault of a plain value in words, None if it may stand here."""
        if "anything" in self.names or self._is_plain(value):
            return None
        if self.literals and isinstance(value, str):
            return f"must be {self.words}; got {value!r}{suggestion(value, self.literals)}"
        return f"must be {self.words}; got {_shown(value)}"

    def _is_plain(self, value: Any) -> bool:
        if value is None:
            return "None" in self.names
        if isinstance(value, bool):
            return "bool" in self.names
        if isinstance(value, str):
            return value in self.literals or "str" in self.names
        if isinstance(value, int):
            return bool(self.names & {"int", "float", "numbers"})
        if isinstance(value, float):
            return bool(self.names & {"float", "numbers"})
        if isinstance(value, list | tuple):
            return any(_is_list(name, value) for name in self.names)
        return isinstance(value, dict) and "mapping" in self.names

    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of these values. A part is an expression or a table.

        References to the definitions of the whole document stand under ``DEFINED``, as pydantic knows no other document.
        """
        choices: list[dict[str, Any]] = []
        kinds = {"int": "integer", "float": "number", "bool": "boolean", "str": "string", "mapping": "object"}
        choices += [{"type": kinds[name]} for name in kinds if name in self.names]
        if self.literals:
            choices.append({"enum": list(self.literals)})
        for name, entry in (("int list", "integer"), ("str list", "string")):
            if name in self.names:
                choices.append({"type": "array", "items": {"type": entry}})
        if "numbers" in self.names:
            choices += [{"type": "number"}, {"type": "array"}, {DEFINED: "tensor"}]
        if self.takes_parts or self.takes_names or "constraint" in self.names:
            choices += [{"type": "string"}, {DEFINED: "part"}]
        if "optimizer" in self.names:
            choices += [{"type": "string"}, {DEFINED: "optimizer"}]
        if "anything" in self.names or not choices:
            return {}
        unique = [choice for k, choice in enumerate(choices) if choice not in choices[:k]]
        return unique[0] if len(unique) == 1 else {"anyOf": unique}


def _is_list(name: str, value: list[Any] | tuple[Any, ...]) -> bool:
    if name == "int list":
        return all(isinstance(entry, int) and not isinstance(entry, bool) for entry in value)
    if name == "str list":
        return all(isinstance(entry, str) for entry in value)
    return name == "numbers" and all(_is_number(entry) for entry in value)


def _is_number(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_number, value))
    # True and False in a list are entries of a mask.
    return isinstance(value, int | float)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else f"the string {value!r}" if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def alternatives_of(annotation: object, owner: object) -> Alternatives:
    """The alternatives of an annotation.

    Args:
        annotation: as ``inspect`` gives it, a string or a type.
        owner: the class or function that it belongs to, in whose module its names are defined.

    >>> sorted(alternatives_of("int | Sequence[int] | None", alternatives_of).names)
    ['None', 'int', 'int list']
    """
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", repr(annotation))
    try:
        tree = ast.parse(str(text).replace("typing.", ""), mode="eval").body
    except SyntaxError:
        return Alternatives(ANYTHING)
    return _joined([_of(node, owner) for node in _members(tree)])


def _members(node: ast.expr) -> list[ast.expr]:
    """The members of a union."""
    if isinstance(node, ast.BinOp):
        return [*_members(node.left), *_members(node.right)]
    return [node]


def _of(node: ast.expr, owner: object) -> Alternatives:
    if isinstance(node, ast.Constant):
        return Alternatives(frozenset({"None"}) if node.value is None else ANYTHING)
    if isinstance(node, ast.Subscript):
        return _of_generic(node, owner)
    name = ast.unparse(node).split(".")[-1]
    if name in _ALIASES:
        return Alternatives(frozenset(_ALIASES[name]))
    if name in _PLAIN:
        return Alternatives(frozenset({"None" if name == "NoneType" else name}))
    kind = _defined(ast.unparse(node), owner)
    if isinstance(kind, type) and issubclass(kind, Part):
        return Alternatives(frozenset(), (kind,))
    # Another library's class, such as pyro.infer.ELBO: parts of the catalogue may be subclasses of it.
    return Alternatives(frozenset({"function"} if isinstance(kind, type) else ANYTHING))


def _of_generic(node: ast.Subscript, owner: object) -> Alternatives:
    name = ast.unparse(node.value).split(".")[-1]
    parameters = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return Alternatives(frozenset(), literals=tuple(ast.literal_eval(entry) for entry in parameters))
    if name == "Callable":
        is_optimizer = ast.unparse(parameters[-1]).endswith("Optimizer")
        return Alternatives(frozenset({"optimizer"} if is_optimizer else {"function"}))
    if name == "Mapping":
        return Alternatives(
            frozenset({"mapping"}), entries=_joined([_of(m, owner) for m in _members(parameters[-1])])
        )
    if name in ("Sequence", "list", "tuple", "Iterable"):
        entry = ast.unparse(parameters[0])
        return Alternatives(frozenset({f"{entry} list"} if entry in ("int", "str") else {"numbers"}))
    if name == "Optional":
        return _joined([_of(parameters[0], owner), Alternatives(frozenset({"None"}))])
    return Alternatives(ANYTHING)


def _joined(alternatives: list[Alternatives]) -> Alternatives:
    entries = [each.entries for each in alternatives if each.entries is not None]
    return Alternatives(
        frozenset().union(*(each.names for each in alternatives)),
        tuple(dict.fromkeys(kind for each in alternatives for kind in each.kinds)),
        tuple(dict.fromkeys(word for each in alternatives for word in each.literals)),
        entries[0] if entries else None,
    )


def _defined(name: str, owner: object) -> object:
    """The value of a name in the module of a class or function; None where it is not defined when the program runs."""
    module = sys.modules.get(getattr(owner, "__module__", ""), None)
    for holder in (module, typing, builtins):
        place: object = holder
        for part in name.split("."):
            place = getattr(place, part, None)
        if place is not None:
            return place
    return None
