"""Makes the local Triton: its environment, its backend, and the weights of its models. Nothing is done twice.

    python deploy/config/triton/install.py [--build-dir build]

Needs only the standard library. Makes BUILD/triton (environment and backend) and BUILD/models/llm (weights).
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LOCK = HERE / "requirements.lock"
BACKEND_FILES = ("libtriton_python.so", "triton_python_backend_utils.py")
STEP_TIMEOUT_S = 1800
PYTHONS = ("3.12", "3.11")  # numpy 1.26 has no wheels for later ones, and Triton's backend no use for numpy 2
MIN_GLIBC = (2, 35)


def fail(line: str) -> None:
    """One line that says what to do, and the end."""
    sys.exit(f"triton: {line}")


def check_platform() -> None:
    """Refuse what the packages have no programs for."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        fail(f"the server is a Linux x86-64 program; this is {sys.platform} {platform.machine()}")
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < MIN_GLIBC:
        wanted = ".".join(map(str, MIN_GLIBC))
        fail(f"the server needs glibc {wanted} or later; this is {library or 'another C library'} {version}")
    if not libpython().exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        fail(f"{libpython()} is missing, which the Python backend loads; Debian: apt-get install libpython{version}")


def use_a_python_that_fits() -> None:
    """Start again with another Python of this machine, where this one is too new for the packages."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS:
        return
    for version in PYTHONS:
        found = shutil.which(f"python{version}")
        if found and subprocess.run([found, "-c", "import venv"], check=False, capture_output=True).returncode == 0:
            os.execv(found, [found, *sys.argv])
    fail(f"its Python backend needs numpy 1.26, so Python 3.11 or 3.12 beside this {platform.python_version()}")


def libpython() -> Path:
    """The shared library of this Python. Debian keeps it in the folder of the multiarch triple."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    folders = [sysconfig.get_config_var("LIBDIR"), f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}"]
    found = [Path(str(folder)) / name for folder in folders if folder]
    return next((path for path in found if path.exists()), found[0])


def stamp_text() -> str:
    """What the environment was made from."""
    lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    return f"{lock} {platform.python_version()} {sys.base_prefix} {HERE}\n"


def make_environment(folder: Path) -> None:
    """The environment with the locked packages, without their dependencies."""
    stamp = folder / "made-from"
    if stamp.exists() and stamp.read_text() == stamp_text():
        return
    print("triton: installing the server and the packages with the weights (about 400 MB)", flush=True)
    environment = folder / ".venv"
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(environment, clear=True, with_pip=not uv().exists())
    run(installer(environment), "the packages could not be installed")
    (site_packages(environment) / "farthing_triton.pth").write_text(f"{HERE / 'python'}\n")
    make_backend(folder, site_packages(environment))
    stamp.write_text(stamp_text())


def uv() -> Path:
    """The uv of the mesh's environment, where there is one."""
    return ROOT / ".venv" / "bin" / "uv"


def installer(environment: Path) -> list[str]:
    """The command that installs the lock: uv where there is one, else pip."""
    python = str(environment / "bin" / "python")
    words = ["--no-deps", "--require-hashes", "-r", str(LOCK)]
    if uv().exists():
        return [str(uv()), "pip", "install", "--quiet", "--python", python, *words]
    return [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]


def run(command: list[str], what: str) -> None:
    """Run a step; its own words reach the terminal, and one line says that it failed."""
    done = subprocess.run(command, check=False, timeout=STEP_TIMEOUT_S)
    if done.returncode != 0:
        fail(f"{what}; the lines above say why")


def site_packages(environment: Path) -> Path:
    """Where the environment keeps its packages."""
    return environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def make_backend(folder: Path, packages: Path) -> None:
    """The Python backend with the stub of this Python beside it, as Triton looks for it."""
    server = packages / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for file in (*(server / "backends" / "python" / name for name in BACKEND_FILES),
                 server / "python_backend_stubs" / version / "triton_python_backend_stub"):  # fmt: skip
        shutil.copy2(file, backend)
    for program in (backend / "triton_python_backend_stub", server / "bin" / "tritonserver"):
        program.chmod(0o755)


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--build-dir", type=Path, default=ROOT / "build")
    build: Path = parser.parse_args().build_dir.absolute()
    use_a_python_that_fits()
    check_platform()
    make_environment(build / "triton")
    python = build / "triton" / ".venv" / "bin" / "python"
    run([str(python), "-m", "farthing_triton.weights", str(build / "models" / "llm")], "the weights could not be made")


if __name__ == "__main__":
    main()
