"""Which settings of which peer are compared: each as its documentation proposes it, and at the budgets of our own.

A budget is a trigger in tokens. What a compression keeps is a fifth of it, and a summary may have 15 % of it, which is
what the memory's own summaries have in the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from memory import CompressionStrategy, CompressionTrigger, MemoryConfig

Family: TypeAlias = Literal["summary", "window", "masking", "everything"]

TRIGGERS: Final = (40_000, 12_000)
"""The second gives a mean context of 6,000 to 9,000 tokens."""
SMALL: Final = 9_000
"""A budget of the memory alone: the cheapest way to run it that still keeps more than half of the facts."""
KEEP_SHARE: Final = 0.2
SUMMARY_SHARE: Final = 0.15
WINDOW_SHARE: Final = 0.6
"""What a window that is always full has of the budget: the mean of one that is filled to it and emptied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to use one peer."""

    peer: str
    """As in `environments.PEERS`."""
    way: str
    """As its worker calls it."""
    title: str
    family: Family
    trigger: int
    """The budget, for the size of its summaries; a window of messages has that of the row it stands beside."""
    options: Mapping[str, Any] = field(default_factory=dict)
    how: str = ""
    """How it was set up, for the documentation."""

    @property
    def name(self) -> str:
        return f"{self.peer}: {self.title}"

    @property
    def summary_tokens(self) -> int:
        return int(self.trigger * SUMMARY_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """One way to use the memory."""

    title: str
    config: MemoryConfig
    family: Family = "summary"
    how: str = ""

    @property
    def name(self) -> str:
        return f"ours: {self.title}"


def peers_settings() -> list[Setting]:
    """Return every setting of every peer."""
    budgeted = [setting for trigger in TRIGGERS for settings_at in _BUDGETED for setting in settings_at(trigger)]
    return [*budgeted, *_without_budget()]


def _langchain(trigger: int) -> Iterator[Setting]:
    size, keep, window = f"{trigger // 1_000}k", int(trigger * KEEP_SHARE), int(trigger * WINDOW_SHARE)
    yield Setting(
        peer="langchain",
        way="summarization",
        title=f"SummarizationMiddleware {size}",
        family="summary",
        trigger=trigger,
        options={"trigger": trigger, "keep": keep},
        how=f"`trigger=('tokens', {trigger})`, `keep=('tokens', {keep})`, `trim_tokens_to_summarize=None`, so that the "
        "summary is of everything that goes",
    )
    yield Setting(
        peer="langchain",
        way="summarization",
        title=f"SummarizationMiddleware {size}, defaults",
        family="summary",
        trigger=trigger,
        options={"trigger": trigger},
        how=f"`trigger=('tokens', {trigger})`; else its defaults: 20 messages stay, 4,000 tokens are summarised",
    )
    yield Setting(
        peer="langchain",
        way="context_editing",
        title=f"ContextEditingMiddleware {size}",
        family="masking",
        trigger=trigger,
        options={"trigger": trigger},
        how=f"`ClearToolUsesEdit(trigger={trigger})`, its default `keep=3`",
    )
    yield Setting(
        peer="langchain",
        way="trim_messages",
        title=f"trim_messages {window // 1_000}k",
        family="window",
        trigger=trigger,
        options={"max_tokens": window, "start_on": ["human", "ai"]},
        how=f"`strategy='last'`, `max_tokens={window}`, `include_system=True`, `end_on=('human', 'tool')`, "
        "`start_on=('human', 'ai')`: with `'human'` alone a loop of tool calls would be left with nothing",
    )


def _langmem(trigger: int) -> Iterator[Setting]:
    size, summary = f"{trigger // 1_000}k", int(trigger * SUMMARY_SHARE)
    yield Setting(
        peer="langmem",
        way="summarize_messages",
        title=f"summarize_messages {size}",
        family="summary",
        trigger=trigger,
        options={"trigger": trigger, "max_tokens": trigger, "summary_tokens": summary},
        how=f"`max_tokens=max_tokens_before_summary={trigger}`, as in its example, `max_summary_tokens={summary}`",
    )


def _openhands(trigger: int) -> Iterator[Setting]:
    size = f"{trigger // 1_000}k"
    yield Setting(
        peer="openhands",
        way="summarizing",
        title=f"LLMSummarizingCondenser {size}",
        family="summary",
        trigger=trigger,
        options={"max_tokens": trigger},
        how=f"`max_tokens={trigger}`; else its defaults: 240 events, the first 2 stay",
    )


def _strands(trigger: int) -> Iterator[Setting]:
    size = f"{trigger // 1_000}k"
    yield Setting(
        peer="strands",
        way="summarizing",
        title=f"SummarizingConversationManager {size}",
        family="summary",
        trigger=trigger,
        options={"threshold": 0.7, "window": round(trigger / 0.7), "summary_ratio": 0.8},
        how=f"`summary_ratio=0.8`, `proactive_compression=True` on a model of whose window {trigger} tokens are 70 %",
    )
    yield Setting(
        peer="strands",
        way="summarizing",
        title=f"SummarizingConversationManager {size}, defaults",
        family="summary",
        trigger=trigger,
        options={"threshold": 0.7, "window": round(trigger / 0.7)},
        how="the same with its default `summary_ratio=0.3`",
    )


def _litellm(trigger: int) -> Iterator[Setting]:
    window = int(trigger * WINDOW_SHARE)
    yield Setting(
        peer="litellm",
        way="trim_messages",
        title=f"trim_messages {window // 1_000}k",
        family="window",
        trigger=trigger,
        options={"max_tokens": window},
        how=f"`max_tokens={window}` on the whole history before each call, counted with o200k",
    )


def _harness(trigger: int) -> Iterator[Setting]:
    size, keep = f"{trigger // 1_000}k", int(trigger * KEEP_SHARE)
    yield Setting(
        peer="pydantic-ai-harness",
        way="summarizing",
        title=f"SummarizingCompaction {size}",
        family="summary",
        trigger=trigger,
        options={"trigger": trigger, "keep": keep},
        how=f"`max_tokens={trigger}`, `keep_tokens={keep}`, `tool_return_max_chars=None`, exact `tokenizer`",
    )
    yield Setting(
        peer="pydantic-ai-harness",
        way="summarizing",
        title=f"SummarizingCompaction {size}, defaults",
        family="summary",
        trigger=trigger,
        options={"trigger": trigger},
        how=f"`max_tokens={trigger}`, exact `tokenizer`; else its defaults: 20 messages stay, tool results are "
        "quoted to 500 characters",
    )
    yield Setting(
        peer="pydantic-ai-harness",
        way="tiered",
        title=f"TieredCompaction {size}",
        family="summary",
        trigger=trigger,
        options={"trigger": trigger, "keep": keep},
        how=f"`target_tokens={trigger}`: `ClearToolResults`, then `SummarizingCompaction(keep_tokens={keep})`",
    )
    yield Setting(
        peer="pydantic-ai-harness",
        way="clear_tool_results",
        title=f"ClearToolResults {size}",
        family="masking",
        trigger=trigger,
        options={"trigger": trigger},
        how=f"`max_tokens={trigger}`, its default `keep_pairs=3`",
    )
    yield Setting(
        peer="pydantic-ai-harness",
        way="sliding_window",
        title=f"SlidingWindowCompaction {size}",
        family="window",
        trigger=trigger,
        options={"trigger": trigger, "keep_tokens": keep},
        how=f"`max_tokens={trigger}`, `keep_tokens={keep}`",
    )


def _without_budget() -> Iterator[Setting]:
    for messages in (40, 200):
        yield Setting(
            peer="strands",
            way="sliding_window",
            title=f"SlidingWindowConversationManager {messages}",
            family="window",
            trigger=TRIGGERS[0],
            options={"window_messages": messages},
            how=f"`window_size={messages}` (its default is 40), `per_turn=True`, as proposed for loops of tool calls",
        )
        yield Setting(
            peer="openai-agents",
            way="session_limit",
            title=f"session, last {messages} items",
            family="window",
            trigger=TRIGGERS[0],
            options={"limit": messages},
            how=f"`SQLiteSession`, `SessionSettings(limit={messages})`; it has no default",
        )
    yield Setting(
        peer="openai-agents",
        way="tool_output_trimmer",
        title="ToolOutputTrimmer",
        family="masking",
        trigger=TRIGGERS[0],
        how="`call_model_input_filter=ToolOutputTrimmer()`, its defaults",
    )
    yield Setting(
        peer="openai-agents",
        way="compaction_session",
        title="OpenAIResponsesCompactionSession",
        family="summary",
        trigger=TRIGGERS[0],
        how="its defaults, over `SQLiteSession`; the provider's `compact` is played by the summariser, and user "
        "messages stay, as the provider documents",
    )
    yield Setting(
        peer="openhands",
        way="summarizing",
        title="LLMSummarizingCondenser, defaults",
        family="summary",
        trigger=TRIGGERS[0],
        how="its defaults: 240 events, no limit in tokens",
    )


_BUDGETED: Final = (_langchain, _langmem, _openhands, _strands, _litellm, _harness)


def own_settings() -> list[Own]:
    """Return every setting of the memory that is compared."""
    budgets = [one for trigger in TRIGGERS for one in _own_at(trigger)]
    small = MemoryConfig(trigger=CompressionTrigger.ECONOMIC, compression_threshold=SMALL)
    return [
        *budgets,
        Own(title="economic", config=MemoryConfig(), how="`MemoryConfig()` (the default)"),
        Own(
            title=f"economic {SMALL // 1_000}k",
            config=small,
            how=f"`MemoryConfig(compression_threshold={SMALL}, trigger='economic')`",
        ),
    ]


def _own_at(trigger: int) -> Iterator[Own]:
    size = f"{trigger // 1_000}k"
    limit = max(MemoryConfig().max_context_tokens, trigger)
    plain: dict[str, Any] = {"compression_threshold": trigger, "max_context_tokens": limit}
    given = f"`MemoryConfig(compression_threshold={trigger}"
    yield Own(title=f"threshold {size}", config=MemoryConfig(**plain), how=f"{given})`")
    for strategy in CompressionStrategy:
        if strategy.value in ("tiered", "masking"):
            yield Own(
                title=f"{strategy.value} {size}",
                config=MemoryConfig(**plain, compression_strategy=strategy),
                family="summary" if strategy.value == "tiered" else "masking",
                how=f"{given}, compression_strategy='{strategy.value}')`",
            )
    if trigger != TRIGGERS[0]:
        config = MemoryConfig(**plain, trigger=CompressionTrigger.ECONOMIC)
        yield Own(title=f"economic {size}", config=config, how=f"{given}, trigger='economic')`")


def curve_settings() -> list[Own]:
    """Return the further budgets of the memory between which its cost at a peer's mean context is read off."""
    return [
        Own(
            title=f"threshold {trigger // 1_000}k",
            config=MemoryConfig(compression_threshold=trigger, max_context_tokens=max(100_000, trigger)),
        )
        for trigger in (8_000, 20_000, 60_000)
    ]
