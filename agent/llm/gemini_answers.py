"""What an answer of Gemini means: the same JSON from both of its SDKs, whole or in the chunks of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memory.dialects import dialect_named
from memory.messages import Wire
from memory.usage import Usage

from .access import Endpoint
from .beside import no_answer
from .errors import RequestRefusedError
from .protocol import LLMResponse, StopReason
from .retrying import Attempt

_CUT_OFF = frozenset({"MAX_TOKENS", "CONTINUATION"})
_DECLINED = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "ESCALATION",
        "PUP_LIMITED_DISABLED",
        "MODEL_ARMOR",
    }
)
_SPOILT = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"})
"""Another attempt may succeed. All of these: `FinishReason` in `google/genai/types.py` of google-genai 3.4; one that is
not listed ends the turn."""
_UNSIGNED_TEXT = frozenset({"text", "thought"})


class GeminiAnswer:
    """Takes an answer chunk by chunk and puts it together; a whole answer is one chunk.

    Text that arrives in pieces is joined. A part with a signature stays as it came and is joined with nothing: the
    signature belongs to exactly that part (validity rule GE-9).
    """

    def __init__(self, endpoint: Endpoint, attempt: Attempt) -> None:
        self._endpoint = endpoint
        self._attempt = attempt
        self._parts: list[dict[str, Any]] = []
        self._usage: Usage | None = None
        self._finish: str | None = None
        self._block: str | None = None
        self._model: str | None = None

    def take(self, chunk: Wire) -> None:
        """Take a chunk. Its usage counts the whole answer so far, so the last one holds."""
        self._usage = self._attempt.read_usage(chunk) or self._usage
        self._model = chunk.get("modelVersion") or self._model
        self._block = (chunk.get("promptFeedback") or {}).get("blockReason") or self._block
        # One candidate is all that is asked for.
        for candidate in (chunk.get("candidates") or ())[:1]:
            self._finish = candidate.get("finishReason") or self._finish
            for part in (candidate.get("content") or {}).get("parts") or ():
                self._show(part)
                self._add(part)

    def whole(self) -> LLMResponse:
        """Return the answer.

        Raises:
            BrokenAnswerError: It is empty, spoilt, or has no end.
            RequestRefusedError: A thought signature is missing in the request.
        """
        stop_reason = self._stop_reason()
        message = {"role": "model", "parts": self._parts}
        calls = dialect_named("gemini").read(message).calls
        said = "".join(part.get("text") or "" for part in self._parts if not part.get("thought"))
        if stop_reason == "end_turn" and not calls and not said.strip():
            raise self._attempt.broken(f"the answer is empty (finish reason {self._finish})")
        return LLMResponse(
            content=said,
            tool_calls=calls,
            stop_reason="tool_use" if calls and stop_reason == "end_turn" else stop_reason,
            usage=self._usage,
            message=message if self._parts else _stand_in(self._block or self._finish),
            model=self._model,
        )

    def _show(self, part: Wire) -> None:
        if call := part.get("functionCall"):
            self._attempt.show("tool_call", str(call.get("name") or ""))
        else:
            self._attempt.show("reasoning" if part.get("thought") else "text", part.get("text") or "")

    def _add(self, part: Wire) -> None:
        if not part or (_is_unsigned_text(part) and not part["text"]):
            return  # the API rejects a part with nothing in it (GE-7)
        if self._parts and _is_unsigned_text(part) and _is_unsigned_text(self._parts[-1]):
            last = self._parts[-1]
            if bool(last.get("thought")) == bool(part.get("thought")):
                last["text"] += part["text"]
                return
        self._parts.append(dict(part))

    def _stop_reason(self) -> StopReason:
        if self._block and not self._parts:
            return "refusal"
        if self._finish is None:
            raise self._attempt.broken("the answer has no end: it was cut")
        if self._finish in _SPOILT:
            raise self._attempt.broken(f"the answer is spoilt (finish reason {self._finish})")
        if self._finish == "MISSING_THOUGHT_SIGNATURE":
            raise RequestRefusedError(
                f"{self._endpoint} refuses the request: a function call in it lacks its thought signature (GE-8)",
                provider=self._endpoint.provider,
                model=self._endpoint.model,
            )
        return "max_tokens" if self._finish in _CUT_OFF else "refusal" if self._finish in _DECLINED else "end_turn"


def _is_unsigned_text(part: Mapping[str, Any]) -> bool:
    return part.keys() <= _UNSIGNED_TEXT and isinstance(part.get("text"), str)


def _stand_in(reason: str | None) -> Wire:
    return {"role": "model", "parts": [{"text": no_answer(reason or "unknown")}]}
