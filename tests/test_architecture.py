"""Who may import whom, what `import memory` may cost, and that public names are explained."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("memory", "config", "agent")

LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "models", "events", "catalogue", "patterns", "telling"}),
    frozenset({"messages", "config", "usage", "refusals", "marks", "limits"}),
    frozenset({"attachments", "native", "llm", "asking", "started", "starting", "later"}),
    frozenset({"dialects"}),
    frozenset(
        {
            "repair",
            "tokens",
            "prices",
            "cache_rules",
            "prompt_cache",
            "pairing",
            "window",
            "units",
            "short_term",
            "following",
        }
    ),
    frozenset({"embedders"}),
    frozenset({"economics", "extract", "strategies", "summarize", "tracker", "ledger", "recall"}),
    frozenset({"quoting", "embedding", "archive", "names", "live_prefix"}),
    frozenset({"copies", "compressor", "request_size", "breakpoints", "accounts"}),
    frozenset({"economy", "live_context", "execution", "placing", "results", "orders", "history"}),
    frozenset({"cycle"}),
    frozenset({"intake"}),
    frozenset({"auto_recall"}),
    frozenset({"sessions"}),
    frozenset({"manager", "stats", "recalling"}),
    frozenset({"testing", "integrations", "__init__"}),
)
"""Modules and packages of `memory`, the lowest first: each imports from its own level and from those before it."""

MAY_IMPORT = {"memory": frozenset({"memory"}), "config": frozenset({"config", "memory"}), "agent": frozenset(OURS)}
THIRD_PARTY = {
    "memory": frozenset({"tiktoken", "genai_prices"}),
    "config": frozenset({"pydantic", "pydantic_settings"}),
    "agent": frozenset({"pydantic", "pydantic_core", "typer", "rich", "simpleeval", "tenacity"}),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "openai": ("agent.llm.openai_chat", "agent.llm.openai_client", "agent.llm.openai_responses"),
    "anthropic": ("agent.llm.anthropic",),
    "google": ("agent.llm.gemini", "agent.llm.google_generativeai", "memory.integrations.clients.gemini_contents"),
    "litellm": ("agent.llm.litellm", "memory.integrations.litellm"),
    "langchain": ("memory.integrations.langchain",),
    "langchain_core": ("memory.integrations.langchain",),
    "langgraph": ("memory.integrations.langchain",),
    "pydantic_ai": ("memory.integrations.pydantic_ai",),
    "agents": ("memory.integrations.openai_agents",),
    "openai_agents": ("memory.integrations.openai_agents",),
    "strands": ("memory.integrations.strands",),
    "opentelemetry": ("memory.integrations.opentelemetry",),
    "distributed": ("agent.backtest.cluster",),
    "psycopg": ("memory.sessions.postgres_connection",),
    "numpy": (
        "memory.embedders.conversion",
        "memory.embedders.graph",
        "memory.embedders.local",
        "memory.recall.vectors",
    ),
    "onnx": ("memory.embedders.conversion", "memory.embedders.graph"),
    "onnxruntime": ("memory.embedders.local",),
    "tokenizers": ("memory.embedders.local",),
}
"""Packages that are not installed unless asked for, each with the only files that may import it."""


def files(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in files(*OURS)}


def imports(path: Path) -> set[str]:
    """The modules that a file imports when it runs, wherever in the file; absolute names."""
    name = name_of(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return {
        target for node in running(ast.parse(path.read_text(encoding="utf-8"))) for target in targets(node, package)
    }


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING`."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from running(child)


def targets(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    inner = [f"{base}.{alias.name}" for alias in node.names]
    # `from . import x` is an import of x where x is a module, of the package otherwise.
    return [full if full in MODULES else base for full in inner]


def level(module: str) -> int:
    part = module.split(".")[1] if "." in module else "__init__"
    found = next((number for number, names in enumerate(LEVELS) if part in names), None)
    assert found is not None, f"memory.{part} has no level: give it one in LEVELS"
    return found


@pytest.mark.parametrize("path", files(*OURS), ids=name_of)
def test_a_package_imports_only_from_packages_below_it(path: Path) -> None:
    package = name_of(path).split(".")[0]
    roots = {module.split(".")[0] for module in imports(path)} - set(sys.stdlib_module_names)

    optional = {name for name, homes in OPTIONAL.items() if name_of(path) in homes}

    assert roots <= MAY_IMPORT[package] | THIRD_PARTY[package] | optional


@pytest.mark.parametrize("path", files("memory"), ids=name_of)
def test_a_module_of_memory_imports_only_from_its_level_or_below(path: Path) -> None:
    own = name_of(path)
    ours = {module for module in imports(path) if module.startswith("memory.")}

    assert [module for module in sorted(ours) if level(module) > level(own)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: {module for module in imports(path) if module in MODULES} - {name} for name, path in MODULES.items()}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"an import circle: {' -> '.join(error.args[1])}")


def test_memory_imports_itself_relatively() -> None:
    absolute = [
        f"{name_of(path)}: {ast.unparse(node)}"
        for path in files("memory")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "memory"
    ]

    assert absolute == []


def test_the_library_never_prints() -> None:
    prints = [
        f"{name_of(path)}:{node.lineno}"
        for path in files("memory", "config")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert prints == []


IMPORT = """
import json, sys, time
opened = []
def watch(event, arguments):
    if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
        opened.append(str(arguments[0]))
    if event.startswith("socket."):
        opened.append(event)
sys.addaudithook(watch)
before = set(sys.modules)
import memory
loaded = sorted({name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))
print(json.dumps({"loaded": loaded, "opened": opened}))
"""
DURATION = "import time; start = time.process_time(); import {module}; print(time.process_time() - start)"


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_import_memory_loads_nothing_but_itself_and_opens_nothing() -> None:
    result = json.loads(run_python(IMPORT, PYTHONDONTWRITEBYTECODE="1"))

    assert (result["loaded"], result["opened"]) == (["memory"], [])


def test_import_memory_leaves_asyncio_to_those_who_await() -> None:
    assert run_python("import memory, sys; print('asyncio' in sys.modules)").strip() == "False"


def test_import_memory_costs_less_than_four_times_import_asyncio(tmp_path: Path) -> None:
    # 0.15 s on a machine that takes 0.035 s for asyncio. A ratio, because a busy machine is slow with both; of the
    # processor; and with the bytecode that an installation has.
    cached = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    run_python("import memory, asyncio", **cached)

    def seconds(module: str) -> float:
        return float(run_python(DURATION.format(module=module), **cached))

    pairs = [(seconds("memory"), seconds("asyncio")) for _ in range(7)]

    assert min(ours for ours, _ in pairs) < 4 * min(theirs for _, theirs in pairs)


@pytest.mark.parametrize(
    "package",
    ["memory", "memory.dialects", "memory.embedders", "memory.testing", "memory.testing.simulators", "config", "agent"],
)
def test_public_names_exist_and_are_explained(package: str) -> None:
    module = importlib.import_module(package)
    explained = [name for name in module.__all__ if is_explained(name, getattr(module, name))]

    assert explained == list(module.__all__)


def is_explained(name: str, value: object) -> bool:
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return True
    # A dataclass without a docstring is given its own signature as one.
    return bool(value.__doc__) and not str(value.__doc__).startswith(f"{name}(")
