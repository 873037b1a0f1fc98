"""Builds the wheel and the source archive, checks what they hold, and tries both in clean environments: ``make package``.

Everything is made in a temporary folder. Each environment gets torch in the version of constraints.txt, then the archive
with the dependencies that it declares. smoke.py is run there, outside of the repository. A run takes some minutes and
needs the package registry.

python tests/package/build_and_try.py                        tries both archives under this Python
python tests/package/build_and_try.py --python python3.13    tries them under another one
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
# What the second part of smoke.py uses.
EXTRAS = "app,cli,data,export,plot"
# In the repository, and of no use in an archive.
LEFT_OUT = {".gitignore"}
# Tests that need no extra, run from the unpacked source archive against the installed one.
CORE_TESTS = ["tests/formulas", "tests/package"]


def main() -> None:
    """Builds, checks, and tries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the clean environments")
    python = parser.parse_args().python
    with tempfile.TemporaryDirectory(prefix="pyro_lfm_package_") as folder:
        place = Path(folder)
        wheel, source = build(place)
        faults = [*wheel_faults(wheel), *source_faults(source)]
        if faults:
            sys.exit("\n".join(faults))
        check_citation(place)
        try_wheel(wheel, place, python)
        try_source(source, place, python)
    print("1 passed, 0 failed")


# What the archives hold ------------------------------------------------------------------------------------


def build(place: Path) -> tuple[Path, Path]:
    """The wheel and the source archive of the files that git has, where there is git: nothing that lies about gets in."""
    clean = place / "clean"
    for name in repository_files():
        (clean / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clean / name)
    # The wheel is built from the source archive, which shows that the archive is complete.
    run(sys.executable, "-m", "build", "--outdir", place / "dist", clean)
    (wheel,), (source,) = (place / "dist").glob("*.whl"), (place / "dist").glob("*.tar.gz")
    return wheel, source


def repository_files() -> set[str]:
    """The files that git has, and those that it would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


def wheel_faults(wheel: Path) -> list[str]:
    """A sentence for each file that the wheel lacks, and for each that it should not have."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.endswith("/")}
    wanted = {name for name in repository_files() if name.startswith("pyro_lfm/")}
    metadata = {name for name in held if name.split("/")[0].endswith(".dist-info")}
    faults = differences(wheel.name, held - metadata, wanted)
    if not any(name.endswith("/licenses/LICENSE") for name in metadata):
        faults.append(f"{wheel.name} lacks the licence")
    return faults


def source_faults(source: Path) -> list[str]:
    """The same of the source archive, which holds the whole repository and what the build adds."""
    with tarfile.open(source) as archive:
        names = [PurePosixPath(member.name) for member in archive.getmembers() if member.isfile()]
    held = {str(PurePosixPath(*name.parts[1:])) for name in names}
    added = {"PKG-INFO", "setup.cfg"} | {name for name in held if name.startswith("pyro_lfm.egg-info/")}
    return differences(source.name, held - added, repository_files() - LEFT_OUT)


def differences(archive: str, held: set[str], wanted: set[str]) -> list[str]:
    """Sentences about what an archive lacks and what it holds beyond.

    >>> differences("a.whl", {"lfm/a.py", "tests/b.py"}, {"lfm/a.py", "lfm/py.typed"})
    ['a.whl lacks lfm/py.typed', 'a.whl should not hold tests/b.py']
    """
    lacks = [f"{archive} lacks {name}" for name in sorted(wanted - held)]
    return lacks + [f"{archive} should not hold {name}" for name in sorted(held - wanted)]


def check_citation(place: Path) -> None:
    """CITATION.cff, against the schema that its version names."""
    # In an environment of its own: cffconvert admits an old jsonschema only.
    python = environment(place / "citation", sys.executable)
    run(python, "-m", "pip", "install", "-q", "cffconvert")
    run(python.with_name("cffconvert"), "--validate", "--infile", ROOT / "CITATION.cff")


# How they install and work ---------------------------------------------------------------------------------


def try_wheel(wheel: Path, place: Path, python: str) -> None:
    """The wheel alone, then with extras."""
    inside = installed(str(wheel), place / "wheel", python)
    smoke(inside, "core", place / "wheel_core")
    install(inside, f"{wheel}[{EXTRAS}]")
    smoke(inside, "extras", place / "wheel_extras")


def try_source(source: Path, place: Path, python: str) -> None:
    """The source archive alone, and tests of it."""
    inside = installed(str(source), place / "source", python)
    smoke(inside, "core", place / "source_core")
    with tarfile.open(source) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    install(inside, "pytest")
    run(inside, "-m", "pytest", "-p", "no:cacheprovider", *CORE_TESTS, cwd=unpacked)


def installed(archive: str, folder: Path, python: str) -> Path:
    """The interpreter of a new environment with an archive and its dependencies."""
    inside = environment(folder, python)
    # On its own, pip would take the newest build of torch that a dependency admits.
    install(inside, "torch")
    install(inside, archive)
    run(inside, "-m", "pip", "check")
    return inside


def environment(folder: Path, python: str) -> Path:
    """The interpreter of a new environment."""
    run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def install(python: Path, requirement: str) -> None:
    """Installs a requirement, in the versions of constraints.txt."""
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", requirement)


def smoke(python: Path, part: str, folder: Path) -> None:
    """Runs a part of smoke.py in a new folder."""
    folder.mkdir()
    shutil.copy2(Path(__file__).with_name("smoke.py"), folder)
    run(python, "smoke.py", part, cwd=folder)


def run(*command: object, cwd: Path | None = None) -> None:
    """Prints and runs a command; ends the script where it fails."""
    words = [str(word) for word in command]
    print("+", *words, flush=True)
    if code := subprocess.run(words, cwd=cwd).returncode:
        sys.exit(f"{' '.join(words)} ended with {code}")


if __name__ == "__main__":
    main()
