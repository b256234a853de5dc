"""Imports run one way: every subpackage may import those below it, and inference never imports torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import deocclude

PACKAGE = Path(deocclude.__file__).parent
# From the bottom to the top: a room imports those before it. `data` is the package's own modules, data/storage.py.
ROOMS = (
    "errors", "imaging", "types", "io", "inference", "people", "pipeline", "batch", "data",
    "scale", "data/datasets", "data/sources", "data/synthesis", "data/samples", "data/trainsets", "data/evalsets",
    "data/inspection", "metrics", "checkpoints", "models", "export", "train", "evaluation", "ablation", "serve", "cli",
)  # fmt: skip
FACE = {"__init__", "__main__", "_version"}  # the package's face: whatever it names, nothing of it is imported
# Methods of `Result` hand on to these when they are called; Layer and Metadata are annotations.
LATE = {("types", f"io.{name}") for name in ("results", "openraster", "display", "detections", "photo_metadata")}
TORCH_FREE = ("errors", "imaging", "types", "io", "inference", "people", "pipeline", "batch", "scale", "data/datasets")


def modules() -> dict[str, Path]:
    """Every module by its dotted name without the package's, a package by its own."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        names[name.removesuffix(".__init__") or "__init__"] = path
    return names


def room_of(module: str) -> str:
    first, *rest = module.split(".")
    if first == "data" and (PACKAGE / "data" / (rest or [""])[0] / "__init__.py").is_file() and rest:
        return f"data/{rest[0]}"
    return first


def imports_of(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The package's modules that a file imports, anywhere in it; what is imported for annotations alone as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "deocclude":
            base = (node.module or "").removeprefix("deocclude").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                yield inner if inner in known else base or "__init__"
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("deocclude.") for alias in node.names if alias.name.startswith("deocclude.")
            )


def arrows() -> set[tuple[str, str]]:
    """(module, imported module), over the whole package."""
    known = modules()
    found = {(name, other) for name, path in known.items() for other in imports_of(path, known)}
    return {(a, b) for a, b in found if a not in FACE and b not in FACE}


def test_every_package_is_in_the_layer_list() -> None:
    assert {room_of(name) for name in modules()} - FACE == set(ROOMS)


def test_six_files_in_the_root() -> None:
    assert sorted(path.stem for path in PACKAGE.glob("*.py")) == [
        "__init__", "__main__", "_version", "errors", "pipeline", "types",
    ]  # fmt: skip


def test_no_package_imports_a_higher_layer() -> None:
    assert not {(a, b) for a, b in arrows() - LATE if ROOMS.index(room_of(a)) < ROOMS.index(room_of(b))}


def test_late_import_is_not_at_module_level() -> None:
    (importing,) = {name for name, _ in LATE}
    top = ast.parse(modules()[importing].read_text()).body
    at_the_top = {node.module for node in top if isinstance(node, ast.ImportFrom)}
    assert not at_the_top & {f"deocclude.{other}" for _, other in LATE}


def test_no_circular_imports() -> None:
    after: dict[str, set[str]] = {}
    for a, b in arrows() - LATE:
        after.setdefault(a, set()).add(b)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"imports run in a circle: {' -> '.join((*path, module))}"
        if module not in done:
            for other in sorted(after.get(module, ())):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(after):
        visit(module, ())


def test_run_time_never_imports_torch() -> None:
    names = [name for name in modules() if room_of(name) in TORCH_FREE and room_of(name) not in FACE]
    code = "import importlib, sys\n" + "".join(f"importlib.import_module('deocclude.{name}')\n" for name in names)
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def depth(node: ast.AST, level: int = 0) -> int:
    """How deep blocks are nested in a function; `elif` is no deeper than its `if`."""
    deepest = level
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            continue
        block = isinstance(child, (ast.If, ast.For, ast.While, ast.With, ast.Try))
        is_elif = isinstance(child, ast.If) and isinstance(node, ast.If) and node.orelse == [child]
        deepest = max(deepest, depth(child, level + (block and not is_elif)))
    return deepest


def test_functions_are_short_and_flat() -> None:
    found = {
        f"{name}.{node.name}": (node.end_lineno - node.lineno + 1, depth(node))
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno
    }
    assert len(found) > 1000
    assert not {name: size for name, size in found.items() if size[0] > 80 or size[1] > 4}
