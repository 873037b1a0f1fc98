"""One JSON schema for all documents: sections, factors, and the arguments of every part."""

from __future__ import annotations

from typing import Any

from pyro_lfm.documents.declaration import FORMAT
from pyro_lfm.documents.text.alternatives import DEFINED
from pyro_lfm.documents.text.models import model_of
from pyro_lfm.documents.text.registry import catalogue, optimizers, registered

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_EXPRESSION = {"type": "string", "description": "an expression, such as Gaussian(64, mean=MLP(128))"}


def json_schema() -> dict[str, Any]:
    """The JSON schema of a document, as ``lfm.declare`` reads it, with the parts that are registered now.

    Editors use it to complete and to check TOML files. A part stands as an expression or as a table with its type.

    >>> schema = json_schema()
    >>> schema["$defs"]["MLP"]["properties"]["hidden"] == {"type": "array", "items": {"type": "integer"}}
    True
    """
    parts = {**catalogue(), **registered()}
    definitions: dict[str, Any] = {name: _part(name, maker) for name, maker in parts.items()}
    definitions["tensor"] = _tensor()
    definitions["optimizer"] = {
        "type": "object",
        "description": "an optimizer of torch with options",
        "properties": {"type": {"enum": list(optimizers())}},
        "required": ["type"],
    }
    definitions["python"] = {
        "type": "object",
        "description": "a part that stands in Python alone, whose class or function is passed in parts=",
        "properties": {
            "type": {"const": "python"},
            "name": {"type": "string"},
            "function": {"type": "string"},
        },
        "required": ["type"],
    }
    references = [{"$ref": f"#/$defs/{_escaped(name)}"} for name in (*parts, "python")]
    definitions["part"] = {"type": "object", "required": ["type"], "anyOf": references}
    part = {"anyOf": [_EXPRESSION, {"$ref": "#/$defs/part"}]}
    section = {"type": "object", "additionalProperties": part}
    return {
        "$schema": _DRAFT,
        "title": "A declaration of pyro_lfm",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "lfm": {
                "type": "integer",
                "minimum": 1,
                "maximum": FORMAT,
                "description": "the version of the format",
            },
            "dtype": {"enum": ["float32", "float64", "float16", "bfloat16"]},
            "data": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "file": {"type": "string"},
                    "columns": {"type": "object", "additionalProperties": part},
                    "leave_out": {"type": "array", "items": {"type": "string"}},
                },
            },
            "model": {**section, "description": "factors by name, or the type of a program"},
            "guide": {
                **section,
                "properties": {"guide": {"type": "object"}, "shared": _EXPRESSION},
                "additionalProperties": {"anyOf": [part, {"type": ["integer", "number"]}]},
                "description": "factors by latent, or the type of a guide",
            },
            "inference": {"anyOf": [_EXPRESSION, {"$ref": "#/$defs/part"}, {"$ref": "#/$defs/SVI"}]},
        },
        "$defs": definitions,
    }


def _part(name: str, maker: Any) -> dict[str, Any]:
    """The schema of the table of a part, from its pydantic model."""
    schema = _referring(model_of(maker).model_json_schema(by_alias=True))
    # The guide of SVI is a section of its own.
    properties = {n: each for n, each in schema.get("properties", {}).items() if n != "guide"}
    for each in properties.values():
        each.pop("title", None)
        each.pop("default", None)
    required = [n for n in schema.get("required", []) if n in properties]
    return {
        "type": "object",
        "description": schema.get("description", ""),
        "properties": {"type": {"const": name}, **properties},
        "required": ["type", *required],
        "additionalProperties": False,
    }


def _referring(value: Any) -> Any:
    """A schema whose references to definitions of the document are written as such."""
    if isinstance(value, dict):
        if DEFINED in value:
            return {"$ref": f"#/$defs/{value[DEFINED]}"}
        return {key: _referring(entry) for key, entry in value.items()}
    return [_referring(entry) for entry in value] if isinstance(value, list) else value


def _tensor() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "a tensor: its numbers and their type, or the name of an entry of weights.safetensors",
        "properties": {
            "type": {"const": "tensor"},
            "value": {"type": ["number", "array"]},
            "dtype": {"type": "string"},
            "entry": {"type": "string"},
        },
        "required": ["type"],
        "additionalProperties": False,
    }


def _escaped(name: str) -> str:
    """A name inside a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
