"""Messages become text and come back exactly, whatever they hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import LLMMessage
from memory.errors import CorruptStorageError, MessageError
from memory.sessions.encoding import (
    BLOB_CHARACTERS,
    blobs_of,
    decode,
    digest_of,
    dumped,
    encode,
    loaded,
    storable,
    without_marks,
)

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
"""Lone surrogates and zero bytes included."""
near_surrogates = st.text("\ud83d\ude00\udfff\ud800a😀", max_size=6)
marks = st.sampled_from(
    ["$aloop", "text", "blob", "bytes", "tuple", "mapping", "surrogates", "sha256", "items", "pairs"]
)
texts = any_text | near_surrogates | marks
long_texts = st.builds(lambda text, count: (text or "x") * count, texts, st.just(BLOB_CHARACTERS))
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts | long_texts | st.binary(max_size=20)
    | st.just(bytes(range(256)) * 40)
)  # fmt: skip
keys = texts | st.integers() | st.none() | st.booleans() | st.tuples(st.integers(), texts)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(texts, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)
messages = st.dictionaries(texts, values, max_size=5)


def again(message: object) -> object:
    encoded = encode(message)
    return decode(encoded.body, encoded.form, lambda digest: encoded.blobs[digest])


def same(one: object, other: object) -> bool:
    """Equal in value, type and order; NaN is the same as NaN, and -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return one == other


@given(messages)
def test_every_message_comes_back_exactly(message: dict[str, Any]) -> None:
    assert same(again(message), message)


@given(messages)
def test_what_is_written_is_ascii_and_names_its_blobs(message: dict[str, Any]) -> None:
    encoded = encode(message)

    assert encoded.body.isascii()
    assert "\0" not in encoded.body
    assert set(blobs_of(encoded.body)) == encoded.blobs.keys()
    assert all(digest_of(content) == digest for digest, content in encoded.blobs.items())


@given(messages)
def test_the_same_message_gives_the_same_text(message: dict[str, Any]) -> None:
    assert encode(message) == encode(message)


@given(messages)
def test_without_marks_it_is_plain_json_without_blobs(message: dict[str, Any]) -> None:
    plain = without_marks(loaded(encode(message).body))

    assert "$aloop" not in str(keys_of(plain))
    assert list(blobs_of(json.dumps(plain))) == []


def keys_of(value: object) -> list[object]:
    if isinstance(value, dict):
        return [*value, *(key for inner in value.values() for key in keys_of(inner))]
    return [key for inner in value for key in keys_of(inner)] if isinstance(value, list) else []


@given(texts)
def test_storable_text_is_what_any_database_takes(text: str) -> None:
    stored = storable(text)

    assert "\0" not in stored
    stored.encode()
    assert storable(stored) == stored


@given(st.text())
def test_ordinary_text_is_storable_as_it_is(text: str) -> None:
    assert storable(text) == text.replace("\0", "\ufffd")


@pytest.mark.parametrize(
    "content",
    [
        "\ud83d\ude00",
        "😀",
        float("nan"),
        float("inf"),
        -0.0,
        10**400 // 7,
        b"",
        (),
        [()],
        {"$aloop": "bytes", "base64": "AA=="},
        {"$aloop": "text", "sha256": "0" * 64},
        {"$aloop": None},
        {1: "a", "1": "b", None: "c", (1, "\ud800"): "d"},
        {"\ud83d\ude00": 1, "😀": 2},
        {"b": 1, "a": 2},
        "x" * BLOB_CHARACTERS,
        "\ud83d\ude00" * BLOB_CHARACTERS,
        "é" * (BLOB_CHARACTERS - 1),
    ],
    ids=repr,
)
def test_hard_values_come_back_exactly(content: object) -> None:
    message = {"role": "user", "content": content}

    assert same(again(message), message)


def test_only_long_texts_and_bytes_are_blobs() -> None:
    short, long = "x" * (BLOB_CHARACTERS - 1), "x" * BLOB_CHARACTERS

    assert encode({"content": short}).blobs == {}
    assert list(encode({"content": long}).blobs.values()) == [long.encode()]
    assert list(encode({"content": long.encode()}).blobs.values()) == [long.encode()]


def test_the_same_long_text_is_one_blob() -> None:
    text = "result " * 2_000

    encoded = encode({"content": [text, {"again": text}]})

    assert len(encoded.blobs) == 1
    assert len(encoded.body) < 500


def test_an_llm_message_comes_back_as_one() -> None:
    message = LLMMessage(role="user", content="x" * 10_000)

    assert encode(message).form == "llm_message"
    assert again(message) == message


def test_a_mapping_that_is_no_dict_comes_back_as_a_dict() -> None:
    message: Mapping[str, object] = MappingProxyType({"role": "user", "content": MappingProxyType({"a": 1})})

    assert again(message) == {"role": "user", "content": {"a": 1}}


class Image:
    """Neither JSON nor bytes."""


@pytest.mark.parametrize("content", [Image(), {1, 2}, [Image()], {"a": {"b": Image()}}, {Image(): 1}, 1j])
def test_what_is_neither_json_nor_bytes_is_refused(content: object) -> None:
    with pytest.raises(MessageError):
        encode({"role": "user", "content": content})


def test_what_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(MessageError):
        encode({"role": "user", "content": endless})


def test_what_can_be_encoded_nested_can_be_decoded() -> None:
    content: object = "deep"
    for _ in range(150):
        content = [{"inner": content}]

    assert again({"content": content}) == {"content": content}


def gone(digest: str) -> bytes:
    raise CorruptStorageError(digest)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "nonsense",
        '{"$aloop":"unknown"}',
        '{"$aloop":["text"]}',
        '{"$aloop":"text"}',
        '{"$aloop":"text","sha256":"0"}',
        '{"$aloop":"bytes","base64":"%"}',
        '{"$aloop":"bytes","base64":7}',
        '{"$aloop":"surrogates","base64":"gA=="}',
        '{"$aloop":"tuple"}',
        '{"$aloop":"mapping","pairs":[[1]]}',
        '{"$aloop":"mapping","pairs":[[[],1]]}',
        "[" * 100_000,
    ],
)
def test_a_damaged_text_is_told(body: str) -> None:
    with pytest.raises(CorruptStorageError):
        decode(body, "dict", gone)


def test_a_damaged_llm_message_is_told() -> None:
    for body in ('{"unknown":1}', "[]", "7"):
        with pytest.raises(CorruptStorageError):
            decode(body, "llm_message", gone)


@pytest.mark.parametrize("action", [lambda: dumped(Image()), lambda: dumped({(1, 2): 3})])
def test_only_json_is_dumped(action: Callable[[], object]) -> None:
    with pytest.raises(MessageError):
        action()
