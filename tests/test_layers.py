"""The layers of the package: imports go down only, and heavy libraries stay where they belong."""

import ast
import graphlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "jnas").rglob("*.py"))

GROUND = {"_version", "errors"}  # anybody may import these; they import nothing of jnas

# What a layer may import of jnas, besides itself and the ground.
BELOW: dict[str, set[str]] = {
    "notation": set(),
    "cluster": set(),
    "supervisor": {"cluster"},
    "base": {"notation"},
    "data": {"base"},
    "tables": {"base", "spaces"},
    "spaces": {"base", "notation"},
    "nets": {"base", "spaces"},
    "lookup": set(),
    "links": {"base", "lookup"},
    "evaluators": {"base", "cache", "cluster", "compiling", "lookup", "spaces", "nets", "tables"},
    "recipes": {"base", "spaces", "links"},
    "analysis": {"base", "spaces"},
    "cache": set(),
    "compiling": {"cache"},
    "faults": set(),
    "files": set(),
    "preemption": set(),
    "quick_keys": set(),
    "checkpoints": {"faults", "files"},
    "runs": {"base", "checkpoints", "cluster", "faults", "files", "preemption"},
    "reproduce": {
        *("base", "spaces", "tables", "evaluators", "recipes", "links"),
        *("analysis", "search", "files", "compiling"),
    },
    "history": {"base", "analysis"},
    "search": {"base", "cluster", "compiling", "faults", "history", "quick_keys", "runs"},
    "one_shot": {"base", "evaluators", "nets", "recipes", "search"},
    "asynchronous": {"base", "compiling", "faults", "history", "runs"},
    "final": {"base", "compiling", "nets", "evaluators", "runs"},
}
TOP = {
    "__init__",
    "__main__",
    "cli",
    "commands",
    "configs",
    "problems",
    "scaling",
    "settings",
    "supernet_ends",
    "supernet_search",
}

# Libraries that only these layers may import.
ONLY_IN = {
    "flax": {"nets"},
    "grain": {"data"},
    "matplotlib": {"analysis"},
    "ml_collections": {
        "cli",
        "commands",
        "configs",
        "problems",
        "scaling",
        "settings",
        "supernet_search",
    },
    "orbax": {"runs"},
    "sklearn": {"data"},
    "tensorflow_datasets": {"data"},
}


def layer(path: Path) -> str:
    return path.relative_to(ROOT / "jnas").parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth of its code, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            if node.module == "jnas":
                found |= {f"jnas.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def test_every_module_has_its_place_and_the_layers_have_no_cycle() -> None:
    assert {layer(path) for path in FILES} <= GROUND | set(BELOW) | TOP
    assert len(list(graphlib.TopologicalSorter(BELOW).static_order())) == len(BELOW)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_layers_below(path: Path) -> None:
    here = layer(path)
    for name in imports(path):
        head, _, rest = name.partition(".")
        assert head not in ("experiments", "tests"), f"nothing in jnas imports {name}"
        assert head not in ONLY_IN or here in ONLY_IN[head], f"{here} may not import {name}"
        if head == "jnas" and here not in TOP:
            other = rest.partition(".")[0]
            allowed = BELOW[here] | GROUND | {here} if here in BELOW else {here}
            assert other in allowed, f"{here} may not import {name}"


@pytest.mark.parametrize("name", ["base", "errors", "notation"])
def test_the_base_needs_nothing_but_jax_and_numpy(name: str) -> None:
    heads = {head.partition(".")[0] for head in imports(ROOT / "jnas" / f"{name}.py")}
    assert heads - set(sys.stdlib_module_names) <= {"jax", "numpy", "jnas"}
