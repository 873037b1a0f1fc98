"""The command line."""

import pytest

from pyro_lfm.cli import main


def test_info_tells_the_versions(capsys):
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert "torch 2" in shown and "pyro-ppl" in shown and "Python 3" in shown


def test_a_command_is_required():
    with pytest.raises(SystemExit):
        main([])
