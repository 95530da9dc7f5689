"""The tables, and how an older database gets them: a list of functions for each part, one transaction each.

Text of people and models may hold what Postgres refuses in `text` (NUL, lone surrogates), so it goes through `to_text`.
JSON is kept as text for the same reason: `jsonb` refuses the escapes of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ..errors import NewerStorageError
from .postgres_connection import Connection, Transaction

Migration: TypeAlias = Callable[[Transaction], None]


def migrate(connection: Connection, part: str, migrations: Sequence[Migration]) -> None:
    """Bring a part of the database to the newest version. Several processes may do so at once.

    Raises:
        NewerStorageError: A newer version of this library was here.
        StorageReadOnlyError: The account may not make tables.
    """
    while _version(connection, part) != len(migrations):
        connection.write(lambda transaction: _migrate_once(transaction, part, migrations))


def _version(connection: Connection, part: str) -> int | None:
    """Return the number of migrations that were run; None if there is nothing of ours yet."""
    [row] = connection.read("SELECT to_regclass('aloop.versions') IS NOT NULL AS exists")
    if not row["exists"]:
        return None
    rows = connection.read("SELECT version FROM aloop.versions WHERE part = %(part)s", {"part": part})
    return rows[0]["version"] if rows else 0


def _migrate_once(transaction: Transaction, part: str, migrations: Sequence[Migration]) -> None:
    # Its number is the same for all who mean the same schema; it ends with the transaction.
    transaction.run("SELECT pg_advisory_xact_lock(hashtextextended('aloop.versions', 0))")
    _make_versions(transaction)
    rows = transaction.rows("SELECT version FROM aloop.versions WHERE part = %(part)s", {"part": part})
    version = rows[0]["version"] if rows else 0
    if version > len(migrations):
        raise NewerStorageError(
            f"the tables for {part} are of version {version}, and this aloop-memory knows {len(migrations)}; "
            "update it: pip install -U aloop-memory"
        )
    if version < len(migrations):
        migrations[version](transaction)
        transaction.run(
            "INSERT INTO aloop.versions (part, version) VALUES (%(part)s, %(version)s) "
            "ON CONFLICT (part) DO UPDATE SET version = excluded.version",
            {"part": part, "version": version + 1},
        )


def _make_versions(transaction: Transaction) -> None:
    [row] = transaction.rows(
        "SELECT to_regnamespace('aloop') IS NOT NULL AS has_schema, "
        "to_regclass('aloop.versions') IS NOT NULL AS has_table"
    )
    # `IF NOT EXISTS` asks for the right to make a schema even where it exists.
    if not row["has_schema"]:
        transaction.run("CREATE SCHEMA aloop")
    if not row["has_table"]:
        transaction.run("CREATE TABLE aloop.versions (part text PRIMARY KEY, version integer NOT NULL)")


_SESSIONS: Final = (
    """
    CREATE TABLE aloop.sessions (
        id text COLLATE "C" PRIMARY KEY,
        -- ascending in the order in which they began
        number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        created_at double precision NOT NULL,
        updated_at double precision NOT NULL,
        config text NOT NULL,
        parent_id text COLLATE "C" REFERENCES aloop.sessions,
        parent_seq bigint NOT NULL,
        -- deleted, and kept for the branches that share its messages
        is_deleted boolean NOT NULL DEFAULT false,
        title text NOT NULL,
        -- given by `rename`; turns leave it alone
        is_named boolean NOT NULL DEFAULT false,
        dialect text,
        model text,
        last_seq bigint NOT NULL,
        context_tokens bigint NOT NULL,
        total_tokens bigint NOT NULL,
        cost_usd double precision NOT NULL,
        compression_count bigint NOT NULL,
        state text NOT NULL,
        owner_token text,
        owner_host text,
        owner_process_id bigint,
        owner_process_started text,
        -- by the clock of the server
        lease_until double precision NOT NULL
    )
    """,
    "CREATE INDEX ON aloop.sessions (updated_at DESC, number DESC) WHERE NOT is_deleted",
    # Not a tree: a title may be longer than a tree takes.
    "CREATE INDEX ON aloop.sessions USING hash (title) WHERE NOT is_deleted",
    "CREATE INDEX ON aloop.sessions (parent_id) WHERE parent_id IS NOT NULL",
    """
    CREATE TABLE aloop.messages (
        session_id text COLLATE "C" NOT NULL REFERENCES aloop.sessions ON DELETE CASCADE,
        seq bigint NOT NULL,
        role text NOT NULL,
        tools text[] NOT NULL,
        form text NOT NULL,
        body text NOT NULL,
        blobs text[] NOT NULL,
        tokens bigint NOT NULL,
        at double precision NOT NULL,
        is_written boolean NOT NULL,
        shown text,
        is_indexed boolean NOT NULL DEFAULT false,
        -- its words were taken away; nothing of it is to be found
        is_forgotten boolean NOT NULL DEFAULT false,
        PRIMARY KEY (session_id, seq)
    )
    """,
    "CREATE INDEX ON aloop.messages USING gin (blobs) WITH (fastupdate = off) WHERE blobs <> '{}'",
    "CREATE INDEX ON aloop.messages (session_id, seq) WHERE NOT is_indexed",
    """
    CREATE TABLE aloop.blobs (
        digest text PRIMARY KEY,
        content bytea NOT NULL
    )
    """,
    """
    CREATE TABLE aloop.calls (
        session_id text COLLATE "C" NOT NULL REFERENCES aloop.sessions ON DELETE CASCADE,
        number bigint NOT NULL,
        seq bigint NOT NULL,
        at double precision NOT NULL,
        model text,
        purpose text NOT NULL,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        cache_read_tokens bigint NOT NULL,
        cache_write_tokens bigint NOT NULL,
        cache_write_1h_tokens bigint NOT NULL,
        reasoning_tokens bigint NOT NULL,
        cost_usd double precision NOT NULL,
        is_estimate boolean NOT NULL,
        price_is_default boolean NOT NULL,
        PRIMARY KEY (session_id, number)
    )
    """,
    "CREATE INDEX ON aloop.calls (at)",
    """
    CREATE TABLE aloop.compressions (
        session_id text COLLATE "C" NOT NULL REFERENCES aloop.sessions ON DELETE CASCADE,
        number bigint NOT NULL,
        seq bigint NOT NULL,
        at double precision NOT NULL,
        first_ref text NOT NULL,
        last_ref text NOT NULL,
        summary text NOT NULL,
        event text NOT NULL,
        plan text NOT NULL,
        digest text NOT NULL,
        PRIMARY KEY (session_id, number)
    )
    """,
    """
    CREATE TABLE aloop.layouts (
        session_id text COLLATE "C" NOT NULL REFERENCES aloop.sessions ON DELETE CASCADE,
        number bigint NOT NULL,
        after_seq bigint NOT NULL,
        reason text NOT NULL,
        body text NOT NULL,
        blobs text[] NOT NULL,
        PRIMARY KEY (session_id, number)
    )
    """,
    "CREATE INDEX ON aloop.layouts USING gin (blobs) WITH (fastupdate = off) WHERE blobs <> '{}'",
    """
    CREATE FUNCTION aloop.fence(session text, token text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        IF NOT EXISTS (SELECT FROM aloop.sessions WHERE id = session AND owner_token = token AND NOT is_deleted) THEN
            RAISE EXCEPTION 'not the owner of the session' USING ERRCODE = 'LP001';
        END IF;
    END $$
    """,
)

_INDEX: Final = (
    # What ranking must know of a session as a whole. A document's number is the session's, and its place in it.
    """
    CREATE TABLE aloop.namespaces (
        number bigint PRIMARY KEY REFERENCES aloop.sessions (number) ON DELETE CASCADE,
        documents bigint NOT NULL,
        terms bigint NOT NULL
    )
    """,
    """
    CREATE TABLE aloop.documents (
        id bigint PRIMARY KEY,
        role text NOT NULL,
        speaker text NOT NULL,
        tools text NOT NULL,
        at double precision NOT NULL,
        burst bigint NOT NULL,
        asks boolean NOT NULL,
        length bigint NOT NULL,
        counts bytea NOT NULL,
        content bytea NOT NULL
    )
    """,
    # Apart from the documents, so that many of its rows are on one page. Terms as hashes of 32 bits.
    """
    CREATE TABLE aloop.terms (
        id bigint PRIMARY KEY REFERENCES aloop.documents ON DELETE CASCADE,
        keys integer[] NOT NULL
    )
    """,
    # Without the list of what is not merged yet, which each search would have to read from end to end.
    "CREATE INDEX ON aloop.terms USING gin (keys) WITH (fastupdate = off)",
)

_VECTORS: Final = (
    """
    CREATE TABLE aloop.embedders (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL UNIQUE
    )
    """,
    """
    CREATE TABLE aloop.vectors (
        row bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        embedder bigint NOT NULL REFERENCES aloop.embedders,
        session_id text COLLATE "C" NOT NULL,
        seq bigint NOT NULL,
        -- of as many dimensions as its embedder has
        embedding pgvector.vector NOT NULL,
        UNIQUE (embedder, session_id, seq),
        FOREIGN KEY (session_id, seq) REFERENCES aloop.messages ON DELETE CASCADE
    )
    """,
    "CREATE INDEX ON aloop.vectors (session_id, seq)",
    # Up to which message of a session nothing is left to embed, so that what is new is found without reading the rest.
    """
    CREATE TABLE aloop.embedded (
        embedder bigint NOT NULL REFERENCES aloop.embedders,
        session_id text COLLATE "C" NOT NULL REFERENCES aloop.sessions ON DELETE CASCADE,
        seq bigint NOT NULL,
        PRIMARY KEY (embedder, session_id)
    )
    """,
)


def _runs(statements: Sequence[str]) -> Migration:
    def migration(transaction: Transaction) -> None:
        for statement in statements:
            transaction.run(statement)

    return migration


SESSIONS: Final[tuple[Migration, ...]] = (_runs(_SESSIONS), _runs(_INDEX))
"""What sessions need and finding their messages by words. Never change one that was released: add another."""
VECTORS: Final[tuple[Migration, ...]] = (_runs(_VECTORS),)
"""What vectors need, where pgvector is."""
