"""What is asked of the tables without changing them: one statement each, so that each answer is of one moment."""

from __future__ import annotations

from typing import Final

from .postgres_rows import columns_of
from .values import StoredMessage

LINE_OF: Final = """
    WITH RECURSIVE line AS (
        SELECT id, parent_id, parent_seq, last_seq AS newest, 0 AS depth
        FROM aloop.sessions WHERE id = %(id)s
        UNION ALL
        -- of a parent counts what its child shares, and no more than that child is shared itself
        SELECT parent.id, parent.parent_id, parent.parent_seq, least(line.parent_seq, line.newest), line.depth + 1
        FROM line JOIN aloop.sessions parent ON parent.id = line.parent_id
    )
"""
"""Begins a statement: `line` has the session `id` and its ancestors, each with the messages of it that count. Of a
deleted one those that branches share are read under its id: there an index finds them."""
EVERY_LINE: Final = """
    WITH line AS (SELECT id, parent_seq, last_seq AS newest, -number AS depth FROM aloop.sessions)
"""
"""The same for all sessions: each with its own messages."""
LINE: Final = f"{LINE_OF} SELECT id, newest FROM line ORDER BY depth DESC"

ON_LINE: Final = """
    FROM line JOIN aloop.messages m ON m.session_id = line.id AND m.seq > line.parent_seq AND m.seq <= line.newest
"""
_OF_LINE: Final = f"""{LINE_OF}
    SELECT {", ".join(f"m.{name}" for name in columns_of(StoredMessage))}
    {ON_LINE}
"""
MESSAGES: Final = f"""{_OF_LINE}
    WHERE m.seq >= %(first_seq)s AND m.seq <= coalesce(%(last_seq)s::bigint, 9223372036854775807) ORDER BY m.seq
"""
MESSAGES_OF: Final = f"{_OF_LINE} WHERE m.seq = ANY(%(seqs)s::bigint[]) ORDER BY m.seq"

SESSIONS: Final = """
    SELECT * FROM aloop.sessions WHERE NOT is_deleted ORDER BY updated_at DESC, number DESC LIMIT %(limit)s::bigint
"""
_NAMED: Final = "SELECT * FROM aloop.sessions WHERE NOT is_deleted AND {} ORDER BY updated_at DESC, number DESC LIMIT 6"
BY_ID: Final = _NAMED.format("id = %(name)s")
BY_PREFIX: Final = _NAMED.format("id >= %(name)s AND starts_with(id, %(name)s) AND %(name)s <> ''")
BY_TITLE: Final = _NAMED.format("title = %(name)s")

DAILY_USAGE: Final = """
    SELECT to_char(to_timestamp(at) AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, model,
        count(*) AS calls, count(DISTINCT session_id) AS sessions,
        sum(input_tokens)::bigint AS input_tokens, sum(cache_read_tokens)::bigint AS cache_read_tokens,
        sum(output_tokens)::bigint AS output_tokens, sum(cost_usd) AS cost_usd,
        coalesce(sum(cost_usd) FILTER (WHERE purpose = 'summary'), 0) AS summary_cost_usd,
        bool_or(is_estimate OR price_is_default) AS has_estimates
    FROM aloop.calls WHERE at >= %(since)s
    GROUP BY 1, 2 ORDER BY 1, 2 NULLS FIRST
"""


def own(table: str) -> str:
    """Return the statement for a session's own rows of a table, in their order."""
    return f"SELECT * FROM aloop.{table} WHERE session_id = %(id)s ORDER BY number"
