"""Anthropic's signed thinking: issued with a signature, checked when it comes back (AN-8, AN-9, AN-10).

The check of the conversation before a block follows
https://platform.claude.com/docs/en/build-with-claude/preserved-thinking (September 2026): a change of `system`,
`tools` or an earlier message invalidates all thinking behind it, and so does thinking left out from between other
thinking. Leaving out the oldest thinking does not, nor does moving `cache_control`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...messages import Wire
from .anthropic_judge import blocks_of
from .formats import Json, Refusal, opaque, revealed
from .metering import digest

_SEAL: Final = "simulated-thinking"
_KINDS: Final = frozenset({"thinking", "redacted_thinking"})
_BETA: Final = "thinking-binding-controls-2026-08-01"
_FIRST_MUST_THINK: Final = re.compile(r"claude-3-7|claude-(?:opus|sonnet|haiku)-4(?:-[015])?(?:-20\d{6})?$")
"""Models that want thinking at the start of a turn when it is switched on; later ones do without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefix:
    """Digests of what stands before a block."""

    system: str
    tools: str
    messages: str
    """Without thinking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seal:
    """What a signature of ours says."""

    prefix: _Prefix
    before: str
    """The thinking before this one when it was made; empty for the first."""
    text: str
    neighbours: str
    """Of the whole message that it came in."""

    @classmethod
    def read(cls, block: Wire) -> _Seal | None:
        found = revealed(str(block.get("signature", block.get("data", ""))))
        if found is None or len(found) != 7 or found[0] != _SEAL:
            return None
        system, tools, messages, before, text, neighbours = found[1:]
        prefix = _Prefix(system=system, tools=tools, messages=messages)
        return cls(prefix=prefix, before=before, text=text, neighbours=neighbours)

    def written(self) -> str:
        prefix = self.prefix
        return opaque(_SEAL, prefix.system, prefix.tools, prefix.messages, self.before, self.text, self.neighbours)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A thinking block of a request, with what now stands before it."""

    at: str
    block: Wire
    prefix: _Prefix
    message: Wire
    is_in_latest: bool


class Thinking:
    """Signs thinking for the conversation it is made in, and knows its own signatures again."""

    def __init__(self, *, is_bound: bool) -> None:
        self._is_bound = is_bound

    def signed(self, blocks: Sequence[Wire], body: Wire) -> list[Json]:
        """Return the blocks of an answer to this request with its thinking signed; recorded signatures are replaced."""
        if not any(block["type"] in _KINDS for block in blocks):
            return [dict(block) for block in blocks]
        prefix = _prefix(body)
        before = self._latest_valid(body)
        neighbours = _digest_of_message(blocks)
        signed: list[Json] = []
        for block in blocks:
            if block["type"] in _KINDS:
                text = digest(str(block.get("thinking", "")))
                signature = _Seal(prefix=prefix, before=before, text=text, neighbours=neighbours).written()
                before = digest(signature)
                signed.append({**block, "signature" if block["type"] == "thinking" else "data": signature})
            else:
                signed.append(dict(block))
        return signed

    def refusal(self, body: Wire, betas: frozenset[str]) -> Refusal | None:
        """Return what is wrong with the thinking that a request sends back."""
        return next(self._problems(body, betas), None)

    def dropped(self, body: Wire, betas: frozenset[str]) -> list[Json]:
        """Return what the API would report as left out, for a request that asks it to leave stale thinking out."""
        if not self._is_bound or not _drops(body, betas):
            return []
        return [
            {"type": "thinking_dropped", "path": found.at, "reason": "prefix_binding_mismatch"}
            for found, why in self._checked(body)
            if why is not None
        ]

    def _problems(self, body: Wire, betas: frozenset[str]) -> Iterator[Refusal]:
        yield from _order_problems(body)
        for found, why in self._checked(body):
            seal = _Seal.read(found.block)
            if seal is not None and found.is_in_latest and _is_modified(found, seal):
                # https://github.com/anthropics/claude-code/issues/63284
                text = (
                    "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. "
                    "These blocks must remain as they were in the original response."
                )
                yield Refusal(message=f"{found.at}: {text}", rule="AN-8")
            if _is_forged(found.block, seal, is_bound=self._is_bound):
                # https://github.com/openclaw/openclaw/issues/94228
                yield Refusal(message=f"{found.at}: Invalid `signature` in `thinking` block", rule="AN-8")
            if self._is_bound and why is not None and not _drops(body, betas):
                yield _bound_to_another(found.at, why)

    def _checked(self, body: Wire) -> Iterator[tuple[_Found, str | None]]:
        """Yield each thinking block with what differs before it, None where nothing does."""
        before = ""
        for found in _thinking(body):
            seal = _Seal.read(found.block)
            why = "" if seal is None else _difference(seal, found.prefix, before)
            if why is None:
                before = digest(str(found.block.get("signature", found.block.get("data"))))
            yield found, why

    def _latest_valid(self, body: Wire) -> str:
        """Return the digest of the last thinking that the model could read of this request; empty if there is none."""
        valid = [found for found, why in self._checked(body) if why is None]
        return digest(str(valid[-1].block.get("signature", valid[-1].block.get("data")))) if valid else ""


def _drops(body: Wire, betas: frozenset[str]) -> bool:
    thinking = body.get("thinking")
    binding = thinking.get("block_binding") if isinstance(thinking, Mapping) else None
    is_asked = isinstance(binding, Mapping) and binding.get("prefix_mismatch_behavior") == "drop_block"
    return is_asked and _BETA in betas


def _difference(seal: _Seal, prefix: _Prefix, before: str) -> str | None:
    """Return what differs from when the block was made, in words; None if nothing does."""
    if seal.prefix.system != prefix.system:
        return "The `system` prompt differs from the one this block was created with."
    if seal.prefix.tools != prefix.tools:
        return "The `tools` differ from the ones this block was created with."
    if seal.prefix.messages != prefix.messages:
        return "The `messages` before this block differ from the ones it was created with."
    # Without thinking before it, the oldest was left out, which is allowed.
    if before and seal.before != before:
        return "Thinking before this block was left out or moved."
    return None


def _bound_to_another(at: str, why: str) -> Refusal:
    # https://github.com/pydantic/pydantic-ai/issues/7984, https://github.com/anomalyco/opencode/issues/48637
    message = (
        f"{at}: Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the "
        'block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block". That setting requires the '
        f"`{_BETA}` value in the `anthropic-beta` header. {why}"
    )
    return Refusal(message=message.rstrip(), rule="AN-10")


def _is_modified(found: _Found, seal: _Seal) -> bool:
    return seal.text != digest(str(found.block.get("thinking", ""))) or seal.neighbours != _digest_of_message(
        blocks_of(found.message)
    )


def _is_forged(block: Wire, seal: _Seal | None, *, is_bound: bool) -> bool:
    """Whether the server cannot have signed this. Signatures of others pass where nothing binds them."""
    if seal is None:
        return is_bound or block.get("signature") == ""
    return seal.text != digest(str(block.get("thinking", "")))


def _order_problems(body: Wire) -> Iterator[Refusal]:
    messages = body["messages"]
    for index, message in enumerate(messages):
        kinds = [str(block.get("type")) for block in blocks_of(message)] if message["role"] == "assistant" else []
        if kinds and not _KINDS.isdisjoint(kinds) and kinds[0] not in _KINDS:
            # https://github.com/anthropics/claude-code/issues/20691
            text = (
                "If an assistant message contains any thinking blocks, the first block must be `thinking` or "
                f"`redacted_thinking`. Found `{kinds[0]}`."
            )
            yield Refusal(message=f"messages.{index}.content.0: {text}", rule="AN-9")
        if kinds and kinds[-1] in _KINDS:
            # https://github.com/tailcallhq/forgecode/issues/3071
            text = "The final block in an assistant message cannot be `thinking`."
            yield Refusal(message=f"messages.{index}: {text}", rule="AN-9")
    yield from _beginning_problems(body, messages)


def _beginning_problems(body: Wire, messages: Sequence[Wire]) -> Iterator[Refusal]:
    """Older models: a turn that is still going on begins with thinking if that is switched on, and only then."""
    thinking = body.get("thinking")
    is_on = isinstance(thinking, Mapping) and thinking.get("type") == "enabled"
    if not is_on or not _FIRST_MUST_THINK.match(str(body.get("model"))):
        return
    index = _start_of_turn(messages)
    if index is None:
        return
    first = blocks_of(messages[index])[0]["type"]
    if first not in _KINDS:
        # https://github.com/openai/openai-agents-python/issues/1704
        text = (
            f"Expected `thinking` or `redacted_thinking`, but found `{first}`. When `thinking` is enabled, a final "
            "`assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` and "
            "`tool_result` blocks). We recommend you include thinking blocks from previous turns. To avoid this "
            "requirement, disable `thinking`."
        )
        yield Refusal(message=f"messages.{index}.content.0.type: {text}", rule="AN-9")


def _start_of_turn(messages: Sequence[Wire]) -> int | None:
    """Return the index of the first assistant message of the turn that tool results continue; None if none does."""
    start = None
    for index in range(len(messages) - 1, -1, -1):
        kinds = {block.get("type") for block in blocks_of(messages[index])}
        if messages[index]["role"] == "assistant":
            start = index
        elif "tool_result" not in kinds:
            return start
    return start


# --- Digests ----------------------------------------------------------------------------------------------------------


def _prefix(body: Wire) -> _Prefix:
    running = hashlib.sha256()
    for _ in _walk(body, running):
        pass
    return _prefix_of(body, running.hexdigest())


def _thinking(body: Wire) -> Iterator[_Found]:
    running = hashlib.sha256()
    messages = body["messages"]
    latest = max((n for n, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    start = running.hexdigest()
    for index, number, block in _walk(body, running):
        if number == 0:
            start = running.hexdigest()
        if block.get("type") in _KINDS:
            yield _Found(
                at=f"messages.{index}.content.{number}",
                block=block,
                # A block is made for the request, not for what its own answer says before it.
                prefix=_prefix_of(body, start),
                message=messages[index],
                is_in_latest=index == latest,
            )


def _walk(body: Wire, running: Any) -> Iterator[tuple[int, int, Wire]]:
    """Yield each block before it is added to the running digest of the conversation; thinking is not added."""
    role = ""
    for index, message in enumerate(body["messages"]):
        for number, block in enumerate(blocks_of(message)):
            yield index, number, block
            if message["role"] != role:
                # Only a change of role is marked: the server merges messages of one role.
                role = message["role"]
                running.update(f"\0{role}\0".encode())
            if block.get("type") not in _KINDS:
                running.update(_essence(block).encode("utf-8", "surrogatepass") + b"\0")


def _prefix_of(body: Wire, messages: str) -> _Prefix:
    system = body.get("system") or []
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
    return _Prefix(
        system=digest(*(_essence(block) for block in blocks)),
        tools=digest(*(_essence(tool) for tool in body.get("tools") or ())),
        messages=messages,
    )


def _digest_of_message(blocks: Sequence[Wire]) -> str:
    kept = [{k: v for k, v in block.items() if k not in ("signature", "data")} for block in blocks]
    return digest(*(_essence(block) for block in kept))


def _essence(block: Wire) -> str:
    """Return what a block says, whatever marks it carries and whether absent fields are written out."""
    return json.dumps(_plain(block), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        plain = {key: _plain(item) for key, item in value.items() if key != "cache_control" and item is not None}
        if plain.get("type") == "tool_result" and isinstance(plain.get("content"), str):
            plain["content"] = [{"type": "text", "text": plain["content"]}]
        return {key: item for key, item in plain.items() if (key, item) != ("is_error", False)}
    return [_plain(item) for item in value] if isinstance(value, list) else value
