"""A service under a real server: many threads, a body of 1 GB, the address that it listens at, and its end."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import pyro_lfm as lfm

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")

GIGABYTE, BLOCK = 10**9, 10**6


@pytest.fixture(scope="module")
def fit():
    """With dropout, and in training mode, which queries switch off and back on."""
    torch.manual_seed(0)
    model = lfm.Model(z=lfm.StandardNormal(3), x=lfm.Gaussian(6, mean=lfm.MLP(16)))
    guide = lfm.Guide(model, z=lfm.Gaussian(covariance=lfm.Full(), network=lfm.MLP(16, dropout=0.5)))
    rows = torch.randn(60, 6)
    done = lfm.fit(model, rows, lfm.SVI(guide, steps=5), seed=0, progress=False)
    done.model.train(), done.guide.train()
    return done


@pytest.fixture(scope="module")
def port(fit):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(lfm.serving.app(fit), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def test_16_threads_with_100_requests_each_have_the_numbers_of_the_fit(fit, port):
    rows = torch.randn(100, 3, 6)
    expected = [fit.posterior(each).mean for each in rows]
    faults = []

    def ask(thread):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for k in range(100):
            k = (k + 7 * thread) % 100
            connection.request("POST", "/posterior", json.dumps({"rows": rows[k].tolist()}))
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status != 200 or not torch.equal(
                torch.tensor(answer["posterior"]["z"]["mean"]), expected[k]
            ):
                faults.append(answer)
        connection.close()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[0]
    assert all(module.training for module in (*fit.model.modules(), *fit.guide.modules()))


PROGRAM = """
import torch, pyro_lfm as lfm
model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
fit = lfm.fit(model, torch.randn(40, 2), lfm.EM(iterations=2), seed=0, progress=False)
lfm.serving.run(fit, port=PORT)
"""


@pytest.fixture(scope="module")
def process():
    """A service in a process of its own, and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.replace("PORT", str(port))]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert running.poll() is None, running.stderr.read()
            time.sleep(0.1)
    yield running, port
    if running.poll() is None:
        running.kill()
        running.wait()


def peak_memory(pid):
    """The most bytes that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc"
)
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_body_of_1_gb_is_refused_without_being_held(process, chunked):
    running, port = process
    kind = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {GIGABYTE}"
    block = b" " * BLOCK
    block = f"{BLOCK:x}\r\n".encode() + block + b"\r\n" if chunked else block
    before = peak_memory(running.pid)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"POST /posterior HTTP/1.1\r\nHost: localhost\r\n{kind}\r\n\r\n".encode())
        for _ in range(GIGABYTE // BLOCK):
            connection.sendall(block)
        answer = connection.recv(10_000).decode()
    assert answer.startswith("HTTP/1.1 413"), answer
    assert json.loads(answer.partition("\r\n\r\n")[2]) == {
        "error": "a request must have at most 16777216 bytes: send the rows in parts"
    }
    assert peak_memory(running.pid) - before < 60 * 2**20


def test_an_address_in_use_is_refused_and_an_interrupt_ends_the_service(process, fit):
    running, port = process
    with pytest.raises(lfm.DeclarationError, match=f"'127.0.0.1' and {port} .address already in use"):
        lfm.serving.run(fit, port=port)
    with pytest.raises(lfm.DeclarationError, match="port must be at most 65535; got 70000"):
        lfm.serving.run(fit, port=70000)
    running.send_signal(signal.SIGINT)
    _, words = running.communicate(timeout=30)
    assert running.returncode == -signal.SIGINT and "KeyboardInterrupt" in words


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_without_the_extra_the_error_names_it(fit, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"{package}, which is not installed: pip install 'pyro_lfm\[app\]'"
    ):
        lfm.serving.run(fit)
