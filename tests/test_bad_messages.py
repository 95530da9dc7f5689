"""Whatever JSON stands where a message belongs: our own error, or an answer, in every dialect."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import MemoryConfig, MemoryManager, validate
from memory.dialects import DIALECTS
from memory.errors import AgentMemoryError
from memory.messages import DialectName
from memory.repair import repair

KEYS = (
    *("role", "content", "type", "text", "parts", "tool_calls", "tool_call_id", "id", "name", "arguments", "function"),
    *("call_id", "output", "input", "tool_use_id", "source", "data", "media_type", "functionCall", "functionResponse"),
    *("args", "response", "inlineData", "mimeType", "image_url", "url", "thinking", "signature", "summary", "refusal"),
    *("is_error", "cache_control", "thought", "thoughtSignature", "encrypted_content", "input_audio", "file", "status"),
)
WORDS = (
    *("user", "assistant", "system", "developer", "tool", "model", "function", "text", "tool_use", "tool_result"),
    *(
        "image",
        "image_url",
        "input_text",
        "output_text",
        "function_call",
        "function_call_output",
        "reasoning",
        "message",
    ),
    *(
        "thinking",
        "redacted_thinking",
        "document",
        "base64",
        "c1",
        "read",
        "{}",
        "",
        "\ud800",
        "input_image",
        "refusal",
    ),
    *("computer_call", "computer_call_output", "mcp_call", "item_reference", "server_tool_use", "input_audio"),
)

scalars = st.sampled_from(WORDS) | st.none() | st.booleans() | st.integers(-5, 5) | st.just(float("nan"))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
roles = st.sampled_from(("user", "assistant", "system", "tool", "model"))
kinds = st.sampled_from(WORDS)
messages = (
    st.dictionaries(st.sampled_from(KEYS), values, max_size=5)
    | st.fixed_dictionaries({"role": roles, "content": values}, optional={"tool_calls": values, "tool_call_id": values})
    | st.fixed_dictionaries({"role": roles, "parts": values})
    | st.fixed_dictionaries({"type": kinds}, optional={"call_id": values, "output": values, "arguments": values})
    | st.fixed_dictionaries({"role": roles, "content": st.lists(st.fixed_dictionaries({"type": kinds}), max_size=3)})
)


@pytest.mark.parametrize("dialect", list(DIALECTS))
@given(batch=st.lists(messages, max_size=4))
def test_a_dialect_answers_or_raises_our_error(dialect: DialectName, batch: list[dict[str, Any]]) -> None:
    for message in batch:
        DIALECTS[dialect].recognise(message)
        with contextlib.suppress(AgentMemoryError):
            DIALECTS[dialect].read(message)
    with contextlib.suppress(AgentMemoryError):
        validate(batch, dialect)
    with contextlib.suppress(AgentMemoryError):
        repair(batch, dialect)


@given(batch=st.lists(messages, max_size=4))
def test_a_manager_takes_a_message_or_raises_our_error(batch: list[dict[str, Any]]) -> None:
    memory = MemoryManager(MemoryConfig(max_context_tokens=200, compression_threshold=50, short_term_size=1))

    for message in batch:
        with contextlib.suppress(AgentMemoryError):
            memory.add_message_sync(message)
