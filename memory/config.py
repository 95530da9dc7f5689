"""The settings of the memory: one frozen value, checked when it is made.

Reading settings from files and the environment is not done here: that is the package `config`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from .errors import ConfigError

Name = TypeVar("Name", bound=StrEnum)


class CompressionStrategy(StrEnum):
    """The built-in ways to make a context smaller."""

    SLIDING_WINDOW = "sliding_window"
    """Everything older than the short-term window becomes one summary."""
    SELECTIVE = "selective"
    """What matters stays verbatim and in place; the rest is summarised."""
    DELETION = "deletion"
    """Old messages leave the context without a summary and without a model call."""
    MASKING = "masking"
    """Old tool results are replaced by one-line placeholders."""
    TIERED = "tiered"
    """Superseded results go first, then repeated ones, then old ones; what is still too much is summarised."""


class CompressionTrigger(StrEnum):
    """What decides when a compression is due. Past the hard limit it always is."""

    THRESHOLD = "threshold"
    """The context has grown to `compression_threshold`."""
    ECONOMIC = "economic"
    """It pays: what the requests to come will save exceeds what breaking the prompt cache and the summary cost."""


class ToolPolicy(StrEnum):
    """What a compression may do with the calls and results of one tool. The archive has them in any case."""

    KEEP = "keep"
    """Nothing: they stay as they are, wherever they stand."""
    MASK = "mask"
    """Replace results by a placeholder; the calls stay."""
    SUMMARISE = "summarise"
    """Let a summary stand for them, where the strategy writes one."""
    DROP = "drop"
    """Take them out without a summary."""


class _Default(int):
    """A number that nobody chose, so that it may follow another setting.

    It stays in the field, as the number it came to, so that `dataclasses.replace` can follow again; `wanted` is
    what it would be with room enough.
    """

    wanted: int

    def __new__(cls, value: int, wanted: int | None = None) -> _Default:
        number = super().__new__(cls, value)
        number.wanted = value if wanted is None else wanted
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """Every setting of a `MemoryManager`.

    `dataclasses.replace` gives a changed copy, checked again.

    Raises:
        ConfigError: A value is of the wrong type or out of range, or two values contradict each other. The message
            names the field, the value and what is allowed.
    """

    enable_compression: bool = True
    """False: messages are kept, counted and priced; nothing is compressed or refused unless you ask for it."""

    max_context_tokens: int = _Default(100_000)
    """What the model accepts, in tokens. At least 100. With compression enabled the context exceeds it only
    while a tool call is open.

    When it is not given it is 100,000 until the model is known, then that model's window less the answer's reserve.
    """

    compression_threshold: int = _Default(40_000)
    """Compress once the context has this many tokens. At least 50, at most `max_context_tokens`.

    Where it pays earlier or later, `trigger` says what wins. When it is not given it is 40,000 or, under a smaller
    `max_context_tokens`, 80 % of that; and more, up to there,
    where single steps are so large that every few of them would compress.
    """

    short_term_size: int = 20
    """How many of the newest messages a compression leaves alone, while they fit."""

    compression_ratio: float = 0.3
    """The size of a summary as a share of what it stands for; above 0, below 1. 0.3: compress to 30 %."""

    compression_strategy: CompressionStrategy = CompressionStrategy.SLIDING_WINDOW
    """What is taken out, and what stands in its place. A name is accepted: `"selective"`."""

    trigger: CompressionTrigger | None = None
    """When to compress: at `compression_threshold`, or when it pays. A name is accepted: `"economic"`.

    None: when it pays, but at the threshold where you give one. To judge what pays the model's price must be known;
    until then the threshold decides. With `economic` a threshold that you give is where it compresses at the latest.
    """

    expected_requests: int | None = None
    """How many requests the run will make in all, where that is known: `economic` weighs savings by those to come.
    None: as many again as were made so far."""

    cache_alive: float | None = None
    """The share of requests that find the provider's prompt cache alive (0-1), for `economic`. None: estimated from
    the time between requests and from what the provider reports."""

    max_overspend: float = 0.03
    """For `economic`: the most that compressing may make the run dearer, should it end at once, than sending everything
    with a warm prompt cache would have been (0.03: 3 %). It does not hold a forced compression back, nor one of a run
    whose `expected_requests` are given."""

    background: bool = False
    """Write summaries while the loop goes on, and put them in place when they are ready; wait at the hard
    limit only."""

    cache_breakpoints: bool = False
    """Anthropic: send copies with `cache_control` where the context stays as it is; only while no message, tool or
    system prompt of the caller's has one."""

    output_reserve_tokens: int | None = None
    """What of the model's window is left free for its answer, where `max_context_tokens` is not given. None: 8,192, or
    a quarter of a smaller window."""

    max_summaries: int = 4
    """How many summaries may stand one after the other before they are merged into one. 1: each takes the older in."""

    preserve_system_prompts: bool = True
    """System messages stay verbatim. False: those after the first may be summarised; the first one never is."""

    preserve_tool_calls: bool = True
    """`selective` keeps tool calls and their results verbatim while they fit its target."""

    compression_model: str | None = None
    """The model that writes summaries, as its provider names it. None: the agent's own."""

    max_cost_dollars: float | None = None
    """Refuse the model call that would bring the run's cost above this many US dollars. None: no limit."""

    protected_tools: tuple[str, ...] = ()
    """Names of tools whose calls and results are never taken out and never masked."""

    tool_policies: Mapping[str, ToolPolicy] = field(default_factory=dict, hash=False)
    """Per tool name, what a compression may do with its calls and results; the strategy decides on the others.

    A copy is kept. `"keep"` says the same as `protected_tools`.
    """

    max_result_tokens: int | None = None
    """A tool result longer than this enters the context in part, head and tail with its reference, whatever the
    strategy; the archive has it whole. At least 200. None: no limit. Tools with the policy `keep` have none either."""

    summary_prefix: bool | None = None
    """Have the agent's own model write summaries behind the context that it has just been sent, at the price of cached
    input. None: where that costs less than quoting the messages to `compression_model`. False: never."""

    summary_timeout_seconds: float = 60.0
    """How long one summary request may take before the next kind of summary is tried."""

    session_db: str | None = field(default=None, repr=False)
    """Where the conversation is kept from its first message on: a file, or a `postgresql://` address. None: nowhere,
    unless a store is given. `~` is the home directory. Not shown: an address may hold a password."""

    session_required: bool = False
    """Raise when the session cannot be written. False: the loop goes on in memory, with a warning and an event."""

    embedder: str | None = None
    """What turns messages into vectors for `recall`: `local`, or `openai:` and a model's name. None: words alone.

    The key for an endpoint is not kept here: give the memory an embedder; agents make it from the environment.
    """

    auto_recall: bool = False
    """Bring back by itself what was compressed away, where the newest messages name something in it."""

    auto_recall_tokens: int = 2_000
    """The most that comes back at one time; what stands of it is at most 15 % of the threshold. At least 100."""

    summary_input_tokens: int = 100_000
    """The most that one summary request may hold, in tokens; a longer part is summarised in pieces. At least 100."""

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            value = getattr(self, name)
            if not rule.accepts(value):
                raise _refusal(name, rule.allowed, value)
        self._settle("compression_strategy", _named(CompressionStrategy, "compression_strategy"))
        if self.trigger is not None:
            self._settle("trigger", _named(CompressionTrigger, "trigger"))
        self._settle("protected_tools", tuple)
        self._settle("tool_policies", _policies)
        self._settle("compression_threshold", self._following)
        self._check_together()

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> MemoryConfig:
        """Return the settings of a preset, changed by `overrides`.

        `aggressive` saves most, `conservative` keeps most, `balanced` is the default. A preset's threshold follows
        a smaller `max_context_tokens`, as the default one does.

        Raises:
            ConfigError: There is no preset of that name, or an override is wrong.
        """
        if name not in tuple(PRESETS):
            raise _refusal("preset", one_of(PRESETS), name, suggest=nearest(str(name), PRESETS))
        values = PRESETS[name] | overrides
        if unknown := sorted(values.keys() - FIELD_NAMES):
            raise unknown_field(unknown[0])
        return cls(**values)

    def given(self) -> dict[str, Any]:
        """Return the settings that are not the defaults, as JSON values for `from_given`."""
        values = {name: getattr(self, name) for name in FIELD_NAMES}
        default = MemoryConfig()
        return {
            name: _plain(value)
            for name, value in values.items()
            if type(value) is not type(getattr(default, name)) or value != getattr(default, name)
        }

    @classmethod
    def from_given(cls, values: Mapping[str, Any]) -> MemoryConfig:
        """Return the settings of which `given` returned these values.

        Raises:
            ConfigError: There is no such setting, or its value is out of range.
        """
        if unknown := sorted(values.keys() - set(FIELD_NAMES)):
            raise unknown_field(unknown[0])
        return cls(**{name: _from_plain(value) if name in _SIZES else value for name, value in values.items()})

    @property
    def gives_max_context(self) -> bool:
        """Whether `max_context_tokens` was chosen; else it follows the model's window."""
        return not isinstance(self.max_context_tokens, _Default)

    @property
    def is_economic(self) -> bool:
        """Whether a compression is due when it pays, rather than at the threshold."""
        if self.trigger is None:
            return not self.gives_threshold
        return self.trigger is CompressionTrigger.ECONOMIC

    @property
    def gives_threshold(self) -> bool:
        """Whether `compression_threshold` was chosen; else it follows the window and the size of steps."""
        return not isinstance(self.compression_threshold, _Default)

    def policy_for(self, tool: str) -> ToolPolicy | None:
        """Return what a compression may do with a tool's calls and results; None: the strategy decides."""
        return ToolPolicy.KEEP if tool in self.protected_tools else self.tool_policies.get(tool)

    def _settle(self, name: str, settled: Callable[[Any], object]) -> None:
        object.__setattr__(self, name, settled(getattr(self, name)))  # the one way to set a frozen field

    def _following(self, threshold: int) -> int:
        if not isinstance(threshold, _Default):
            return threshold
        return _Default(min(threshold.wanted, int(self.max_context_tokens) * 4 // 5), threshold.wanted)

    def _check_together(self) -> None:
        if self.compression_threshold > self.max_context_tokens:
            raise _refusal(
                "compression_threshold",
                f"at most max_context_tokens ({self.max_context_tokens}), or no compression would come before the "
                "model refuses the context",
                self.compression_threshold,
            )
        if self.compression_strategy in _SUMMARISING and self.compression_threshold * self.compression_ratio < 1:
            raise _refusal(
                "compression_ratio",
                f"at least {1 / self.compression_threshold:.2g} with a compression_threshold of "
                f"{self.compression_threshold}, or a summary would have to be shorter than one token",
                self.compression_ratio,
            )
        for tool in self.protected_tools:
            if self.tool_policies.get(tool, ToolPolicy.KEEP) is not ToolPolicy.KEEP:
                raise _refusal(
                    "tool_policies",
                    f"'keep' or absent for {tool!r}, which stands in protected_tools",
                    str(self.tool_policies[tool]),
                )


_SIZES: Final = ("max_context_tokens", "compression_threshold")
"""Settings whose default means another thing than the same number given."""

FIELD_NAMES: Final = tuple(f.name for f in fields(MemoryConfig))

PRESETS: Final[Mapping[str, dict[str, Any]]] = {
    "aggressive": {
        "compression_threshold": _Default(30_000),
        "compression_ratio": 0.2,
        "short_term_size": 10,
        "compression_strategy": CompressionStrategy.SLIDING_WINDOW,
        "trigger": CompressionTrigger.THRESHOLD,
    },
    "balanced": {
        "compression_threshold": _Default(40_000),
        "compression_ratio": 0.3,
        "short_term_size": 20,
        "compression_strategy": CompressionStrategy.SLIDING_WINDOW,
    },
    "conservative": {
        "compression_threshold": _Default(60_000),
        "compression_ratio": 0.5,
        "short_term_size": 30,
        "compression_strategy": CompressionStrategy.SELECTIVE,
        "trigger": CompressionTrigger.THRESHOLD,
    },
}


def _plain(value: Any) -> Any:
    if isinstance(value, _Default):
        return {"default": value.wanted}
    return {key: str(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def _from_plain(value: Any) -> Any:
    return _Default(value["default"]) if isinstance(value, dict) else value


def allowed(name: str) -> str:
    """Return what a field accepts, as the end of the sentence "must be …"."""
    return _RULES[name].allowed


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant, None when none is close.

    When none is, a name also counts by its end: `treshold` means `compression_threshold`.
    """
    known = list(names)
    close = difflib.get_close_matches(word, known)
    # Of several that a word is missing from, the one that is listed first: it is not the shortest that is meant.
    lacking = [name for name in known if name in close and set(word.split("_")) < set(name.split("_"))]
    if lacking or close:
        return (lacking or close)[0]
    ends = {end: name for name in known for end in _ends(name)}
    close = difflib.get_close_matches(word, ends, n=1)
    return ends[close[0]] if close else None


def one_of(names: Iterable[str]) -> str:
    """Return `one of a, b, c`."""
    return "one of " + ", ".join(names)


def unknown_field(name: str) -> ConfigError:
    """Return the error for a setting that does not exist."""
    close = nearest(name, FIELD_NAMES)
    hint = f"did you mean {close}?" if close else f"there are: {', '.join(FIELD_NAMES)}"
    return ConfigError(f"there is no setting {name!r}; {hint}", field=name)


def _ends(name: str) -> list[str]:
    words = name.split("_")
    return ["_".join(words[start:]) for start in range(len(words))]


def _refusal(name: str, allowed: str, value: object, *, suggest: str | None = None) -> ConfigError:
    hint = f"; did you mean {str(suggest)!r}?" if suggest else ""
    return ConfigError(f"{name} must be {allowed}, got {_shortened(value)}{hint}", field=name.partition("[")[0])


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _named(names: type[Name], field_name: str) -> Callable[[str], Name]:
    def find(value: str) -> Name:
        try:
            return names(value)
        except ValueError:
            raise _refusal(field_name, one_of(names), value, suggest=nearest(value, names)) from None

    return find


def _policies(policies: Mapping[str, str]) -> dict[str, ToolPolicy]:
    return {tool: _named(ToolPolicy, f"tool_policies[{tool!r}]")(policy) for tool, policy in policies.items()}


@dataclass(frozen=True, slots=True)
class _Rule:
    accepts: Callable[[Any], bool]
    allowed: str


def _is_number(value: object) -> bool:
    # bool is a subclass of int: `short_term_size=True` is a mistake, not a 1.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(minimum: int) -> _Rule:
    return _Rule(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= minimum,
        f"a whole number, {minimum} or more",
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_endpoint(value: str) -> bool:
    kind, _, model = value.partition(":")
    return kind == "openai" and bool(model.strip())


def _are_names(value: object) -> bool:
    # One string is a sequence of strings too, and always a forgotten comma.
    return isinstance(value, list | tuple | set | frozenset) and all(map(_is_name, value))


def _are_policies(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_name(tool) and isinstance(p, str) for tool, p in value.items())


_FLAG: Final = _Rule(lambda value: isinstance(value, bool), "true or false")
_SUMMARISING: Final = (
    CompressionStrategy.SLIDING_WINDOW,
    CompressionStrategy.SELECTIVE,
    CompressionStrategy.TIERED,
)
_RULES: Final[Mapping[str, _Rule]] = {
    "enable_compression": _FLAG,
    "max_context_tokens": _whole(100),
    "compression_threshold": _whole(50),
    "short_term_size": _whole(1),
    "compression_ratio": _Rule(lambda value: _is_number(value) and 0 < value < 1, "a number above 0 and below 1"),
    "compression_strategy": _Rule(lambda value: isinstance(value, str), one_of(CompressionStrategy)),
    "trigger": _Rule(lambda value: value is None or isinstance(value, str), f"{one_of(CompressionTrigger)}, or none"),
    "expected_requests": _Rule(
        lambda value: value is None or _whole(1).accepts(value), "a whole number of requests, 1 or more, or none"
    ),
    "cache_alive": _Rule(
        lambda value: value is None or (_is_number(value) and 0 <= value <= 1), "a number from 0 to 1, or none"
    ),
    "max_overspend": _Rule(lambda value: _is_number(value) and value >= 0, "a share, 0 or more (0.03: 3 %)"),
    "background": _FLAG,
    "cache_breakpoints": _FLAG,
    "output_reserve_tokens": _Rule(
        lambda value: value is None or _whole(0).accepts(value), "a whole number of tokens, 0 or more, or none"
    ),
    "max_summaries": _whole(1),
    "preserve_system_prompts": _FLAG,
    "preserve_tool_calls": _FLAG,
    "compression_model": _Rule(lambda value: value is None or _is_name(value), "the name of a model, or none"),
    "max_cost_dollars": _Rule(
        lambda value: value is None or (_is_number(value) and value > 0), "a number of dollars above 0, or none"
    ),
    "protected_tools": _Rule(_are_names, "a list of tool names"),
    "tool_policies": _Rule(_are_policies, f"a mapping of tool names to {one_of(ToolPolicy)}"),
    "max_result_tokens": _Rule(
        lambda value: value is None or _whole(200).accepts(value), "a whole number of tokens, 200 or more, or none"
    ),
    "summary_prefix": _Rule(lambda value: value is None or isinstance(value, bool), "true, false or none"),
    "summary_timeout_seconds": _Rule(lambda value: _is_number(value) and value > 0, "a number of seconds above 0"),
    "session_db": _Rule(
        lambda value: value is None or _is_name(value), "the path of a file, a postgresql:// address, or none"
    ),
    "session_required": _FLAG,
    "embedder": _Rule(
        lambda value: value is None or value == "local" or (_is_name(value) and _is_endpoint(value)),
        "local, openai:MODEL, or none",
    ),
    "auto_recall": _FLAG,
    "auto_recall_tokens": _whole(100),
    "summary_input_tokens": _whole(100),
}
