"""What `with_memory` knows of each API: where a call's messages are, what stands beside them, where usage comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from ...errors import ConfigError, MessageError
from ...messages import DialectName
from ...native import to_wire
from .gemini_contents import contents_of

Arguments: TypeAlias = Mapping[str, Any]
Known: TypeAlias = tuple[Any, str | None]
"""A response's usage, and the model that it names."""


class Format(Protocol):
    """One API, as far as its calls and its streams concern the memory."""

    @property
    def dialect(self) -> DialectName: ...

    @property
    def key(self) -> str:
        """The argument that carries the messages."""
        ...

    def messages(self, arguments: Arguments) -> list[Any]:
        """Return the messages of a call as a list.

        Raises:
            ConfigError: The provider keeps this conversation itself.
        """
        ...

    def beside(self, arguments: Arguments) -> tuple[object, object]:
        """Return the system prompt and the tools that travel beside the messages, as the caller gave them."""
        ...

    def asking_for_usage(self, arguments: Arguments) -> Arguments:
        """Return the arguments of a stream such that its usage is reported; the very same where it is anyway."""
        ...

    def usage(self, event: Any, known: Known | None) -> Known | None:
        """Return the usage that is known after this event of a stream, or after this whole response."""
        ...

    def is_usage_alone(self, event: Any) -> bool:
        """Whether an event is there because usage was asked for, and says nothing else."""
        ...


class ChatCompletions:
    """OpenAI's `chat.completions`, and those that speak it."""

    dialect: DialectName = "openai_chat"
    key = "messages"

    def messages(self, arguments: Arguments) -> list[Any]:
        return list(arguments[self.key])

    def beside(self, arguments: Arguments) -> tuple[object, object]:
        return None, arguments.get("tools")

    def asking_for_usage(self, arguments: Arguments) -> Arguments:
        """Add `include_usage`, without which a stream has none; a caller's own word on it stands.

        Source: `ChatCompletionStreamOptionsParam` in `openai/types/chat` of openai 2.54 and 3.52.
        """
        options = arguments.get("stream_options")
        own = options if isinstance(options, Mapping) else {}
        return arguments if "include_usage" in own else {**arguments, "stream_options": {**own, "include_usage": True}}

    def usage(self, event: Any, known: Known | None) -> Known | None:
        chunk = getattr(event, "chunk", event)  # the helper's events have the chunk inside
        usage = getattr(chunk, "usage", None)
        return known if usage is None else (usage, getattr(chunk, "model", None))

    def is_usage_alone(self, event: Any) -> bool:
        chunk = getattr(event, "chunk", event)
        return not getattr(chunk, "choices", True) and getattr(chunk, "usage", None) is not None


class Responses:
    """OpenAI's `responses`."""

    dialect: DialectName = "openai_responses"
    key = "input"

    def messages(self, arguments: Arguments) -> list[Any]:
        """Return the input; a text is a message of the user (`ResponseCreateParams.input` of openai 3.52)."""
        for name in ("previous_response_id", "conversation"):
            if is_given(arguments.get(name)):
                raise ConfigError(
                    f"with {name} the server keeps this conversation, and what the memory takes out of it comes back; "
                    f"choose one: leave {name} out and send the whole input, or use the client without with_memory"
                )
        given = arguments[self.key]
        return [{"role": "user", "content": given}] if isinstance(given, str) else list(given)

    def beside(self, arguments: Arguments) -> tuple[object, object]:
        return arguments.get("instructions"), arguments.get("tools")

    def asking_for_usage(self, arguments: Arguments) -> Arguments:
        return arguments

    def usage(self, event: Any, known: Known | None) -> Known | None:
        response = getattr(event, "response", event)  # the last event of a stream has the response inside
        usage = getattr(response, "usage", None)
        return known if usage is None else (usage, response.model)

    def is_usage_alone(self, event: Any) -> bool:
        return False


class AnthropicMessages:
    """Anthropic's `messages`."""

    dialect: DialectName = "anthropic"
    key = "messages"

    def messages(self, arguments: Arguments) -> list[Any]:
        return list(arguments[self.key])

    def beside(self, arguments: Arguments) -> tuple[object, object]:
        return arguments.get("system"), arguments.get("tools")

    def asking_for_usage(self, arguments: Arguments) -> Arguments:
        return arguments

    def usage(self, event: Any, known: Known | None) -> Known | None:
        """Put the counts of `message_delta`, which are cumulative, over those of `message_start`.

        Source: `types/message_delta_usage.py` of anthropic 2.12; its counts may be null.
        """
        match getattr(event, "type", None):
            case "message_start":
                return to_wire(event.message.usage), event.message.model
            case "message_delta" if known is not None:
                return {**known[0], **to_wire(event.usage)}, known[1]
            case "message":
                return event.usage, event.model
            case _:
                return known

    def is_usage_alone(self, event: Any) -> bool:
        return False


class GenerateContent:
    """Gemini's `generate_content` of google-genai."""

    dialect: DialectName = "gemini"
    key = "contents"

    def messages(self, arguments: Arguments) -> list[Any]:
        return contents_of(arguments[self.key])

    def beside(self, arguments: Arguments) -> tuple[object, object]:
        config = arguments.get("config")
        if isinstance(config, Mapping):
            return config.get("system_instruction", config.get("systemInstruction")), config.get("tools")
        return getattr(config, "system_instruction", None), getattr(config, "tools", None)

    def asking_for_usage(self, arguments: Arguments) -> Arguments:
        return arguments

    def usage(self, event: Any, known: Known | None) -> Known | None:
        """Take the newest: each chunk counts all so far."""
        usage = getattr(event, "usage_metadata", None)
        return known if usage is None else (usage, getattr(event, "model_version", None))

    def is_usage_alone(self, event: Any) -> bool:
        return False


def is_given(value: object) -> bool:
    """Whether an argument says anything; the SDKs mark those left out by an instance of `Omit` or `NotGiven`."""
    return value is not None and type(value).__name__ not in ("Omit", "NotGiven")


def countable_system(system: object) -> object | None:
    """Return a system prompt as the memory counts it: text, or parts with text."""
    if not is_given(system):
        return None
    if isinstance(system, list | tuple):
        return [part if isinstance(part, str) else _wire(part) or "" for part in system]
    return system if isinstance(system, str) else _wire(system)


def countable_tools(tools: object) -> list[Mapping[str, Any]] | None:
    """Return the tools that have a schema; Gemini's SDK takes functions too, and writes their schemas later."""
    if not isinstance(tools, list | tuple):  # an iterator is not ours to use up
        return None
    return [wire for tool in tools if (wire := _wire(tool)) is not None]


def _wire(value: object) -> Mapping[str, Any] | None:
    try:
        return to_wire(value)
    except MessageError:  # a function, an MCP session: what it will send cannot be seen from here
        return None
