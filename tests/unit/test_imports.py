"""The directions of the imports, and what may travel to an agent: by reading the source, without importing it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("polly_mesos", "drivers")
    for path in sorted((ROOT / package).rglob("*.py"))
}
LONGEST_FILE = 400


@dataclass(frozen=True)
class Import:
    """One imported module."""

    module: str
    line: int


def imports(name: str) -> Iterator[Import]:
    path = MODULES[name]
    for node in _nodes(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}, line {node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(inner if inner in MODULES else node.module or "", node.lineno)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _nodes(child)


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def ours(module: str) -> bool:
    return below(module, "polly_mesos", "drivers")


FAULTS = ("polly_mesos.faults", "polly_mesos.fault_catalogue")
MODEL = ("polly_mesos.model", "polly_mesos.errors", *FAULTS)
"""What everything but model and errors may import."""

DRIVERS = ("drivers.base", "drivers.declaration", "drivers.escaping")
"""What is there for every driver: the contract, what a driver says of itself, and the letters of its tags."""

ALLOWED: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("polly_mesos.model",), ()),
    (("polly_mesos.errors",), ()),
    (FAULTS, ("polly_mesos.errors", *FAULTS)),
    (("polly_mesos.agent_api",), MODEL),
    (("polly_mesos.ledger",), (*MODEL, "polly_mesos.ledger")),
    (("polly_mesos.mesos",), (*MODEL, "polly_mesos.agent_api", "polly_mesos.mesos")),
    (
        ("polly_mesos.executor",),
        (*MODEL, "polly_mesos.agent_api", "polly_mesos.mesos", "polly_mesos.executor", *DRIVERS),
    ),
    (("polly_mesos.config", "polly_mesos.plugins"), (*MODEL, "polly_mesos.config", "polly_mesos.plugins", "drivers")),
    (
        ("polly_mesos.scheduler",),
        (
            *MODEL,
            "polly_mesos.agent_api",
            "polly_mesos.config",
            "polly_mesos.ledger",
            "polly_mesos.mesos",
            "polly_mesos.plugins",
            "polly_mesos.scheduler",
            *DRIVERS,
        ),
    ),
    (
        ("polly_mesos.audit",),
        (
            *MODEL,
            "polly_mesos.agent_api",
            "polly_mesos.audit",
            "polly_mesos.ledger",
            "polly_mesos.mesos",
            "polly_mesos.scheduler",
            *DRIVERS,
        ),
    ),
    (("drivers",), (*MODEL, "drivers")),
]
"""Packages, and all of ours that they may import. What is not here, as api, ui, cli and testing, is on top."""

ON_AGENTS = (
    "polly_mesos.model",
    "polly_mesos.errors",
    "polly_mesos.agent_api",
    *FAULTS,
    "polly_mesos.mesos",
    "polly_mesos.executor",
)
NEVER_ON_AGENTS = ("polly_mesos.mesos.local",)
PURE_PYTHON = {"addict", "attr", "attrs", "cattrs", "h11", "httpx", "kazoo", "pymesos"}
"""Libraries that are in the executor's artifact. kazoo is there because pymesos imports it."""


def travels(name: str) -> bool:
    """Whether a module is in the executor's artifact."""
    if below(name, *NEVER_ON_AGENTS):
        return False
    return below(name, *ON_AGENTS) or below(name, *DRIVERS) or (below(name, "drivers") and name.endswith(".host"))


@pytest.mark.parametrize(("packages", "allowed"), ALLOWED, ids=lambda value: value[0] if value else "nothing")
def test_imports_point_one_way(packages: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    names = [name for name in MODULES if below(name, *packages)]
    assert names, f"there is no {' or '.join(packages)}"
    wrong = [
        f"{name}, line {found.line}, imports {found.module}"
        for name in names
        for found in imports(name)
        if ours(found.module) and not below(found.module, *allowed) and found.module not in ("polly_mesos", "drivers")
    ]
    assert wrong == []


def test_a_driver_imports_no_other_driver() -> None:
    shared = {name for name in MODULES if below(name, "drivers") and name.count(".") == 1}
    shared -= {name.rpartition(".")[0] for name in MODULES}
    wrong = [
        f"{name}, line {found.line}, imports {found.module}"
        for name in MODULES
        if below(name, "drivers") and name.count(".") > 1
        for found in imports(name)
        if below(found.module, "drivers") and not below(found.module, name.rpartition(".")[0], *shared)
    ]
    assert wrong == []


def test_what_travels_to_agents_is_pure_python() -> None:
    wrong = []
    for name in filter(travels, MODULES):
        for found in imports(name):
            top = found.module.partition(".")[0]
            if not ours(found.module) and top not in sys.stdlib_module_names | PURE_PYTHON:
                wrong.append(f"{name}, line {found.line}, imports {found.module}")
    assert wrong == []


def test_what_travels_to_agents_imports_only_what_travels_too() -> None:
    wrong = []
    for name in filter(travels, MODULES):
        for found in imports(name):
            packages = ("polly_mesos", "drivers")
            if ours(found.module) and found.module not in packages and not _arrives(found.module):
                wrong.append(f"{name}, line {found.line}, imports {found.module}")
    assert wrong == []


def _arrives(module: str) -> bool:
    """Whether an import works on an agent, where a driver's package arrives whole but only ``host`` may be used."""
    return travels(module) or (below(module, "drivers") and module in _host_dependencies())


def _host_dependencies() -> set[str]:
    """Modules of drivers that host sides import, directly or not; they too must be pure."""
    seen: set[str] = set()
    waiting = [name for name in MODULES if below(name, "drivers") and name.endswith(".host")]
    while waiting:
        name = waiting.pop()
        for found in imports(name):
            if below(found.module, "drivers") and found.module in MODULES and found.module not in seen:
                seen.add(found.module)
                waiting.append(found.module)
    return seen


def test_what_host_sides_need_of_their_driver_is_standard_library_only() -> None:
    wrong = [
        f"{name}, line {found.line}, imports {found.module}"
        for name in sorted(_host_dependencies())
        for found in imports(name)
        if not ours(found.module) and found.module.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert wrong == []


def test_no_file_is_too_long_to_read() -> None:
    paths = [*MODULES.values(), *(ROOT / "bench").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}
