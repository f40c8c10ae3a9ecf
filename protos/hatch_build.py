"""Generates the Python code of the contracts: hatchling's build hook, and `python protos/hatch_build.py` by hand."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
PACKAGE = "farthing"
GENERATED = "gen"

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by hand where only grpcio-tools is installed
    BuildHookInterface = object  # type: ignore[assignment,misc]


class GenerateContracts(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before each wheel, editable ones too, so that nothing generated has to be committed."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        generate(root)
        if version != "editable":  # an editable wheel points at the folder (dev-mode-dirs)
            build_data["force_include"][str(root / GENERATED / PACKAGE)] = PACKAGE


def generate(root: Path = ROOT) -> int:
    """Makes gen/ match the .proto files under `root`; writes only what changed and returns how many files that was."""
    target = root / GENERATED
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".farthing-gen-", dir=root) as scratch:
        fresh = Path(scratch)
        _compile(root, fresh)
        _make_packages(fresh / PACKAGE)
        return _mirror(fresh, target)


def _compile(root: Path, out: Path) -> None:
    from grpc_tools import protoc

    sources = sorted(str(path.relative_to(root)) for path in (root / PACKAGE).rglob("*.proto"))
    if not sources:
        return
    includes = [f"-I{path}" for path in (root, *_installed_includes())]
    outputs = [f"--python_out={out}", f"--grpc_python_out={out}", *_stub_outputs(out)]
    with _working_directory(root):
        code = protoc.main(["protoc", *includes, *outputs, *sources])
    if code:
        raise SystemExit(f"protoc failed with exit code {code}: the lines above name file and line")


def _installed_includes() -> Iterator[Path]:
    """Folders with google/protobuf/*.proto, and google/rpc/*.proto where googleapis-common-protos is installed."""
    import grpc_tools

    yield Path(grpc_tools.__file__).parent / "_proto"
    with contextlib.suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec("google.rpc")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            yield Path(folder).parents[1]


def _stub_outputs(out: Path) -> list[str]:
    """Full stubs for messages and services with mypy-protobuf; without it protoc's own, for messages only."""
    messages, services = _plugin("protoc-gen-mypy"), _plugin("protoc-gen-mypy_grpc")
    if not (messages and services):
        return [f"--pyi_out={out}"]
    return [
        f"--plugin=protoc-gen-mypy={messages}",
        f"--mypy_out=quiet:{out}",
        f"--plugin=protoc-gen-mypy_grpc={services}",
        f"--mypy_grpc_out=quiet,only_async:{out}",
    ]


def _plugin(name: str) -> str | None:
    """The plugin of the Python that runs this: one from another place on PATH could be of another version."""
    return shutil.which(name, path=str(Path(sys.executable).parent))


def _make_packages(package: Path) -> None:
    if not package.is_dir():
        return
    (package / "py.typed").touch()
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__init__.py").write_text('"""Generated from the .proto files: do not edit."""\n')


def _mirror(fresh: Path, target: Path) -> int:
    """Copies file by file, so that a process importing from `target` never finds it half empty."""
    wanted = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    changed = [path for path in sorted(wanted) if not _same(fresh / path, target / path)]
    for path in changed:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (fresh / path).replace(target / path)
    for path in [path for path in target.rglob("*") if path.is_file()]:
        if path.relative_to(target) not in wanted and "__pycache__" not in path.parts:
            path.unlink()
    return len(changed)


def _same(left: Path, right: Path) -> bool:
    return right.is_file() and left.read_bytes() == right.read_bytes()


@contextlib.contextmanager
def _working_directory(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    print(f"protos: {generate()} generated files changed")
