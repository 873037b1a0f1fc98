"""The command line ``pyro-lfm``: its answers, that it gives them without torch, and its exit statuses."""

import json
import subprocess
import sys
from contextlib import suppress

import pytest
import torch

import pyro_lfm as lfm
from pyro_lfm.cli import main

pytest.importorskip("typer")
from pyro_lfm.cli.user_parts import parts_of  # noqa: E402

PROGRAM = """
import shlex, sys
from pyro_lfm.cli import main
status = max(main(shlex.split(call)) for call in sys.argv[1:])
print("heavy:", sorted({"torch", "pyro", "numpy", "sklearn", "fastapi", "uvicorn"} & set(sys.modules)))
sys.exit(status)
"""
COMMANDS = "init fit report evaluate compare describe transform impute sample explore export serve schema info".split()


def test_info_prints_the_versions(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "torch 2" in printed and "pyro-ppl" in printed and "Python 3" in printed
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packages"]["torch"].startswith("2")


def test_answers_about_commands_need_no_torch():
    """In a process of its own: this one has imported torch already."""
    calls = ["--help", "--version", "info", *(f"{command} --help" for command in COMMANDS)]
    run = subprocess.run([sys.executable, "-c", PROGRAM, *calls], capture_output=True, text=True)
    assert run.returncode == 0 and not run.stderr, run.stderr
    assert run.stdout.splitlines()[-1] == "heavy: []"
    assert run.stdout.count("Usage: pyro-lfm") == 1 + len(COMMANDS) and run.stdout.count("--json") >= len(
        COMMANDS
    )


@pytest.mark.parametrize(("words", "expected"), [("i", "init impute info"), ("fit --re", "--resume")])
def test_a_shell_completes_commands_and_options(words, expected, capsys, monkeypatch):
    monkeypatch.setenv("_PYRO_LFM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"pyro-lfm {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    with suppress(SystemExit):
        main([])
    assert capsys.readouterr().out.split() == expected.split()


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pyro_lfm {lfm.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing command"),
        (["no-such-command"], "no-such-command"),
        (["info", "--no-such-option"], "--no-such-option"),
        (["info", "--no-such-option"], "see pyro-lfm info --help"),
        (["serve"], "Missing argument"),
        (["explore"], "Missing argument"),
        (["explore", "run", "--port", "http"], "--port"),
        (["serve", "run", "--port", "http"], "--port"),
        (["export", "run", "--format", "pickle"], "pickle"),
        (["export", "run", "--only", "everything"], "everything"),
        (
            ["serve", "run", "--parts", "no-such-file.py"],
            "--parts must be a Python file, such as my_parts.py",
        ),
    ],
    ids=" ".join,
)
def test_a_mistake_exits_with_2_and_one_line(arguments, words, capsys, monkeypatch):
    monkeypatch.setattr(lfm, "load", lambda run, parts=(): pytest.fail("nothing is loaded"), raising=False)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("pyro-lfm: ") and words in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (lfm.DataError("run holds\nno fit"), 2),
        (lfm.DeclarationError("run holds no fit"), 2),
        (FileNotFoundError(2, "No such file or directory", "run"), 2),
        (ImportError("pip install 'pyro_lfm[app]'"), 2),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_a_command_becomes_a_line_and_a_status(error, status, capsys, monkeypatch):
    def load(run, parts=()):
        raise error

    monkeypatch.setattr(lfm, "load", load, raising=False)
    assert main(["serve", "run"]) == status
    assert capsys.readouterr().err.count("\n") == (status == 2)


def test_a_fault_of_the_library_keeps_its_traceback(monkeypatch):
    def load(run, parts=()):
        raise KeyError("a fault")

    monkeypatch.setattr(lfm, "load", load, raising=False)
    with pytest.raises(KeyError):
        main(["serve", "run"])


def test_without_typer_a_line_names_the_extra(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main(["info"]) == 2
    assert capsys.readouterr().err == (
        "pyro-lfm: typer is not installed, which the command line needs: pip install 'pyro_lfm[cli]'\n"
    )


def test_output_that_nobody_reads_ends_in_silence():
    command = [sys.executable, "-c", "import sys; from pyro_lfm.cli import main; sys.exit(main(['info']))"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run.stdout.close()
    assert run.stderr.read() == b"" and run.wait() == 1


PARTS = """
import pyro.distributions as dist
import torch

import pyro_lfm as lfm


class Cauchy(lfm.Prior):
    def forward(self):
        return dist.Cauchy(torch.zeros(self.dim), 1.0).to_event(1)


def network(inputs, outputs):
    return torch.nn.Linear(inputs, outputs)
"""


@pytest.fixture
def parts_file(tmp_path, monkeypatch):
    path = tmp_path / "parts_of_a_user.py"
    path.write_text(PARTS, encoding="utf-8")
    yield path
    sys.modules.pop("parts_of_a_user", None)


def test_serve_and_export_load_the_run_with_the_parts_of_a_file(parts_file, monkeypatch, tmp_path):
    calls = []

    def load(run, parts=()):
        calls.append(("load", run, [part.__name__ for part in parts]))
        return "a fit"

    monkeypatch.setattr(lfm, "load", load, raising=False)
    monkeypatch.setattr(
        lfm, "export", lambda *args, **options: calls.append((args, options)) or {}, raising=False
    )
    monkeypatch.setattr(lfm.serving, "run", lambda *args, **options: calls.append((args, options)))
    run, parts = tmp_path / "run", ["--parts", str(parts_file)]
    assert main(["serve", str(run), "--port", "0", *parts]) == 0
    assert calls == [("load", run, ["Cauchy", "network"]), (("a fit",), {"host": "127.0.0.1", "port": 0})]
    every = {"parts": ("encode", "decode", "log_likelihood"), "format": "onnx"}
    assert main(["export", str(run)]) == 0
    assert calls[2:] == [("load", run, []), (("a fit", run / "model.onnx"), every)]
    assert main(["export", str(run), "--format", "torch", "--only", "encode", "--out", "here.pt2"]) == 0
    (fit, out), options = calls[-1]
    assert out.name == "here.pt2" and options == {"parts": ("encode",), "format": "torch"}


def test_a_saved_fit_is_served_with_the_part_that_its_declaration_names(
    parts_file, monkeypatch, tmp_path, capsys
):
    cauchy, _ = parts_of(parts_file)
    model = lfm.Model(z=cauchy(2), x=lfm.Gaussian(3, mean=lfm.Linear()))
    guide = lfm.Guide(model, z=lfm.Gaussian(network=lfm.MLP(4)))
    rows = torch.randn(12, 3)
    fit = lfm.fit(model, rows, lfm.SVI(guide, steps=1), seed=0, progress=False)
    fit.save(tmp_path / "run")
    served = []
    monkeypatch.setattr(lfm.serving, "run", lambda fit, host, port: served.append(fit))
    assert main(["serve", str(tmp_path / "run")]) == 2
    assert "Cauchy" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "run"), "--parts", str(parts_file)]) == 0
    assert torch.equal(served[0].posterior(rows).mean, fit.posterior(rows).mean)
    assert main(["serve", str(tmp_path / "no-such-run")]) == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("broken_parts.py", "x = 1\nraise ValueError('no such thing')", "ValueError: no such thing (line 2)"),
        ("broken_parts.py", "x = (", "cannot be imported: SyntaxError"),
        ("torch.py", "x = 1", "got 'torch': rename it"),
        ("my parts.py", "x = 1", "got 'my parts': rename it"),
    ],
)
def test_a_file_of_parts_that_cannot_be_imported(name, code, words, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lfm, "load", lambda run, parts=(): pytest.fail("nothing is loaded"), raising=False)
    (tmp_path / name).write_text(code, encoding="utf-8")
    before = set(sys.modules)
    assert main(["serve", "run", "--parts", str(tmp_path / name)]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and set(sys.modules) - before == set()


def test_schema_prints_json(capsys):
    pytest.importorskip("pyro_lfm.documents.json_schema")
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)
