"""Requests that a service refuses: each has a status 4xx and one sentence, whatever it holds."""

import json
import string

import cases
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyro_lfm as lfm

pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")

PATHS = ("/posterior", "/reconstruct", "/impute", "/sample", "/log_likelihood")
LIMITS = lfm.serving.Limits(body=20_000, bodies=30_000, rows=50, draws=100, drawn=20_000, answer=1_000)


@pytest.fixture(scope="module")
def client():
    model = cases.two_views()
    guide = cases.guide_for(model, cases.GUIDES["gaussian-full"])
    fit = lfm.fit(model, cases.rows_of(model), lfm.SVI(guide, steps=1), seed=0, progress=False)
    return testclient.TestClient(lfm.serving.app(fit, limits=LIMITS), raise_server_exceptions=False)


ROW = '{"x": [1, 2, 3, 4], "y": [0, 1]}'
MALFORMED = {
    "empty": (b"", "fault at line 1, column 1"),
    "truncated": (b'{"rows": [', "fault at line 1"),
    "html": (b"<html>", "must be JSON"),
    "not-utf-8": (b'{"rows": "\xff"}', "must be JSON in UTF-8"),
    "brackets": (b"[" * 19_999, "nested too deeply"),
    "objects": (b'{"a":' * 3_999, "nested too deeply"),
    "NaN": (b'{"rows": [{"x": [NaN, 1, 1, 1], "y": [0, 1]}]}', "has no NaN: write null"),
    "Infinity": (b'{"rows": [{"x": [-Infinity, 1, 1, 1], "y": [0, 1]}]}', "has no -Infinity"),
    "digits": (b'{"n": ' + b"9" * 5000 + b"}", "too many digits"),
    "twice": (b'{"rows": [], "rows": []}', 'got "rows", a string twice'),
}
WRONG = {
    "a-list": ("[]", "must be an object with the fields rows"),
    "a-number": ("3", "must be an object with the fields"),
    "no-rows": ("{}", "a request must have rows, as"),
    "unknown-field": ('{"row": []}', "unknown: 'row'; did you mean 'rows'?"),
    "null": ('{"rows": null}', "rows must be a list, or an object of lists by column; got null"),
    "a-string": ('{"rows": "1,2"}', 'got "1,2", a string'),
    "none": ('{"rows": []}', "rows must be 1 to 50; got 0"),
    "no-columns": ('{"rows": {}}', "rows must be 1 to 50; got 0"),
    "bare": ('{"rows": [[1, 2]]}', 'rows must be objects with the keys of this model, as [{"x": ..., "y": ...}]'),
    "missing-column": ('{"rows": [{"x": [1, 2, 3, 4]}]}', "missing: 'y'"),
    "unknown-column": (f'{{"rows": [{ROW[:-1]}, "w": 1}}]}}', "unknown: 'w'"),
    "other-keys": (f'{{"rows": [{ROW}, {{"x": [1, 2, 3, 4]}}]}}', "row 1 must have the keys of row 0"),
    "mixed": (f'{{"rows": [{ROW}, 5]}}', "rows must all be objects, as row 0 is; got 5 in row 1"),
    "lengths": ('{"rows": {"x": [[1, 2, 3, 4]], "y": [[0, 1], [0, 1]]}}', "lists of one length; got 'x': 1, 'y': 2"),
    "no-list": ('{"rows": {"x": 1, "y": [[0, 1]]}}', "must have a list of values for each column; got 1 for 'x'"),
    "short": ('{"rows": [{"x": [1, 2, 3], "y": [0, 1]}]}', "x must have 4 values in each row; got a list of 3 in row 0"),
    "deep": ('{"rows": [{"x": [1, 2, 3, [4]], "y": [0, 1]}]}', "got a list of 1 in row 0, entry 3"),
    "string": ('{"rows": [{"x": [1, "2", 3, 4], "y": [0, 1]}]}', 'got "2", a string in row 0, entry 1'),
    "true": ('{"rows": [{"x": [1, true, 3, 4], "y": [0, 1]}]}', "got true in row 0, entry 1"),
    "support": ('{"rows": [{"x": [1, 2, 3, 4], "y": [-1, 1]}]}', "y must be"),
    "huge": ('{"rows": [{"x": [1, 1e999, 3, 4], "y": [0, 1]}]}', "x must hold finite numbers or null"),
    "huge-int": (f'{{"rows": [{{"x": [1, 1{"0" * 400}, 3, 4], "y": [0, 1]}}]}}', "x must hold finite numbers"),
    "beyond-float32": ('{"rows": [{"x": [1, 1e39, 3, 4], "y": [0, 1]}]}', "x must be finite in float32"),
    "too-many": (f'{{"rows": [{", ".join([ROW] * 51)}]}}', "rows must be 1 to 50; got 51: send them in parts"),
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", MALFORMED)
def test_a_body_that_is_no_json(client, path, fault):
    body, words = MALFORMED[fault]
    response = client.post(path, content=body)
    assert response.status_code == 400 and words in response.json()["error"], response.text
    assert set(response.json()) == {"error"} and "\n" not in response.json()["error"]


@pytest.mark.parametrize("path", sorted({*PATHS} - {"/sample"}))
@pytest.mark.parametrize("fault", WRONG)
def test_rows_that_are_none_of_the_model(client, path, fault):
    body, words = WRONG[fault]
    response = client.post(path, content=body)
    assert response.status_code == 422 and words in response.json()["error"], response.text
    assert set(response.json()) == {"error"} and len(response.json()["error"]) < 500


@pytest.mark.parametrize(
    ("path", "field", "words"),
    [
        ("/reconstruct", '"draws": 0', "draws must be a whole number from 1 to 100; got 0"),
        ("/reconstruct", '"draws": true', "draws must be a whole number"),
        ("/reconstruct", '"draws": 2.5', "got 2.5"),
        ("/impute", '"draws": 1e9', "got 1000000000.0"),
        ("/impute", '"draws": 101', "got 101"),
        ("/impute", f'"draws": {10**60}', "got a whole number of more than 40 digits"),
        ("/impute", '"seed": -1', "seed must be a whole number from 0"),
        ("/impute", '"seed": "0"', 'got "0", a string'),
        ("/impute", '"level": 1', "level must be a number between 0 and 1; got 1"),
        ("/impute", '"level": null', "got null"),
        ("/log_likelihood", '"draws": 1', "draws must be a whole number from 2 to 100"),
        (
            "/posterior",
            '"include": ["everything"]',
            "include must be a list of covariance, scale_tril, shared",
        ),
        ("/posterior", '"include": "covariance"', "include must be a list of"),
        ("/posterior", '"seed": 1', "unknown: 'seed'"),
    ],
    ids=str,
)
def test_a_field_out_of_its_bounds(client, path, field, words):
    response = client.post(path, content=f'{{"rows": [{ROW}], {field}}}')
    assert response.status_code == 422 and words in response.json()["error"], response.text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"n": 51}', "n must be a whole number from 1 to 50; got 51"),
        ('{"n": 0}', "got 0"),
        ('{"given": {"w": [1]}}', "unknown: 'w'"),
        ('{"given": [1]}', "given must be an object of lists by name; got a list of 1"),
        ('{"given": {"z": 1}}', "given must have a list of values for z; got 1"),
        ('{"given": {"z": []}}', "given must have a list of values for z"),
        ('{"n": 2, "given": {"z": [[1, 2, 3]]}}', "one row for each of the n=2 to be drawn; got 1"),
        ('{"given": {"z": [[1, null, 3]]}}', "z cannot have missing entries here"),
        ('{"rows": [[1]]}', "unknown: 'rows'"),
    ],
)  # fmt: skip
def test_a_sample_that_cannot_be_drawn(client, body, words):
    response = client.post("/sample", content=body)
    assert response.status_code == 422 and words in response.json()["error"], response.text


def test_work_and_answers_are_bounded(client):
    rows = f'"rows": [{", ".join([ROW] * 50)}]'
    response = client.post("/impute", content=f'{{{rows}, "draws": 100}}')
    assert response.status_code == 422 and "draws must be at most 44 for 50 rows" in response.json()["error"]
    assert client.post("/impute", content=f"{{{rows}}}").json()["draws"] == 44, (
        "the default is lowered, and said"
    )
    response = client.post("/posterior", content=f'{{{rows}, "include": ["covariance", "scale_tril"]}}')
    assert (
        response.status_code == 422 and "an answer must have at most 1000 numbers" in response.json()["error"]
    )


@pytest.mark.parametrize("path", PATHS)
def test_a_body_over_the_limit_is_refused(client, path):
    response = client.post(path, content=b" " * 20_001)
    assert response.status_code == 413 and response.json()["error"] == (
        "a request must have at most 20000 bytes: send the rows in parts"
    )


def test_a_body_without_a_length_is_counted_as_it_arrives(client):
    assert client.post("/posterior", content=iter([b" " * 5_000] * 1_000)).status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/posterior", 405),
        ("PUT", "/sample", 405),
        ("DELETE", "/", 405),
        ("POST", "/info", 405),
        ("GET", "/nothing", 404),
        ("POST", "/posterior/", 404),
        ("GET", "/redoc", 404),
        ("GET", "/docs/../../etc/passwd", 404),
        ("GET", "/%2e%2e/etc/passwd", 404),
        ("OPTIONS", "/posterior", 405),
    ],
)
def test_other_paths_and_methods(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status and set(response.json()) == {"error"}


def test_rows_whose_answer_overflows_are_refused_and_noted_in_the_log(client, caplog):
    """The latents of a count of 1e20 are so large that the rate of the other count is infinite."""
    rows = [{"x": [None] * 4, "y": [None, 10**20]}, {"x": [1e30] * 4, "y": [None, 1]}]
    response = client.post("/impute", content=json.dumps({"rows": rows}))
    assert (
        response.status_code == 422 and "the model cannot compute with these rows" in response.json()["error"]
    )
    assert "/impute refused: RuntimeError: invalid Poisson rate" in caplog.text


class Broken(lfm.PyroGuide):
    """A guide with a fault of its author's, which shows after the fit."""

    def __init__(self):
        super().__init__()
        self.inner = cases.HandGuide()
        self.broken = False

    def forward(self, batch):
        if self.broken:
            raise KeyError("secret words")
        self.inner(batch)


def test_a_fault_of_the_service_is_told_to_its_log_alone():
    model, guide = cases.one_latent(), Broken()
    fit = lfm.fit(model, cases.rows_of(model), lfm.SVI(guide, steps=1), seed=0, progress=False)
    client = testclient.TestClient(lfm.serving.app(fit), raise_server_exceptions=False)
    fit.guide.broken = True
    response = client.post("/posterior", content='{"rows": [[1, 2, 3, 4]]}')
    assert response.status_code == 500 and "secret" not in response.text and set(response.json()) == {"error"}


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=5)
keys = st.sampled_from(["rows", "x", "y", "draws", "seed", "n", "given", "level", "include", "z"]) | st.text(
    max_size=3
)
values = st.recursive(
    scalars, lambda each: st.lists(each, max_size=5) | st.dictionaries(keys, each, max_size=4), max_leaves=15
)
numbers = st.none() | st.floats(allow_nan=False) | st.integers(-5, 10**400)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "x": st.lists(numbers, min_size=4, max_size=4),
            "y": st.lists(st.none() | st.integers(-1, 2**70), min_size=2, max_size=2),
        }
    ),
    min_size=1,
    max_size=3,
)
options = st.dictionaries(
    st.sampled_from(["draws", "seed", "level", "include", "n", "given"]), values, max_size=2
)
bodies = (
    st.builds(lambda rows, options: {"rows": rows} | options, rows, options).map(json.dumps).map(str.encode)
    | st.dictionaries(keys, values, max_size=4).map(json.dumps).map(str.encode)
    | values.map(json.dumps).map(str.encode)
    | st.binary(max_size=50)
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(path=st.sampled_from(PATHS), body=bodies)
def test_any_body_has_an_answer_or_a_sentence(client, path, body):
    response = client.post(path, content=body)
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
    answer = json.loads(response.text, parse_constant=pytest.fail)
    assert response.status_code == 200 or (set(answer) == {"error"} and isinstance(answer["error"], str))
