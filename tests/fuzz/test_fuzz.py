"""No file makes a reader crash, run code or raise an error that is none of the library's. ``make fuzz`` tries many more.

The environment variable FUZZ_EXAMPLES is the number of files for each reader.
"""

import json
import os
import pickle
import tempfile
from pathlib import Path

import pytest
from fuzzed_readers import READERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyro_lfm as lfm

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("canary",)


PAYLOADS = [
    b"", b"\0", b"\xff" * 8, b"[", b"{", b"]", b"}", b'"', b"\\", b",", b":", b"[" * 5000, b'{"a":' * 5000, b"NaN", b"-1",
    b"1e999", b"9" * 5000, b"null", b"true", b'""', b'{"$tensor": "a"}', b'{"$tuple": [[]]}', b'{"$int": "0x"}',
    b'{"$device": "cuda:99"}', b'{"$dtype": "qint8"}', b"../../etc/passwd", b"__import__('os').mkdir('canary')",
    pickle.dumps(Harmful()), pickle.dumps(Harmful(), protocol=0), b"PK\x03\x04", (2**63).to_bytes(8, "little"),
]  # fmt: skip
# Where bytes are changed, as a fraction of the length; how many are cut out there; what is put in.
EDITS = st.tuples(
    st.floats(0, 1),
    st.sampled_from([0, 0, 1, 1, 2, 8, 64]),
    st.sampled_from(PAYLOADS) | st.binary(max_size=8),
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "$tuple", "$tensor", "$dict", "$raw", "$sparse"]) | st.text(max_size=3),
            inner,
            max_size=2,
        )
    ),
    max_leaves=6,
)


def with_bytes(content, edits):
    for fraction, cut, put in edits:
        at = int(fraction * len(content))
        content = content[:at] + put + content[at + cut :]
    return content


def with_value(content, path, value):
    """The JSON with another value at a place, which ``path`` leads to; the same bytes if it is no JSON."""
    try:
        whole = json.loads(content)
    except ValueError:
        return content
    place = whole
    for fraction in path:
        if not isinstance(place, dict | list) or not place:
            break
        keys = [*place] if isinstance(place, dict) else range(len(place))
        key = keys[min(int(fraction * len(keys)), len(keys) - 1)]
        if not isinstance(place[key], dict | list) or not place[key]:
            place[key] = value
            return json.dumps(whole).encode()
        holder, place = (place, key), place[key]
        last = holder
    if path:
        last[0][last[1]] = value
    return json.dumps(whole).encode()


def check(name, content):
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            path = Path(place) / "file"
            path.write_bytes(content)
            try:
                READERS[name].read(path)
            except (lfm.DataError, lfm.DeclarationError, lfm.TrainingError) as error:
                assert str(error)
            assert not Path("canary").exists()
        finally:
            os.chdir(here)


def tried(examples):
    return settings(
        max_examples=max(5, int(examples)),
        deadline=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("name", READERS)
def test_files_that_are_taken_are_taken(name):
    for content in READERS[name].files():
        check(name, content)


@pytest.mark.parametrize("name", READERS)
def test_changed_bytes(name):
    @tried(EXAMPLES * READERS[name].share)
    @given(st.sampled_from(READERS[name].files()), st.lists(EDITS, min_size=1, max_size=4))
    def run(content, edits):
        check(name, with_bytes(content, edits))

    run()


@pytest.mark.parametrize("name", READERS)
def test_changed_values(name):
    @tried(EXAMPLES * READERS[name].share)
    @given(
        st.sampled_from(READERS[name].files()), st.lists(st.floats(0, 1), min_size=1, max_size=8), JSON_VALUES
    )
    def run(content, path, value):
        check(name, with_value(content, path, value))

    run()


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.share == 1.0])
def test_any_bytes(name):
    @tried(EXAMPLES)
    @given(st.binary(max_size=200))
    def run(content):
        check(name, content)

    run()
