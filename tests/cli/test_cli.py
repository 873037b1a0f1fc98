"""The command line ``pyro-lfm``: its answers, and that it gives them without torch."""

import subprocess
import sys

import pytest

import pyro_lfm as lfm
from pyro_lfm.cli import main

PROGRAM = """
import sys
from pyro_lfm.cli import main
try:
    main(sys.argv[1:])
except SystemExit as exit:
    assert not exit.code, exit.code
print("heavy:", sorted({"torch", "pyro", "numpy", "sklearn"} & set(sys.modules)))
"""


def test_info_prints_the_versions(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "torch 2" in printed and "pyro-ppl" in printed and "Python 3" in printed


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["info"], ["info", "--help"]], ids=" ".join)
def test_an_answer_needs_no_torch(arguments):
    """In a process of its own: this one has imported torch already."""
    run = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "heavy: []"


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"pyro_lfm {lfm.__version__}\n"


def test_a_command_is_required(capsys):
    with pytest.raises(SystemExit) as exit:
        main([])
    assert exit.value.code == 2 and "required: command" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["no-such-command"], ["info", "--no-such-option"]], ids=" ".join)
def test_a_mistake_in_the_arguments_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2 and "usage: pyro-lfm" in capsys.readouterr().err
