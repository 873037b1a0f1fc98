"""Environments of rivals that need packages of their own, made at their first use. The benchmarks start rivals in them.

The packages and their versions are those of ``requirements_<name>.txt`` beside this file.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

MINUTES = 20  # that pip may take


class Unavailable(Exception):
    """An environment cannot be made here; the message says why in one sentence."""


def default_folder() -> Path:
    """The user's cache folder for the environments of the benchmarks."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pyro_lfm" / "environments"


def python_of(name: str, folder: Path) -> str:
    """The Python of the environment of a rival, which is made in ``folder`` unless it stands there.

    Raises:
        Unavailable: it cannot be made, as where there is no network.
    """
    requirements = Path(__file__).with_name(f"requirements_{name}.txt")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(f"{version}\n{requirements.read_text()}".encode()).hexdigest()[:12]
    home = folder.absolute() / f"{name}-{digest}"
    python, complete = home / "bin" / "python", home / "complete"
    if not complete.exists():
        print(f"Making the environment of {name} in {home}", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        _run(name, sys.executable, "-m", "venv", str(home))
        pip = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1")
        _run(name, str(python), *pip, "-r", str(requirements))
        complete.touch()
    return str(python)


def _run(name: str, *command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60 * MINUTES)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()
        errors = [line for line in said if line.lower().startswith("error")]
        why = (errors or said or [f"exit status {error.returncode}"])[-1]
    except (subprocess.TimeoutExpired, OSError) as error:
        why = str(error)
    else:
        return
    raise Unavailable(f"no environment for {name} could be made: {why}")
