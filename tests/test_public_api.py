"""What a user may import, and that it is explained."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys
import types
from enum import Enum
from typing import Any

import pytest

import memory

PACKAGES = ("memory", "memory.dialects", "memory.testing", "memory.testing.simulators", "agent", "config")
PROMISED = (
    *("MemoryManager", "MemoryConfig", "ShortTermMemory", "WorkingMemoryCompressor", "CompressionStrategy"),
    *("CompressedMemory", "TokenTracker", "LLMMessage"),
)

NAMES = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]


@pytest.mark.parametrize("name", PROMISED)
def test_the_contracts_names_are_public(name: str) -> None:
    assert name in memory.__all__
    assert inspect.isclass(getattr(memory, name))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_list_of_public_names_is_sorted_and_has_no_name_twice(package: str) -> None:
    names = list(importlib.import_module(package).__all__)

    assert len(names) == len(set(names))
    if package == "memory":
        assert names == sorted(names)


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_public_name_can_be_imported_and_is_explained(package: str, name: str) -> None:
    public = getattr(importlib.import_module(package), name)

    if isinstance(public, type | types.FunctionType):
        assert (public.__doc__ or "").strip(), f"{package}.{name} has no docstring"
        assert not (public.__doc__ or "").startswith(f"{name}("), f"{package}.{name} has only the generated docstring"


def methods_of(cls: type) -> list[tuple[str, Any]]:
    """The public methods and properties that a class itself defines."""
    return [
        (name, member)
        for name, member in vars(cls).items()
        if not name.startswith("_") and isinstance(member, types.FunctionType | property | classmethod)
    ]


METHODS = [
    (name, method)
    for name in ("MemoryManager", "WorkingMemoryCompressor", "ShortTermMemory", "TokenTracker", "TiktokenCounter")
    for method, _ in methods_of(getattr(memory, name))
]


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_every_method_of_the_main_classes_is_explained(name: str, method: str) -> None:
    assert (inspect.getdoc(getattr(getattr(memory, name), method)) or "").strip()


@pytest.mark.parametrize("name", ["MemoryManager", "WorkingMemoryCompressor"])
def test_every_asynchronous_method_has_a_synchronous_twin_with_the_same_parameters(name: str) -> None:
    cls = getattr(memory, name)
    for method, function in methods_of(cls):
        if inspect.iscoroutinefunction(function):
            # `recall` needs no event loop; where a name stands for itself, the asynchronous one says so.
            twin = getattr(cls, method.removesuffix("_async") if method.endswith("_async") else f"{method}_sync")
            assert inspect.signature(twin) == inspect.signature(function), method
            assert not inspect.iscoroutinefunction(twin)


VALUES = [
    getattr(memory, name)
    for name in memory.__all__
    if dataclasses.is_dataclass(getattr(memory, name)) and not issubclass(getattr(memory, name), Enum)
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_values_are_frozen(value: Any) -> None:
    assert value.__dataclass_params__.frozen


ERRORS = [getattr(memory, name) for name in memory.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_the_one_base(error: type[Exception]) -> None:
    assert issubclass(error, memory.AgentMemoryError)


def test_a_star_import_brings_the_public_names_only() -> None:
    code = "from memory import *; print(' '.join(sorted(n for n in dir() if not n.startswith('__'))))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.split() == sorted(memory.__all__)
