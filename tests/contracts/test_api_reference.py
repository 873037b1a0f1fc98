"""docs/api.md is the reference of every public name. It is made of the signatures and docstrings in the sources.

python tests/contracts/test_api_reference.py        writes it anew
"""

import ast
import dataclasses
import inspect
import re
import sys
from functools import cache
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from public_names import is_error, namespaces, public_names  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
COMMAND = "python tests/contracts/test_api_reference.py"
# Sections of the names that stand in lfm itself, by the folder that defines them. Folders that are not listed follow.
SECTIONS = {
    "programs": "Models and programs",
    "families": "Families of distributions",
    "priors": "Priors",
    "sources": "Sources and covariances",
    "factors": "Factors and priors of one's own, covariates, groups",
    "guides": "Guides",
    "objectives": "Objectives and penalties",
    "inference": "Inference and fits",
    "comparison": "Comparisons",
    "formulas": "Formulas",
    "tables": "Tables of mixed columns",
    "data": "Batches",
    "errors": "Errors and warnings",
}


# Signatures, as the sources write them, so that they are the same under every version of Python -------------------


@cache
def definitions(module):
    """The syntax trees of the functions and classes of a module, by qualified name."""
    trees = {}

    def visit(body, prefix):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                trees[prefix + node.name] = node
                visit(node.body, f"{prefix}{node.name}.")

    visit(ast.parse(Path(sys.modules[module].__file__).read_text(encoding="utf-8")).body, "")
    return trees


def definition(value):
    """The syntax tree of a function or class; None where the library does not define it."""
    if not value.__module__.startswith("pyro_lfm"):
        return None
    return definitions(value.__module__).get(value.__qualname__)


def argument(name, annotation, default):
    """As the formatter writes it."""
    typed = name if annotation is None else f"{name}: {ast.unparse(annotation)}"
    sign = "=" if annotation is None else " = "
    return typed if default is None else f"{typed}{sign}{ast.unparse(default)}"


def arguments(node, bound):
    """The arguments of a function, without ``self`` where it is bound."""
    args = node.args
    ordinary = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(ordinary) - len(args.defaults)) + args.defaults
    parts = [argument(a.arg, a.annotation, d) for a, d in zip(ordinary, defaults, strict=True)]
    if args.posonlyargs:
        parts.insert(len(args.posonlyargs), "/")
    if args.vararg:
        parts.append("*" + argument(args.vararg.arg, args.vararg.annotation, None))
    elif args.kwonlyargs:
        parts.append("*")
    parts += [
        argument(a.arg, a.annotation, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    if args.kwarg:
        parts.append("**" + argument(args.kwarg.arg, args.kwarg.annotation, None))
    if bound:
        parts = parts[1:]
        if parts[:1] == ["/"]:
            parts = parts[1:]
    return parts


def field_arguments(cls):
    """The arguments of the ``__init__`` that ``dataclass`` makes."""
    fields, keyword_only = {}, set()
    for base in reversed(cls.__mro__):
        node = definition(base) if dataclasses.is_dataclass(base) else None
        after = node is not None and any("kw_only=True" in text for text in decorators(node))
        for each in node.body if node else ():
            if not isinstance(each, ast.AnnAssign) or "ClassVar" in ast.unparse(each.annotation):
                continue
            name, default = ast.unparse(each.target), each.value
            if ast.unparse(each.annotation).endswith("KW_ONLY"):
                after = True
                continue
            if isinstance(default, ast.Call) and ast.unparse(default.func).endswith("field"):
                options = {option.arg: option.value for option in default.keywords}
                if ast.unparse(options.get("init", ast.Constant(True))) == "False":
                    continue
                factory = options.get("default_factory")
                default = options.get("default") if factory is None else ast.Call(factory, [], [])
            fields[name] = argument(name, each.annotation, default)
            keyword_only |= {name} if after else set()
    ordinary = [text for name, text in fields.items() if name not in keyword_only]
    named = [text for name, text in fields.items() if name in keyword_only]
    return [*ordinary, *(["*", *named] if named else [])]


def decorators(node):
    return [ast.unparse(each) for each in node.decorator_list]


def class_arguments(cls):
    """The arguments of the ``__init__`` that a class has or inherits from the library."""
    for base in cls.__mro__:
        node = definition(base)
        if node is None:
            continue
        if dataclasses.is_dataclass(base) and any("dataclass" in text for text in decorators(node)):
            return field_arguments(base)
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                return arguments(each, bound=True)
    return []


def signature(name, value):
    """As a call is written, with the types of the arguments; one line for each where one line is too long."""
    if is_error(value):
        return name
    if inspect.isclass(value):
        parts, returned = class_arguments(value), ""
    else:
        node = definition(value)
        parts = arguments(node, bound=False)
        returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{name}({', '.join(parts)}){returned}"
    if len(line) <= 110:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){returned}"])


# Text ---------------------------------------------------------------------------------------------------------------


def first_paragraph(value):
    """The first paragraph of a docstring in one line, as Markdown."""
    text = " ".join(inspect.cleandoc(value.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")
    # Outside of code a star would be read as emphasis.
    return "`".join(
        part if inside else part.replace("*", r"\*")
        for part, inside in zip(text.split("`"), cycle((False, True)), strict=False)
    )


def methods(cls):
    """The public methods and properties of a class, but for those that it has from another exported class."""
    exported = [value for value in public_names().values() if inspect.isclass(value) and value is not cls]
    seen = set()
    for base in cls.__mro__:
        elsewhere = any(issubclass(cls, other) and issubclass(other, base) for other in exported)
        if elsewhere or not base.__module__.startswith("pyro_lfm"):
            continue
        for name, value in vars(base).items():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if (
                name.startswith("_")
                or name in seen
                or not inspect.isfunction(function)
                or not function.__doc__
            ):
                continue
            seen.add(name)
            node = definition(function)
            static = isinstance(value, staticmethod)
            call = "" if isinstance(value, property) else f"({', '.join(arguments(node, bound=not static))})"
            yield f"- `.{name}{call}`: {first_paragraph(function)}"


def entry(name, value):
    parts = [f"### {name}", f"```py\n{signature(name, value)}\n```", first_paragraph(value)]
    if inspect.isclass(value):
        parts.append("\n".join(methods(value)))
    return "\n\n".join(part for part in parts if part)


def section(title, names, introduction=""):
    parts = [f"## {title}", introduction, *(entry(name, value) for name, value in names.items())]
    return "\n\n".join(part for part in parts if part)


def sections():
    """Those of lfm by the folder of the definition, then one for each namespace."""
    by_folder = {folder: {} for folder in SECTIONS}
    names = public_names()
    for name, value in names.items():
        if name.count(".") == 1:
            by_folder.setdefault(value.__module__.split(".")[1], {})[name] = value
    for folder, own in by_folder.items():
        if own:
            yield section(SECTIONS.get(folder, folder.replace("_", " ").capitalize()), own)
    for path, module in namespaces():
        own = {name: value for name, value in names.items() if name.rpartition(".")[0] == path}
        if path != "lfm":
            # A class that stands in lfm too has its entry there.
            first = {id(value): name for name, value in reversed(names.items())}
            again = [f"`{name}` is `{first[id(v)]}`." for name, v in own.items() if first[id(v)] != name]
            own = {name: value for name, value in own.items() if first[id(value)] == name}
            yield section(f"`{path}`", own, " ".join([first_paragraph(module), *again]))


def page():
    introduction = (
        f"This page is made by `{COMMAND}` of the signatures and docstrings in the sources, and a test compares "
        "it with them. "
        "`help(lfm.Gaussian)` shows the whole docstring, with arguments, shapes, units, errors, references and an example. "
        "[catalogue.md](catalogue.md) groups the parts by what they are for."
    )
    return "\n\n".join(["# Reference", introduction, *sections()]) + "\n"


def test_every_public_name_is_on_the_page():
    entries = re.findall(r"^### (\S+)$|`(lfm\.[\w.]+)` is `lfm", PAGE.read_text(encoding="utf-8"), re.M)
    missing = set(public_names()) - {first or second for first, second in entries}
    assert not missing, f"docs/api.md lacks {', '.join(sorted(missing))}; run: {COMMAND}"


def test_the_page_is_that_of_these_sources():
    assert PAGE.read_text(encoding="utf-8") == page(), f"docs/api.md is out of date; run: {COMMAND}"


def test_every_public_name_has_a_docstring():
    missing = [name for name, value in public_names().items() if not (value.__doc__ or "").strip()]
    assert not missing, f"no docstring: {', '.join(missing)}"


def test_every_namespace_says_what_it_exports():
    assert all(module.__all__ for _, module in namespaces())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
