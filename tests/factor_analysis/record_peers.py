"""Records the answers of factor_analyzer in factor_analyzer.json: ``python record_peers.py PYTHON_OF_ITS_ENVIRONMENT``."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RECORDED = HERE / "factor_analyzer.json"


def ask(python, target):
    """The answers of factor_analyzer in the environment of an interpreter, as a file."""
    from peer_data import data_sets

    with tempfile.TemporaryDirectory() as folder:
        arrays = {}
        for name, (rows, factors) in data_sets().items():
            arrays |= {name: rows, f"{name}_factors": np.array(factors)}
        np.savez(f"{folder}/rows.npz", **arrays)
        script = HERE / "ask_factor_analyzer.py"
        subprocess.run([python, str(script), f"{folder}/rows.npz", str(target)], check=True, cwd=folder)


if __name__ == "__main__":
    ask(sys.argv[1], RECORDED)
