"""A framework's conversation goes on after a resume: what goes out is what would have gone out without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("langchain_core")
pytest.importorskip("pydantic_ai")

from memory import MemoryManager
from memory.integrations._bridge import Bridge, Codec
from memory.sessions import SqliteSessionStore
from memory.testing import WordCounter

from .conversations import Message, conversations
from .test_bridge import CONFIG, Written, frameworks, turns, wires


@frameworks
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversation=conversations("openai_chat"), data=st.data())
def test_a_resumed_memory_gives_a_framework_what_the_first_one_would_have(
    codec: Codec[Any], written: Written, conversation: list[Message], data: st.DataObject
) -> None:
    contexts = turns(codec, written(conversation))
    crash = data.draw(st.integers(0, len(contexts)))
    whole = Bridge(MemoryManager(CONFIG, counter=WordCounter()), codec)
    store = SqliteSessionStore(":memory:")
    first = Bridge(MemoryManager(CONFIG, counter=WordCounter(), store=store), codec)
    for context in contexts[:crash]:
        whole.follow_sync(context)
        first.follow_sync(context)
    first.memory.close()
    if not store.sessions():
        return
    second = Bridge(MemoryManager.resume(store=store, counter=WordCounter()), codec)

    for context in contexts[crash:]:
        sent = second.follow_sync(context)

        assert wires(codec, sent) == wires(codec, whole.follow_sync(context))
        assert second.memory.get_stats()["current_tokens"] == whole.memory.get_stats()["current_tokens"]


def test_a_framework_gets_its_own_objects_back_after_a_resume(tmp_path: Path) -> None:
    from langchain_core.messages import AIMessage, HumanMessage

    from memory.integrations import langchain

    store = SqliteSessionStore(tmp_path / "sessions.db")
    said: list[Any] = [HumanMessage("What is due?"), AIMessage("The rent."), HumanMessage("When?")]
    first = Bridge(MemoryManager(CONFIG, counter=WordCounter(), store=store), langchain._Codec())
    first.follow_sync(said)
    first.memory.close()

    again: list[Any] = [HumanMessage("What is due?"), AIMessage("The rent."), HumanMessage("When?")]
    second = Bridge(MemoryManager.resume(store=store, counter=WordCounter()), langchain._Codec())

    assert all(one is other for one, other in zip(second.follow_sync(again), again, strict=True))
