"""``lfm.explore``: the address, the end, notebooks, scripts, and words for what it cannot show."""

import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import explored
import numpy as np
import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.explorer.data_columns import column_of
from pyro_lfm.explorer.exploring import _by_name

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")


@pytest.fixture(scope="module")
def line():
    return explored.linear()[:2]


def test_it_is_served_until_it_is_closed(line):
    fit, rows = line
    explorer = lfm.explore(fit, rows, port=0, block=False)
    assert explorer.url.startswith("http://127.0.0.1:") and explorer.is_open
    assert httpx.get(explorer.url).text.startswith("<!doctype html>")
    assert f'src="{explorer.url}"' in explorer._repr_html_() and "<iframe" in explorer._repr_html_()
    explorer.close()
    explorer.close()
    assert not explorer.is_open and "closed" in repr(explorer) and "<iframe" not in explorer._repr_html_()
    with pytest.raises(httpx.ConnectError):
        httpx.get(explorer.url)


def test_many_threads_have_the_answers_of_one(line):
    fit, rows = line
    with lfm.explore(fit, rows, port=0, block=False) as explorer:
        points = [[k / 10, -k / 10, 1] for k in range(10)]

        def ask(into):
            with httpx.Client(base_url=explorer.url) as client:
                into.extend(client.post("/api/decode", json={"z": z}).json()["views"] for z in points)

        answers = [[] for _ in range(4)]
        threads = [threading.Thread(target=ask, args=(into,)) for into in answers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers[0] and all(each == answers[0] for each in answers) and len(answers[0]) == 10


def test_a_port_that_is_taken_is_named(line):
    fit, rows = line
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            lfm.DeclarationError, match=f"'127.0.0.1' and {port} .address already in use.*0 for any"
        ):
            lfm.explore(fit, rows, port=port, block=False)


def test_what_fails_leaves_no_port_open(line, monkeypatch):
    fit, rows = line
    made = []

    def listening(host, port):
        made.append(socket.create_server((host, port)))
        return made[0]

    monkeypatch.setattr("pyro_lfm.explorer.exploring.listening", listening)
    with pytest.raises(lfm.DeclarationError, match="64 pixels in all, as rows have; got 7x7"):
        lfm.explore(fit, rows, shape=(7, 7), port=0, block=False)
    assert made[0].fileno() == -1


SCRIPT = """
import torch, pyro_lfm as lfm
model = lfm.Model(z=lfm.StandardNormal(1), x=lfm.Gaussian(2, mean=lfm.Linear()))
fit = lfm.fit(model, torch.randn(40, 2), lfm.EM(iterations=2), seed=0, progress=False)
lfm.explore(fit, port=0)
print("ended")
"""


def test_it_waits_where_it_is_asked_to_and_in_a_script(line, monkeypatch, capsys):
    fit, rows = line
    waited = []

    def interrupted(explorer):
        waited.append(explorer.url)
        explorer.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(lfm.Explorer, "wait", interrupted)
    assert not lfm.explore(fit, rows, port=0, block=True).is_open
    words = capsys.readouterr().out
    assert words.startswith(f"{waited[0]} shows 60 rows, encoded in 0.") and words.endswith(
        " s; Ctrl-C ends it\n"
    )
    lfm.explore(fit, rows, port=0)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with lfm.explore(fit, rows, port=0):
        assert len(waited) == 2
    monkeypatch.delattr(sys, "ps1")
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: "a shell"))
    with lfm.explore(fit, rows, port=0):
        assert len(waited) == 2


@pytest.mark.slow
def test_a_script_waits_until_ctrl_c():
    running = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    words = running.stdout.readline()
    assert words.startswith("http://127.0.0.1:") and "shows 40 rows, encoded in" in words, (
        running.stderr.read()
    )
    assert httpx.get(words.split()[0]).status_code == 200
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    rest, errors = running.communicate(timeout=30)
    assert running.returncode == 0 and rest == "ended\n" and "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shape": (7, 7)}, "64 pixels in all, as rows have; got 7x7"),
        ({"shape": (8,)}, r"shape must be \(H, W\) or \(C, H, W\)"),
        ({"shape": "8x8"}, r"shape must be \(H, W\)"),
        ({"shape": {"w": (8, 8)}}, "shape must name observed variables, x; got w"),
        ({"labels": [1, 2, 3]}, "label must have a value for each of the 60 rows"),
        ({"labels": {"a": [None] * 60}}, "from 1 to 60 different texts to show groups; a has none or more"),
        ({"labels": {"a": [[1, 2]] * 60}}, "a must have a value for each of the 60 rows; got shape"),
        ({"attributes": ["size"]}, "attributes must name columns of the data, or labels; got 'size'"),
        ({"host": "no.such.host.invalid"}, "host and port must be an address"),
        ({"port": 70000}, "port must be at most 65535; got 70000"),
    ],
)
def test_arguments_that_do_not_fit(line, arguments, words):
    fit, rows = line
    with pytest.raises((lfm.DeclarationError, lfm.DataError, lfm.ShapeError), match=words):
        lfm.explore(fit, rows, block=False, **{"port": 0, **arguments})


def test_data_that_do_not_fit(line, tmp_path):
    fit, rows = line
    with pytest.raises(lfm.ShapeError, match="x must have shape"):
        lfm.explore(fit, rows[:, :10], port=0, block=False)
    with pytest.raises(lfm.DataError, match="there is no file"):
        lfm.explore(fit, tmp_path / "none.csv", port=0, block=False)
    with pytest.raises(lfm.DeclarationError, match="fit must be a Fit"):
        lfm.explore("run/", rows, port=0, block=False)
    with pytest.raises(lfm.DataError, match="a fit that was loaded holds no rows"):
        lfm.explore(fit.without_rows(), port=0, block=False)


def test_a_model_without_real_latents_is_refused():
    model = lfm.Model(y=lfm.Categorical(2), x=lfm.Gaussian(3, mean=lfm.MLP(4)))
    guide = lfm.Guide(model, y=lfm.Categorical(network=lfm.MLP(4)))
    rows = torch.randn(20, 3)
    fit = lfm.fit(model, rows, lfm.SVI(guide, steps=1), seed=0, progress=False)
    with pytest.raises(
        lfm.DeclarationError, match="needs latents of each row with real values.*latents are y"
    ):
        lfm.explore(fit, rows, port=0, block=False)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_without_the_extra_the_error_names_it(line, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"{package}, which is not installed: pip install 'pyro_lfm\[app\]'"
    ):
        lfm.explore(line[0], port=0, block=False)


def test_labels_come_in_any_form(line):
    import pandas as pd

    frame = pd.DataFrame({"a": np.arange(60) / 7, "b": ["x", "y"] * 30})
    for labels, names in (
        (frame, ["a", "b"]),
        (frame.b, ["b"]),
        ({"a": frame.a.tolist()}, ["a"]),
        (line[1][:, 0] > 0, ["label"]),
        (None, []),
    ):
        columns = {name: column_of(name, values, 60) for name, values in _by_name(labels).items()}
        assert [*columns] == names and all(len(column.values()) == 60 for column in columns.values())
