"""Whether a summary request may extend what the loop sends: only if the model that can be asked is the loop's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .accounts import Accounts
from .asking import Llm
from .config import MemoryConfig
from .live_prefix import LiveContext
from .messages import DialectName
from .models import bare_name
from .prices import undated
from .request_size import RequestSize
from .window import Window


def live_context(
    config: MemoryConfig,
    messages: Callable[[], Sequence[object]],
    window: Window,
    size: RequestSize,
    accounts: Accounts,
    *,
    llm: Llm | None,
    model: str | None,
    dialect: DialectName,
    limit_tokens: int,
) -> LiveContext | None:
    """Return what the loop sends now; None if nobody can be asked behind it.

    Args:
        config: Its `summary_prefix` may forbid or demand it, its `cache_alive` says what else is estimated.
        messages: Returns what is sent, made only if it can be extended.
        window: What it is made of.
        size: What travels beside them. A system prompt in parts is more than an agent's model takes.
        accounts: Know what was sent, when, and by which model.
        llm: What writes summaries.
        model: The model that the loop calls.
        dialect: The format of the messages.
        limit_tokens: What that model accepts.
    """
    system, tools = size.beside
    if llm is None or not llm.extends(dialect) or not _is_same(llm.own_model, model):
        return None
    if config.summary_prefix is False or not accounts.request_count:
        return None
    if system is not None and not isinstance(system, str):
        return None
    tokens = size.whole(window.tokens)
    return LiveContext(
        messages=messages(),
        system=system,
        tools=tools,
        tokens=tokens,
        cached_tokens=accounts.cached_tokens(cache_alive=config.cache_alive),
        limit_tokens=limit_tokens,
        rates=accounts.tracker.rates(model, input_tokens=tokens),
        fresh_rates=accounts.tracker.rates(llm.model, input_tokens=tokens),
        scale=size.scale,
        is_wanted=config.summary_prefix,
    )


def _is_same(one: str | None, other: str | None) -> bool:
    """Whether two names are of one model: responses name it with its date, callers often without."""
    return one is not None and other is not None and undated(bare_name(one)) == undated(bare_name(other))
