"""House rules that no linter checks: which modules may import which, and the cost of imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "reformer_ops": ROOT / "custom_ops/reformer_ops",
    "reformer_models": ROOT / "models/reformer_models",
    "reformer_export": ROOT / "reformer_export",
    "benchmarks": ROOT / "benchmarks",
}

# The parts of each package, top floor first: a module or folder imports from lower floors only, and
# not from its own floor. `__init__` holds the public names and is above all floors.
FLOORS: dict[str, tuple[set[str], ...]] = {
    "reformer_ops": (
        {
            "onnx_bodies",
            "registry",
            "tensorrt_forms",
            "torch_ops",
            "triton_kernels",
            "triton_programs",
        },
        {"int4_feed_forward_add", "sorted_chunk_attention_step"},
        # These import parts of the operators below.
        {
            "chunk_attention_step",
            "int4_linear",
            "int8_feed_forward_add",
            "sorted_chunk_attention",
        },
        {
            "add_norm",
            "chunk_attention",
            "feed_forward_add",
            "int8_linear",
            "layer_norm_linear",
            "linear_add",
            "lsh_bucket",
            "training",
        },
        {"triton"},
        {"core"},
    ),
    "reformer_models": (
        {"loading", "training"},
        {"fusing", "quantisation"},
        {"layers"},
        {"checkpoints"},
        {"config", "tasks"},
        {"errors"},
    ),
    "reformer_export": (
        {"__main__"},
        {"cli"},
        {"bench", "exporters", "serving"},
        {"quality"},
        {"generation"},
        {"inference"},
        {"verification"},
        {"runtimes"},
        {"source"},
        {"artifact"},
        {"host"},
        {"errors"},
    ),
    "benchmarks": (
        {"__main__", "baselines", "cpp", "serving", "training", "weights"},
        {"suite"},
        {"allocations", "bars", "options"},
    ),
}
# Imports that are not allowed, although the floors allow them.
FORBIDDEN = {
    ("cli", "source"): "a verb is arguments in, one library call, an exit code out",
    ("exporters", "runtimes"): "an export is run by verification only",
}

HEAVY = {
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "tensorrt_rtx",
    "torch",
    "transformers",
    "triton",
}


@dataclass(frozen=True)
class Source:
    """A source file, with the name by which it is imported."""

    module: str
    path: Path

    @property
    def tree(self) -> ast.Module:
        return _parse(self.path)

    def where(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.path.relative_to(ROOT)}:{node.lineno}"


@dataclass(frozen=True)
class Import:
    """`module` imports `target`, at `where`."""

    module: str
    target: str
    where: str


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def sources() -> tuple[Source, ...]:
    found = []
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            names = parts[:-1] if parts[-1] == "__init__" else parts
            found.append(Source(".".join((package, *names)), path))
    return tuple(found)


@cache
def imports() -> tuple[Import, ...]:
    """Every import in our packages, including imports in functions and imports for types only."""
    return tuple(
        Import(source.module, target, source.where(node))
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)
        for target in _targets(source, node)
    )


def _targets(source: Source, node: ast.Import | ast.ImportFrom | ast.Call) -> Iterator[str]:
    known = {other.module for other in sources()}
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            base = module or ""
            if level:
                package = source.module.split(".")
                is_package = source.path.name == "__init__.py"
                above = package[: len(package) - level + is_package]
                base = ".".join([*above, *([module] if module else [])])
            for alias in names:
                name = f"{base}.{alias.name}"
                yield name if name in known else base
        case ast.Call(
            func=ast.Name(id="import_module" | "require" | "__import__")
            | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            yield name


def _ours(target: str) -> str | None:
    package = target.partition(".")[0]
    return package if package in PACKAGES else None


def _unit(module: str) -> str:
    """The part of its package that a module belongs to: "cli" for reformer_export.cli.main."""
    return [*module.split("."), "__init__"][1]


def _floor(package: str, unit: str) -> int | None:
    """The floor of a unit, counted from the top; None if no floor lists it."""
    floors = enumerate(FLOORS[package])
    return next((number for number, floor in floors if unit in floor), None)


def test_the_packages_are_found() -> None:
    assert {source.module for source in sources()} > set(PACKAGES)
    assert any(_ours(found.target) for found in imports())


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("reformer_ops", set()),
        ("reformer_models", {"reformer_ops"}),
        ("reformer_export", {"reformer_ops", "reformer_models"}),
        ("benchmarks", {"reformer_ops", "reformer_models", "reformer_export"}),
    ],
)
def test_packages_import_downwards(package: str, allowed: set[str]) -> None:
    wrong = [
        f"{found.where} imports {found.target}"
        for found in imports()
        if found.module.partition(".")[0] == package
        and _ours(found.target) not in {None, package, *allowed}
    ]
    assert not wrong


def test_only_source_imports_the_models() -> None:
    wrong = [
        f"{found.where} imports {found.target}: go through reformer_export.source"
        for found in imports()
        if _ours(found.module) == "reformer_export"
        and _ours(found.target) == "reformer_models"
        and _unit(found.module) != "source"
    ]
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_a_floor(package: str) -> None:
    units = {_unit(s.module) for s in sources() if _ours(s.module) == package} - {"__init__"}
    assert units == set().union(*FLOORS[package])


@pytest.mark.parametrize("package", PACKAGES)
def test_floors(package: str) -> None:
    wrong = []
    for found in imports():
        if {_ours(found.module), _ours(found.target)} != {package}:
            continue
        unit, target = _unit(found.module), _unit(found.target)
        if "__init__" in (unit, target) or unit == target:
            continue  # __init__ holds the public names, loaded when first used
        upper, lower = _floor(package, unit), _floor(package, target)
        if upper is None or lower is None or upper >= lower:
            wrong.append(f"{found.where}: {unit} may not import {target} (see FLOORS)")
        elif package == "reformer_export" and (reason := FORBIDDEN.get((unit, target))):
            wrong.append(f"{found.where}: {unit} may not import {target}: {reason}")
    assert not wrong


DOCUMENT = ROOT / "docs/architecture.md"
_START, _END = (
    "<!-- floors: written by `python -m tests.test_architecture` -->\n",
    "<!-- end of floors -->",
)


def diagrams() -> str:
    """The floors as Mermaid diagrams, for the document."""
    parts = []
    for package, floors in FLOORS.items():
        lines = [f"**{package}**", "", "```mermaid", "flowchart TD"]
        for number, floor in enumerate(floors):
            lines.append(f'    f{number}["{" · ".join(sorted(floor))}"]')
        lines += [f"    f{n} --> f{n + 1}" for n in range(len(floors) - 1)]
        parts.append("\n".join([*lines, "```"]))
    return "\n\n".join(parts)


def test_the_document_shows_the_floors() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    shown = text.partition(_START)[2].partition(_END)[0]
    assert shown.strip() == diagrams(), "run: python -m tests.test_architecture"


def test_no_import_cycles() -> None:
    """Between modules; Python itself imports the package of every submodule."""
    known = {source.module for source in sources()}
    graph: dict[str, set[str]] = {module: set() for module in known}
    for found in imports():
        if found.target in known and not f"{found.module}.".startswith(f"{found.target}."):
            graph[found.module].add(found.target)
    for package in PACKAGES:
        graph[package] = set()  # the public names come from everywhere
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("reformer_ops", {*HEAVY, "rich"}),
        ("reformer_models.config", {*HEAVY, "rich"}),
        ("reformer_models.errors", {*HEAVY, "rich"}),
        ("reformer_export", {*HEAVY, "rich"}),
        ("reformer_export.cli.main", HEAVY),
    ],
)
def test_importing_is_cheap(module: str, banned: set[str], tmp_path: Path) -> None:
    """In a new process, because this one has imported everything."""
    code = f"import sys, {module}; print(*sorted(sys.modules.keys() & {banned!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split(), f"importing {module} loads {done.stdout}"


def test_no_assert_statements() -> None:
    """`python -O` removes them, and they do not help a user: raise one of our errors instead."""
    wrong = [
        source.where(node)
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assert)
    ]
    assert not wrong


def test_only_the_command_line_prints() -> None:
    wrong = [
        source.where(node)
        for source in sources()
        if not source.module.startswith("reformer_export.cli") and source.path.stem != "__main__"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not wrong


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(_START)
    after = rest.partition(_END)[2]
    DOCUMENT.write_text(f"{before}{_START}\n{diagrams()}\n\n{_END}{after}", encoding="utf-8")
