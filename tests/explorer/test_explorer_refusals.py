"""Requests that the explorer refuses: each has a status 4xx and one sentence, and leaves the process as it was."""

import gc
import json
import random
import socket
import threading
from pathlib import Path

import explored
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.explorer.same_origin import HEADERS, SameOrigin

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

POSTS = ("decode", "encode", "summary", "csv", "generate", "edit")
GETS = ("/", "/page/start.js", "/api/info", "/api/points", "/api/colour/0", "/api/row/0")


@pytest.fixture(scope="module")
def served():
    fit, rows, _ = explored.linear()
    with lfm.explore(fit, rows, labels=rows[:, 0] > 0, port=0, block=False) as explorer:
        yield fit, explorer


@pytest.fixture(scope="module")
def client(served):
    with httpx.Client(base_url=served[1].url) as client:
        yield client


def refused(response, status=None):
    """The sentence of a refusal, which has the headers of every answer."""
    assert 400 <= response.status_code < 500 and status in (None, response.status_code), response.text
    answer = response.json()
    assert set(answer) == {"error"} and 0 < len(answer["error"]) < 500 and "\n" not in answer["error"]
    return answer["error"]


@pytest.mark.parametrize("path", GETS)
def test_every_answer_has_the_headers_that_keep_it_to_the_page(client, path):
    response = client.get(path)
    assert response.status_code == 200
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'self';" in policy


HOSTS = [
    "evil.example",
    "evil.example:5055",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.0.0.2",
    "0.0.0.0",
    "localhost:99999",
    "localhost:",
    "localhost@evil.example",
    "[::2]",
    "[::1",
    "localhost/",
    "LOCALHOST\t.evil",
    "xn--localhost",
    "2130706433",
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_is_not_this_machine(client, host):
    for path in ("/", "/api/info", "/nothing"):
        refused(client.get(path, headers={"Host": host}), 403)
    refused(client.post("/api/decode", headers={"Host": host}, json={"z": [0, 0, 0]}), 403)


@pytest.mark.parametrize("host", ["localhost", "LocalHost:80", "127.0.0.1:5055", "[::1]:5055"])
def test_a_loopback_name_is_this_machine(client, host):
    assert client.get("/api/info", headers={"Host": host}).status_code == 200


def test_an_address_that_was_asked_for_is_admitted_and_everywhere_admits_addresses():
    one, every = SameOrigin(None, "Box.example"), SameOrigin(None, "0.0.0.0")
    assert one.fault("GET", "/", {"host": ["box.example:80"]}) is None
    assert one.fault("GET", "/", {"host": ["10.0.0.1"]})[0] == 403
    assert every.fault("GET", "/", {"host": ["10.0.0.1:80"]}) is None
    assert every.fault("GET", "/", {"host": ["[fe80::1]"]}) is None
    assert every.fault("GET", "/", {"host": ["evil.example"]})[0] == 403
    assert every.fault("GET", "/", {"host": [socket.gethostname()]}) is None
    assert (
        one.fault("GET", "/", {})[0] == one.fault("GET", "/", {"host": ["localhost", "localhost"]})[0] == 403
    )


@pytest.mark.parametrize(
    "origin",
    ["null", "https://evil.example", "http://localhost", "https://{host}", "http://{host}/", "file://"],
)
def test_an_origin_that_is_not_the_page(client, origin):
    host = f"{client.base_url.host}:{client.base_url.port}"
    for path, method in (("/api/decode", "POST"), ("/api/info", "GET"), ("/", "GET")):
        refused(
            client.request(method, path, json={"z": [0, 0, 0]}, headers={"Origin": origin.format(host=host)}),
            403,
        )
    own = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/decode", json={"z": [0, 0, 0]}, headers=own).status_code == 200


def test_requests_of_other_sites_may_open_the_page_alone(client):
    for site in ("cross-site", "same-site", "elsewhere"):
        assert client.get("/", headers={"Sec-Fetch-Site": site}).status_code == 200
        refused(client.get("/api/row/0", headers={"Sec-Fetch-Site": site}), 403)
        refused(client.get("/page/start.js", headers={"Sec-Fetch-Site": site}), 403)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"]
)
def test_a_body_of_another_type(client, kind):
    refused(client.post("/api/decode", content='{"z": [0, 0, 0]}', headers={"Content-Type": kind}), 415)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(
            (method, path, 405)
            for method in ("PUT", "DELETE", "PATCH", "OPTIONS")
            for path in ("/", "/api/decode")
        ),
        ("GET", "/api/decode", 405),
        ("TRACE", "/", 405),
        ("BREW", "/", 405),
        *(
            ("GET", path, 404)
            for path in (
                "/nothing",
                "/api",
                "/api/",
                "/api/info/",
                "/docs",
                "/openapi.json",
                "/page/",
                "/page/nothing.js",
                "/page/__init__.py",
                "/page/../server.py",
                "/page/..%2fserver.py",
                "/page/%2e%2e/server.py",
                "/page/....//server.py",
                "/page/%00start.js",
                "/page/start.js%00",
                "/page//etc/passwd",
                "/page/C:%5cwindows",
                "//etc/passwd",
                "/../../../../etc/passwd",
                "/api/row/-1",
                "/api/row/60",
                "/api/row/1e3",
                "/api/row/0x1",
                "/api/row/٣",
                "/api/row/" + "9" * 400,
                "/api/row/",
                "/api/row/0/0",
                "/api/colour/99",
                "/api/colour/x",
            )
        ),
    ],
)
def test_other_paths_and_methods(client, method, path, status):
    refused(client.request(method, path, headers={"Content-Type": "application/json"}), status)


def test_head_is_refused_without_a_body(client):
    response = client.head("/")
    assert response.status_code == 405 and response.content == b""


FIELDS = {
    "decode": [
        ('{"z": [0, 0]}', "z must be a list of 3 numbers; got a list of 2"),
        ("{}", "z must be a list of 3 numbers; got null"),
        ('{"z": "0,0,0"}', 'got "0,0,0", a string'),
        ('{"z": [0, 0, null]}', "z[2] must be a number; got null"),
        ('{"z": [0, 0, true]}', "got true"),
        ('{"z": [0, 0, [0]]}', "got a list of 1"),
        ('{"z": [0, 0, 1e999]}', "a finite number"),
        (f'{{"z": [0, 0, 1{"0" * 400}]}}', "a finite number"),
        ('{"z": [0, 0, 1e300]}', "z must hold finite numbers"),
        ('{"z": [0, 0, 0], "covariates": {"age": 1}}', "covariates must be empty: there are none"),
        ('{"z": [0, 0, 0], "labels": {"y": 1}}', "labels must be empty: there are none"),
        ('{"z": [0, 0, 0], "labels": [1]}', "labels must be an object of values by name"),
        ('{"w": [0, 0, 0]}', "unknown: 'w'"),
    ],
    "encode": [
        ("{}", "views must be a list of 1"),
        ('{"views": [[1]]}', "views[0] must be a list of 64 numbers; got a list of 1"),
        (
            '{"views": [[], []]}',
            "views must be a list of 1, the values of a row for each view; got a list of 2",
        ),
        (json.dumps({"views": [["1"] * 64]}), 'views[0][0] must be a number; got "1", a string'),
        (json.dumps({"views": [[None] * 64]}), "a row must have at least one value"),
        (json.dumps({"views": [[1e39] * 64]}), "x must be finite in float32"),
    ],
    "summary": [
        ("{}", "rows must be a list of 1 to 60 places"),
        ('{"rows": []}', "rows must be a list of 1 to 60 places"),
        ('{"rows": [60]}', "row must be a whole number from 0 to 59; got 60"),
        ('{"rows": [-1]}', "got -1"),
        ('{"rows": [1.0]}', "got 1.0"),
        ('{"rows": [true]}', "got true"),
        ('{"rows": [1, 1]}', "each row once"),
        (json.dumps({"rows": list(range(61))}), "got a list of 61"),
        (f'{{"rows": [{10**60}]}}', "more than 40 digits"),
    ],
    "csv": [('{"rows": {"0": 1}}', "an object with the keys '0'"), ('{"rows": null}', "got null")],
    "generate": [('{"n": 3}', "no attributes are known")],
    "edit": [('{"row": 3}', "no attributes are known")],
}


@pytest.mark.parametrize(
    ("name", "body", "words"), [(n, *each) for n, cases in FIELDS.items() for each in cases]
)
def test_fields_that_are_none(client, name, body, words):
    response = client.post(f"/api/{name}", content=body, headers={"Content-Type": "application/json"})
    assert words in refused(response, 422)


MALFORMED = {
    "empty": (b"", "fault at line 1, column 1"),
    "truncated": (b'{"z": [', "fault at line 1"),
    "html": (b"<html>", "must be JSON"),
    "not-utf-8": (b'{"z": "\xff"}', "must be JSON in UTF-8"),
    "brackets": (b"[" * 100_000, "nested too deeply"),
    "objects": (b'{"z":' * 100_000, "nested too deeply"),
    "NaN": (b'{"z": [NaN, 1, 1]}', "has no NaN"),
    "Infinity": (b'{"z": [-Infinity, 1, 1]}', "has no -Infinity"),
    "digits": (b'{"z": ' + b"9" * 5000 + b"}", "too many digits"),
    "twice": (b'{"z": [], "z": []}', 'got "z", a string twice'),
}


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("fault", MALFORMED)
def test_a_body_that_is_no_json(client, name, fault):
    body, words = MALFORMED[fault]
    response = client.post(f"/api/{name}", content=body, headers={"Content-Type": "application/json"})
    assert words in refused(response, 400)


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_body_over_the_limit(client, chunked):
    body = iter([b" " * 2**20] * 9) if chunked else b" " * (2**23 + 1)
    response = client.post("/api/decode", content=body, headers={"Content-Type": "application/json"})
    assert "at most 8388608 bytes" in refused(response, 413)


RAW = {
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a host of spaces": b"GET / HTTP/1.1\r\nHost:  \r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "no http": b"hello\r\n\r\n",
    "http 0.9": b"GET /\r\n",
    "another version": b"GET / HTTP/7.3\r\nHost: localhost\r\n\r\n",
    "an address in full": b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 30_000 + b"\r\n",
    "a websocket": b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two lengths": b"POST /api/decode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 9\r\n\r\nabc",
    "a body that ends before its length": b"POST /api/decode HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{}",
    "a length that is none": b"POST /api/decode HTTP/1.1\r\nHost: localhost\r\nContent-Length: -3\r\n\r\n",
    "a chunk that is none": b"POST /api/decode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a tls greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60 + b"\r\n\r\n",
    "a line in a header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\nSet-Cookie: b\x00\r\n\r\n",
}  # fmt: skip


def raw(explorer, request):
    """The status line of the answer to some bytes; none where the connection was closed without one."""
    host, port = httpx.URL(explorer.url).host, httpx.URL(explorer.url).port
    with socket.create_connection((host, port), timeout=20) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(4096).split(b"\r\n")[0]
        except OSError:
            return b""


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_are_no_request_of_the_page(served, name, capfd):
    line = raw(served[1], RAW[name])
    assert capfd.readouterr().err == "", "what strangers send is no matter for the user's terminal"
    assert line.startswith(b"HTTP/1.1 4") or (
        line == b"" and name in ("http 0.9", "many headers", "a body that ends before its length")
    )


def state(fit):
    """Weights, modes and random state, and what the process holds."""
    tensors = [
        tensor.clone() for tensor in (*fit.model.state_dict().values(), *fit.guide.state_dict().values())
    ]
    modes = [module.training for module in (*fit.model.modules(), *fit.guide.modules())]
    return tensors, modes, torch.get_rng_state(), threading.active_count()


def memory():
    """The bytes that this process holds."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def malformed(random):
    """Anything but a request of the page, as arguments of ``httpx.Client.request``."""
    headers = {"Content-Type": random.choice(["application/json"] * 5 + ["text/plain", "", "a/b;c"])}
    path = random.choice([*GETS, *(f"/api/{name}" for name in POSTS), "/page/", "/", "/api/row/", "/x"])
    method = random.choice(["GET", "POST", "POST", "PUT", "HEAD", "DELETE", "X"])
    kind = random.randrange(4)
    if kind == 0:
        headers["Host"] = random.choice([*HOSTS, "a" * random.randrange(1, 300), str(random.random())])
    elif kind == 1:
        headers["Origin"] = random.choice(["null", "http://a.b", "x" * random.randrange(1, 99)])
    elif kind == 2:
        path += random.choice(["..", "%2e%2e/", "%00", "\u00e4", "/", "~", "9" * 30, "%ff"])
    values = [None, True, -1, 2**70, 0.5, "1", [], {}, [[]], [None] * 64, [0, 0], "\u0000", 1e308]
    fields = {random.choice(["z", "views", "rows", "n", "row", "attributes", "?"]): random.choice(values)}
    body = json.dumps(random.choice([fields, [fields], fields | {"z": random.choice(values)}])).encode()
    cut = random.choice([len(body)] * 3 + [random.randrange(len(body) + 1)])
    noise = bytes(random.randrange(256) for _ in range(random.choice([0, 0, 3])))
    return {"method": method, "url": path, "headers": headers, "content": body[:cut] + noise}


def is_refused(response, request):
    """Whether the answer is a refusal; a request without a fault has one of the page's answers."""
    if response.status_code == 200:
        ours = response.request.url.path in GETS  # httpx takes /.. for /
        return request["method"] == "GET" and ours and not {"Host", "Origin"} & {*request["headers"]}
    return 400 <= response.status_code < 500 and (
        request["method"] == "HEAD" or set(response.json()) == {"error"}
    )


@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_malformed_requests_leave_the_process_as_it_was(served, client, count):
    fit, explorer = served
    numbers = random.Random(count)
    for _ in range(50):  # what is made once, such as threads
        client.request(**malformed(numbers))
    before, held = state(fit), memory()
    for _ in range(count):
        request = malformed(numbers)
        assert is_refused(client.request(**request), request), request
    for name in RAW:
        raw(explorer, RAW[name])
    after = state(fit)
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))
    assert before[1] == after[1] and torch.equal(before[2], after[2]) and before[3] == after[3]
    assert memory() - held < 30 * 2**20
    assert client.post("/api/decode", json={"z": [0, 0, 0]}).status_code == 200
