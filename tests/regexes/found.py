"""Every regular expression of the project, wherever it stands: run as a program, it writes them as JSON.

Modules are imported while what `re` compiles is recorded: patterns at the top of a module, in containers, put together
from parts. What stands in a function is found in the source, and its pattern is worked out among the module's names.
What can be found in neither way is written with no pattern, so that no one is left out in silence.
"""

import ast
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDERS = ("libs", "services", "cli", "models", "deploy", "bench")
MODULES = ("re", "regex", "re2")
FUNCTIONS = ("compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer")
ANCHORED = {"match", "fullmatch"}


@dataclass(frozen=True)
class Found:
    """A call of `re` in a file. `pattern` is None where it depends on what the function is given. `anchored` where it
    is only ever tried at the beginning of a text."""

    path: str
    line: int
    source: str
    pattern: str | None
    is_bytes: bool
    flags: int
    anchored: bool


@dataclass(frozen=True)
class Compiled:
    """What `re` was given while a file was imported."""

    path: str
    line: int
    pattern: str | bytes
    flags: int


def files() -> list[Path]:
    """All of the project's own Python but tests."""
    all_of_them = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return [path for path in all_of_them if not {"tests", "build", ".venv", "gen"} & set(path.relative_to(ROOT).parts)]


def record() -> list[Compiled]:
    """From now on, what project files give to `re`."""
    seen: list[Compiled] = []
    inner: Any = re._compile  # type: ignore[attr-defined] # all of its functions go through it

    def compiling(pattern: Any, flags: int) -> Any:
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals.get("__name__") == "re":
            frame = frame.f_back
        if isinstance(pattern, str | bytes):
            seen.append(Compiled(frame.f_code.co_filename, frame.f_lineno, pattern, int(flags)))
        return inner(pattern, flags)

    re._compile = compiling  # type: ignore[attr-defined]
    return seen


def imported(path: Path) -> ModuleType | None:
    """The module of a file, where it can be imported here: what runs inside Triton cannot."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[parts.index("src") + 1 :] if "src" in parts else parts).removesuffix(".__init__")
    try:
        if "src" in parts or parts[0] == "bench":
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(f"found_{'_'.join(parts)}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except ImportError:
        return None


def in_source(source: str, where: str, names: dict[str, Any], compiled: Sequence[Compiled]) -> Iterator[Found]:
    """Every call of `re` in a file, with the names of its module and what was compiled while it was imported."""
    tree = ast.parse(source)
    others = list(compiled)
    for node in ast.walk(tree):
        _refuse_other_ways(node, where)
        if not isinstance(node, ast.Call) or not _is_of_re(node.func):
            continue
        assert isinstance(node.func, ast.Attribute)
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        known: set[tuple[str | bytes | None, int]] = {
            (each.pattern, each.flags) for each in compiled if each.line in lines
        }
        others = [each for each in others if each.line not in lines]
        anchored = _methods(node, tree) <= ANCHORED if node.func.attr == "compile" else node.func.attr in ANCHORED
        for pattern, flags in known or {_worked_out(node, names)}:
            yield _found(where, node.lineno, ast.unparse(node.args[0]), pattern, flags, anchored)
    for each in others:  # compiled by other means, such as map(re.compile, ...)
        yield _found(where, each.line, "", each.pattern, each.flags, anchored=False)


def _refuse_other_ways(node: ast.AST, where: str) -> None:
    """So that what stands in a function is found by its name."""
    if isinstance(node, ast.ImportFrom) and node.module in MODULES:
        raise SystemExit(f"{where}:{node.lineno}: write re.{node.names[0].name}, which can be found")
    if isinstance(node, ast.Import):
        for each in node.names:
            if each.name in MODULES and (each.name, each.asname) != ("re", None):
                raise SystemExit(f"{where}:{node.lineno}: write import re, whose patterns can be found")


def _found(path: str, line: int, source: str, pattern: str | bytes | None, flags: int, anchored: bool) -> Found:
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
    return Found(path, line, source, text, isinstance(pattern, bytes), flags, anchored)


def _is_of_re(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute) or function.attr not in FUNCTIONS:
        return False
    return isinstance(function.value, ast.Name) and function.value.id == "re"


def _worked_out(call: ast.Call, names: dict[str, Any]) -> tuple[str | bytes | None, int]:
    flags = next((word.value for word in call.keywords if word.arg == "flags"), None)
    assert isinstance(call.func, ast.Attribute)
    place = {"compile": 1, "sub": 4, "subn": 4, "split": 3}.get(call.func.attr, 2)
    flags = call.args[place] if flags is None and len(call.args) > place else flags
    try:
        pattern = _value(call.args[0], names)
        return (pattern if isinstance(pattern, str | bytes) else None), int(_value(flags, names) if flags else 0)
    except Exception:  # it depends on the function's arguments
        return None, 0


def _value(expression: ast.expr, names: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(expression), "<pattern>", "eval"), dict(names))


def _methods(call: ast.Call, tree: ast.Module) -> set[str]:
    """What is called of the compiled pattern; "?" where it is given to somebody else."""
    name = next((name for name, value in _assigned(tree) if call in ast.walk(value)), None)
    if name is None or not name.startswith("_"):
        return {"?"}
    called = {id(node.value): node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    loads = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    return {called.get(id(node), "?") for node in loads if node.id == name}


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(targets[0], ast.Name) and value is not None:
            yield targets[0].id, value


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "deploy/config/triton/python")]
    compiled = record()
    modules = {path: imported(path) for path in files() if path.name != "__main__.py"}
    rows: list[Found] = []
    for path in files():
        module, here = modules.get(path), [each for each in compiled if each.path == str(path)]
        names = vars(module) if module is not None else {"re": re}
        rows += in_source(path.read_text(), str(path.relative_to(ROOT)), names, here)
    json.dump([asdict(row) for row in rows], sys.stdout)


if __name__ == "__main__":
    main()
