"""The columns that are read, and what their rows say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from .encoding import loaded
from .values import (
    DailyUsage,
    Heading,
    Owner,
    SessionInfo,
    StoredCall,
    StoredCompression,
    StoredLayout,
    StoredMessage,
)

Row: TypeAlias = Sequence[Any]

OWNER: Final = "owner_token, owner_host, owner_process_id, owner_process_started, lease_until"
HEADING: Final = (
    "title, dialect, model, last_seq, context_tokens, total_tokens, cost_usd, compression_count"  # fields of `Heading`
)
INFO: Final = f"id, created_at, updated_at, parent_id, parent_seq, config, {OWNER}, {HEADING}"
MESSAGE: Final = "seq, role, tools, form, blobs, tokens, at, is_written, body, shown"
CALL: Final = (
    "number, seq, at, model, purpose, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, "
    "cache_write_1h_tokens, reasoning_tokens, cost_usd, is_estimate, price_is_default"  # fields of `StoredCall`
)
COMPRESSION: Final = "number, seq, at, first_ref, last_ref, digest, event, plan, summary"
LAYOUT: Final = "number, after_seq, reason, body, blobs"
USAGE: Final = (
    "day, model, calls, sessions, input_tokens, cache_read_tokens, output_tokens, cost_usd, summary_cost_usd, "
    "has_estimates"  # fields of `DailyUsage`
)


def info_of(row: Row) -> SessionInfo:
    """Return what a row of the columns `INFO` says."""
    id, created_at, updated_at, parent_id, parent_seq, config = row[:6]
    owner, lease_until = owner_of_row(row[6:11])
    return SessionInfo(
        id=id,
        created_at=created_at,
        updated_at=updated_at,
        heading=Heading(**_named(HEADING, row[11:])),
        parent_id=parent_id,
        parent_seq=parent_seq,
        config=config,
        owner=owner,
        lease_until=lease_until,
    )


def owner_of_row(row: Row) -> tuple[Owner | None, float]:
    """Return what a row of the columns `OWNER` says: who has a session, and until when that holds."""
    token, host, process_id, process_started, lease_until = row
    if token is None:
        return None, lease_until
    return Owner(token=token, host=host, process_id=process_id, process_started=process_started), lease_until


def message_of(row: Row) -> StoredMessage:
    """Return what a row of the columns `MESSAGE` says."""
    seq, role, tools, form, blobs, tokens, at, is_written, body, shown = row
    return StoredMessage(
        seq=seq,
        role=role,
        tools=tuple(json.loads(tools)) if tools else (),
        form=form,
        body=body,
        blobs=tuple(blobs.split()),
        tokens=tokens,
        at=at,
        is_written=bool(is_written),
        shown=shown,
    )


def call_of(row: Row) -> StoredCall:
    """Return what a row of the columns `CALL` says."""
    values = _named(CALL, row)
    is_estimate, price_is_default = bool(values.pop("is_estimate")), bool(values.pop("price_is_default"))
    return StoredCall(**values, is_estimate=is_estimate, price_is_default=price_is_default)


def compression_of(row: Row) -> StoredCompression:
    """Return what a row of the columns `COMPRESSION` says."""
    values = _named(COMPRESSION, row)
    return StoredCompression(**values | {"summary": loaded(values["summary"])})


def layout_of(row: Row) -> StoredLayout:
    """Return what a row of the columns `LAYOUT` says."""
    values = _named(LAYOUT, row)
    return StoredLayout(**values | {"blobs": tuple(values["blobs"].split())})


def usage_of(row: Row) -> DailyUsage:
    """Return what a row of the columns `USAGE` says."""
    values = _named(USAGE, row)
    return DailyUsage(**values | {"has_estimates": bool(values["has_estimates"])})


def _named(columns: str, row: Row) -> dict[str, Any]:
    return dict(zip(columns.split(", "), row, strict=True))
