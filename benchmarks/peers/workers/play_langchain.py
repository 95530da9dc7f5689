"""Plays conversations through LangChain: SummarizationMiddleware, ContextEditingMiddleware, trim_messages.

Each is called as `create_agent` calls it: the system prompt stands beside the state's messages, `before_model` changes
the state through the reducer of its messages, `wrap_model_call` changes one request.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[3]))

from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    ModelRequest,
    ModelResponse,
    SummarizationMiddleware,
)
from langchain.agents.middleware.summarization import DEFAULT_SUMMARY_PROMPT
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, get_buffer_string, trim_messages
from langgraph.graph.message import add_messages
from langgraph.runtime import Runtime

from benchmarks.peers.workers.desk import Desk, Message, serve
from benchmarks.peers.workers.langchain_messages import Codec, counter


def summarization(desk: Desk) -> None:
    """Summarise in `before_model`; what it returns becomes the state."""
    codec, state = Codec(), list[Any]()

    def summary(messages: list[Any]) -> str:
        prompt = DEFAULT_SUMMARY_PROMPT.format(messages=get_buffer_string(messages, format="xml"))
        return desk.summarise(map(codec.message, messages), prompt=prompt)

    middleware: Any = SummarizationMiddleware(
        FakeListChatModel(responses=[""]),
        trigger=("tokens", desk.options["trigger"]),
        token_counter=counter(desk),
        summarizer=summary,
        **_keep(desk),
    )

    def request() -> Iterable[Message]:
        with desk.clock:
            update = middleware.before_model({"messages": state}, Runtime())
        if update is not None:
            state[:] = add_messages(state, update["messages"])
        return codec.context(state)

    desk.play(codec.into(state), request)


def _keep(desk: Desk) -> dict[str, Any]:
    if "keep" not in desk.options:
        return {}
    return {"keep": ("tokens", desk.options["keep"]), "trim_tokens_to_summarize": None}


def context_editing(desk: Desk) -> None:
    """Clear old tool results in `wrap_model_call`; the state keeps them."""
    codec, state = Codec(), list[Any]()
    edit = ClearToolUsesEdit(trigger=desk.options["trigger"])
    middleware: Any = ContextEditingMiddleware(edits=[edit], token_counter=counter(desk))
    model = FakeListChatModel(responses=[""])

    def request() -> Iterable[Message]:
        sent: list[Sequence[BaseMessage]] = []

        def handler(request: ModelRequest[Any]) -> ModelResponse[Any]:
            sent.append(request.messages)
            return ModelResponse(result=[AIMessage("")])

        with desk.clock:
            middleware.wrap_model_call(ModelRequest(model=model, messages=list(state)), handler)
        return codec.context(sent[0])

    desk.play(codec.into(state), request)


def trimming(desk: Desk) -> None:
    """Trim the whole history anew for each request, as the function's documentation shows for chat histories."""
    codec, state = Codec(keeps_system=True), list[Any]()
    count = counter(desk)

    def request() -> Iterable[Message]:
        with desk.clock:
            kept = trim_messages(
                state,
                max_tokens=desk.options["max_tokens"],
                token_counter=count,
                strategy="last",
                include_system=True,
                start_on=desk.options["start_on"],
                end_on=("human", "tool"),
            )
        return codec.context(kept)

    desk.play(codec.into(state), request)


if __name__ == "__main__":
    serve({"summarization": summarization, "context_editing": context_editing, "trim_messages": trimming})
