"""What goes wrong with a database: each failure has its own error, says no secret, and passes when its cause does."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from memory.errors import (
    ConfigError,
    CorruptStorageError,
    NewerStorageError,
    StorageError,
    StorageFullError,
    StorageLockedError,
    StorageReadOnlyError,
    StorageUnreachableError,
)
from memory.recall import Document
from memory.sessions.lease import LEASE_SECONDS
from memory.sessions.postgres import PostgresSessionStore
from memory.testing.session_turns import Writer, owner_elsewhere

SECRET = "pa$$w0rd"
VECTOR = b"\0\0\x80\x3f\0\0\0\0"

Run = Callable[..., list[Any]]


@pytest.fixture
def store(postgres_server: str, postgres_schema: str) -> Iterator[PostgresSessionStore]:
    store = PostgresSessionStore(postgres_server, schema=postgres_schema, timeout_seconds=0.1)
    yield store
    store.close()


@pytest.fixture
def run(postgres_server: str, postgres_schema: str) -> Iterator[Run]:
    """Run a statement as an administrator would, with `{s}` for the store's schema; return its rows."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:

        def run(statement: str, connection: psycopg.Connection[Any] = connection) -> list[Any]:
            cursor = connection.execute(statement.replace("{s}", postgres_schema).encode())
            return cursor.fetchall() if cursor.description else []

        yield run


def raise_on_messages(run: Run, body: str) -> None:
    """Let each new message run some PL/pgSQL first."""
    run(f"CREATE FUNCTION {{s}}.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$")
    run("CREATE TRIGGER fail BEFORE INSERT ON {s}.messages FOR EACH ROW EXECUTE FUNCTION {s}.fail()")


# --- What the server says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("53100", StorageFullError),
        ("53400", StorageFullError),
        ("54000", StorageFullError),
        ("25006", StorageReadOnlyError),
        ("42501", StorageReadOnlyError),
        ("55P03", StorageLockedError),
        ("57014", StorageLockedError),
        ("40001", StorageLockedError),
        ("53300", StorageUnreachableError),
        ("57P03", StorageUnreachableError),
        ("XX001", CorruptStorageError),
        ("XX002", CorruptStorageError),
        ("42P01", CorruptStorageError),
        ("P0001", StorageError),
    ],
)
def test_each_failure_has_its_error_and_nothing_of_the_turn_is_written(
    store: PostgresSessionStore, run: Run, sqlstate: str, kind: type[StorageError]
) -> None:
    writer = Writer(store, "a1")
    writer.write("one")
    raise_on_messages(run, f"RAISE EXCEPTION 'the words %', NEW.body USING ERRCODE = '{sqlstate}';")
    turn = writer.turn("two")

    with pytest.raises(StorageError) as caught:
        store.save(turn)

    assert type(caught.value) is kind
    assert sqlstate in str(caught.value)
    assert "two" not in str(caught.value), "what the server quotes is not repeated"
    assert store.load("a1").info.heading.last_seq == 1
    run("DROP TRIGGER fail ON {s}.messages")
    store.save(turn)
    assert [one.seq for one in store.messages("a1")] == [1, 2]


def test_what_only_another_attempt_needs_is_attempted_again(store: PostgresSessionStore, run: Run) -> None:
    writer = Writer(store, "a1")
    writer.write("one")
    run("CREATE SEQUENCE {s}.attempts")
    raise_on_messages(run, "IF nextval(TG_TABLE_SCHEMA || '.attempts') < 3 THEN RAISE deadlock_detected; END IF;")

    writer.write("two")

    assert [one.seq for one in store.messages("a1")] == [1, 2]


def test_whoever_keeps_a_session_locked_for_too_long_is_told_of(store: PostgresSessionStore, run: Run) -> None:
    writer = Writer(store, "a1")
    writer.write("one")
    run("BEGIN")
    run("SELECT FROM {s}.sessions FOR UPDATE")

    with pytest.raises(StorageLockedError):
        writer.write("two")

    run("COMMIT")
    writer.write("three")


# --- The connection ---------------------------------------------------------------------------------------------------


def test_a_connection_that_broke_is_made_again(store: PostgresSessionStore, run: Run) -> None:
    writer = Writer(store, "a1")
    writer.write("one")
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aloop'"

    run(end)
    writer.write("two")
    run(end)

    assert [one.seq for one in store.messages("a1")] == [1, 2]


def test_an_interrupt_in_the_middle_leaves_the_store_as_it_was(store: PostgresSessionStore) -> None:
    class Interrupted(list[Document]):
        def __iter__(self) -> Iterator[Document]:
            raise KeyboardInterrupt

    writer = Writer(store, "a1")
    writer.write("one")
    with pytest.raises(KeyboardInterrupt):
        store.index(Interrupted([Document(namespace="a1", seq=1, role="user", at=1.0, text="one")]))

    writer.write("two")

    assert [one.seq for _, one in store.unindexed()] == [1, 2]


def test_a_closed_store_opens_again(store: PostgresSessionStore) -> None:
    writer = Writer(store, "a1")
    writer.write("one")

    store.close()

    assert [one.id for one in store.sessions()] == ["a1"]


def test_nothing_is_connected_before_the_first_call() -> None:
    PostgresSessionStore("postgresql://nobody@127.0.0.1:1/nowhere").close()


@pytest.mark.parametrize("options", [{"host": "127.0.0.1", "port": 1}, {"dbname": "nosuch"}, {"user": "nosuch"}])
def test_a_database_that_cannot_be_reached_is_told_of(postgres_server: str, options: dict[str, Any]) -> None:
    store = PostgresSessionStore(psycopg.conninfo.make_conninfo(postgres_server, **options))

    with pytest.raises(StorageUnreachableError, match="cannot be reached, or refused us"):
        store.sessions()


@pytest.mark.parametrize(
    ("conninfo", "cause"),
    [
        (f"host=127.0.0.1 port=1 dbname=agents password={SECRET}", r"on 127\.0\.0\.1:1 .*\(connection refused"),
        (f"host=nosuch.invalid dbname=agents password={SECRET}", r"on nosuch\.invalid:5432 .*\(there is no host of"),
        (f"host=/nosuch dbname=agents password={SECRET}", r"\(there is no socket"),
    ],
)
def test_why_there_is_no_connection_is_told_and_to_whom(
    conninfo: str, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPORT", raising=False)
    store = PostgresSessionStore(conninfo)

    with pytest.raises(StorageUnreachableError, match=cause) as reading:
        store.sessions()
    with pytest.raises(StorageUnreachableError, match="may be written again"):
        store.rename("a1", "other")

    assert "written again" not in str(reading.value)
    assert SECRET not in str(reading.value)


def test_no_error_and_no_name_of_a_store_shows_the_password() -> None:
    store = PostgresSessionStore(f"host=127.0.0.1 port=1 dbname=agents user=me password={SECRET}")

    with pytest.raises(StorageUnreachableError) as caught:
        store.sessions()

    shown = repr(store) + "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert "the database agents on 127.0.0.1" in repr(store)


@pytest.mark.parametrize("conninfo", [f"postgresql://me:{SECRET}%zz@host/db", f"host=x {SECRET}", f"passwort={SECRET}"])
def test_a_conninfo_that_cannot_be_read_is_not_repeated(conninfo: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PostgresSessionStore(conninfo)

    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("schema", ["", "Aloop", 'a"b', "a.b", "1a", "a" * 64])
def test_a_schema_is_a_plain_name(schema: str) -> None:
    with pytest.raises(ConfigError, match="schema"):
        PostgresSessionStore("", schema=schema)


def test_a_store_may_cross_a_fork(store: PostgresSessionStore) -> None:
    writer = Writer(store, "a1")
    writer.write("one")
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=Writer(store, f"child-{n}").write, args=("one",)) for n in range(2)]

    for child in children:
        child.start()
    writer.write("two")
    for child in children:
        child.join(10)

    assert [child.exitcode for child in children] == [0, 0]
    assert {one.id for one in store.sessions()} == {"a1", "child-0", "child-1"}


# --- Rights and versions ----------------------------------------------------------------------------------------------


@contextmanager
def account(run: Run, name: str) -> Iterator[None]:
    run(f"CREATE ROLE {name} LOGIN")
    try:
        yield
    finally:
        run(f"DROP OWNED BY {name}")
        run(f"DROP ROLE {name}")


def test_a_store_that_may_only_read_reads(
    postgres_server: str, postgres_schema: str, store: PostgresSessionStore
) -> None:
    writer = Writer(store, "a1")
    writer.write("one")
    conninfo = psycopg.conninfo.make_conninfo(postgres_server, options="-c default_transaction_read_only=on")
    reader = PostgresSessionStore(conninfo, schema=postgres_schema)

    assert [one.id for one in reader.sessions()] == ["a1"]
    with pytest.raises(StorageReadOnlyError):
        reader.rename("a1", "new")
    reader.close()


def test_an_account_that_may_make_no_tables_is_told_so(postgres_server: str, postgres_schema: str, run: Run) -> None:
    with account(run, f"{postgres_schema}_role"):
        conninfo = psycopg.conninfo.make_conninfo(postgres_server, user=f"{postgres_schema}_role")
        store = PostgresSessionStore(conninfo, schema=postgres_schema)

        with pytest.raises(StorageReadOnlyError, match="rights"):
            store.sessions()
        store.close()


def test_once_the_tables_are_there_reading_and_writing_them_is_enough(
    postgres_server: str, postgres_schema: str, store: PostgresSessionStore, run: Run
) -> None:
    store.sessions()
    role = f"{postgres_schema}_role"
    with account(run, role):
        run(f"GRANT USAGE ON SCHEMA {{s}} TO {role}")
        run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {{s}} TO {role}")
        worker = PostgresSessionStore(
            psycopg.conninfo.make_conninfo(postgres_server, user=role), schema=postgres_schema
        )

        writer = Writer(worker, "a1")
        writer.write("one", bytes(10_000))
        writer.release()
        assert worker.forget("a1", [1]) == 1
        worker.delete("a1")

        assert worker.sessions() == []
        worker.close()


def test_tables_of_a_newer_version_are_left_alone(
    postgres_server: str, postgres_schema: str, store: PostgresSessionStore, run: Run
) -> None:
    store.sessions()
    run("UPDATE {s}.versions SET version = 99 WHERE part = 'sessions'")

    with pytest.raises(NewerStorageError, match="99"):
        PostgresSessionStore(postgres_server, schema=postgres_schema).sessions()


def test_tables_of_an_older_version_are_brought_up_to_date(
    postgres_server: str, postgres_schema: str, store: PostgresSessionStore, run: Run
) -> None:
    Writer(store, "a1").write("lighthouse")
    run("DROP TABLE {s}.terms, {s}.documents, {s}.namespaces")
    run("UPDATE {s}.versions SET version = 1 WHERE part = 'sessions'")

    later = PostgresSessionStore(postgres_server, schema=postgres_schema)

    assert [one.seq for _, one in later.unindexed()] == [1]
    assert run("SELECT count(*) FROM {s}.documents") == [(0,)]
    later.close()


def test_workers_that_start_at_once_make_the_tables_once(postgres_server: str, postgres_schema: str) -> None:
    stores = [PostgresSessionStore(postgres_server, schema=postgres_schema) for _ in range(6)]

    def work(number: int) -> None:
        Writer(stores[number], f"session-{number}").write("one")
        stores[number].add_vectors("mini", [(f"session-{number}", 1, VECTOR)])

    at_once(work, len(stores))

    assert len(stores[0].sessions()) == len(stores[0].vectors("mini")) == len(stores)
    for store in stores:
        store.close()


def at_once(work: Callable[[int], None], count: int) -> None:
    """Run something in several threads, and raise what one of them raises."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


# --- What is promised of this store alone -----------------------------------------------------------------------------


def test_leases_run_by_the_clock_of_the_server(store: PostgresSessionStore, run: Run) -> None:
    Writer(store, "a1", owner=owner_elsewhere()).write("one")

    [(left,)] = run("SELECT lease_until - extract(epoch FROM clock_timestamp()) FROM {s}.sessions")

    assert LEASE_SECONDS - 60 < left <= LEASE_SECONDS


@pytest.mark.parametrize(("is_durable", "setting"), [(True, "on"), (False, "off")])
def test_a_durable_turn_waits_for_the_disk(
    store: PostgresSessionStore, run: Run, is_durable: bool, setting: str
) -> None:
    store.sessions()
    note_on_messages(run, "synchronous_commit")

    Writer(store, "a1").write("one", is_durable=is_durable)

    assert run("SELECT value FROM {s}.seen") == [(setting,)]


def test_turns_see_what_others_wrote_while_they_waited_whatever_the_server_is_set_to(
    postgres_server: str, postgres_schema: str, store: PostgresSessionStore, run: Run
) -> None:
    store.sessions()
    note_on_messages(run, "transaction_isolation")
    conninfo = psycopg.conninfo.make_conninfo(postgres_server, options="-c default_transaction_isolation=serializable")
    strict = PostgresSessionStore(conninfo, schema=postgres_schema)

    Writer(strict, "a1").write("one")

    assert run("SELECT value FROM {s}.seen") == [("read committed",)]
    strict.close()


def note_on_messages(run: Run, setting: str) -> None:
    """Let each new message write down a setting of its transaction."""
    run("CREATE TABLE {s}.seen (value text)")
    insert = f"format('INSERT INTO %I.seen VALUES (current_setting(''{setting}''))', TG_TABLE_SCHEMA)"
    raise_on_messages(run, f"EXECUTE {insert};")
