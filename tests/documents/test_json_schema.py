"""The JSON schema takes every document that the library writes, and refuses what it refuses."""

import json
import tomllib

import pytest
from jsonschema import Draft202012Validator
from test_declarations_as_text import DECLARATIONS

import pyro_lfm as lfm
from pyro_lfm.documents.json_schema import json_schema


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("parts", DECLARATIONS)
def test_it_takes_every_document(parts, validator):
    declaration = lfm.Declaration(**parts)
    for document in (declaration.dict(), tomllib.loads(declaration.toml())):
        validator.validate(json.loads(json.dumps(document)))


@pytest.mark.parametrize(
    "document",
    [
        {"modle": {}},
        {"lfm": "1"},
        {"model": {"z": 5}},
        {"model": {"z": {"type": "Gausian"}}},
        {"model": {"z": {"type": "Gaussian", "events": 3}}},
        {"model": {"z": {"type": "MLP", "hidden": ["64"]}}},
        {"data": {"files": "x.csv"}},
        {"inference": {"type": "SVI", "epochs": "3"}},
    ],
    ids=str,
)
def test_it_refuses_wrong_documents(document, validator):
    assert list(validator.iter_errors(document))
