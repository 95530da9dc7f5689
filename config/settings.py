"""What may stand in the environment and in `.aloop/config`, and the types it is read as."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .layers import Layer, layers_of


def none_from_word(value: object) -> object:
    """Return None for the word, which takes back what a weaker place says."""
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


def _names_from_text(value: object) -> object:
    return _items(value) if isinstance(value, str) else value


def _pairs_from_text(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [item.partition("=") for item in _items(value)]
    if not all(tool.strip() and policy.strip() for tool, _, policy in pairs):
        raise ValueError("not tool=policy")
    return {tool.strip(): policy.strip() for tool, _, policy in pairs}


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


class Settings(BaseSettings):
    """The settings of the environment and the `.aloop/config` files, as types; None where nothing is set.

    Types only: ranges and what must fit together are `MemoryConfig`'s to judge, so that they stand in one place.
    `load` is the way to a `MemoryConfig`; it also knows where each value came from.
    """

    model_config = SettingsConfigDict(extra="forbid")

    preset: str | None = None
    enable_compression: bool | None = None
    max_context_tokens: int | None = None
    compression_threshold: int | None = None
    short_term_size: int | None = None
    compression_ratio: float | None = None
    compression_strategy: str | None = None
    trigger: Annotated[str | None, BeforeValidator(none_from_word)] = None
    expected_requests: Annotated[int | None, BeforeValidator(none_from_word)] = None
    cache_alive: Annotated[float | None, BeforeValidator(none_from_word)] = None
    max_overspend: float | None = None
    background: bool | None = None
    cache_breakpoints: bool | None = None
    output_reserve_tokens: Annotated[int | None, BeforeValidator(none_from_word)] = None
    max_summaries: int | None = None
    preserve_system_prompts: bool | None = None
    preserve_tool_calls: bool | None = None
    compression_model: Annotated[str | None, BeforeValidator(none_from_word)] = None
    max_cost_dollars: Annotated[float | None, BeforeValidator(none_from_word)] = None
    protected_tools: Annotated[tuple[str, ...] | None, BeforeValidator(_names_from_text)] = None
    tool_policies: Annotated[dict[str, str] | None, BeforeValidator(_pairs_from_text)] = None
    max_result_tokens: Annotated[int | None, BeforeValidator(none_from_word)] = None
    summary_prefix: Annotated[bool | None, BeforeValidator(none_from_word)] = None
    summary_timeout_seconds: float | None = None
    session_db: Annotated[str | None, BeforeValidator(none_from_word)] = None
    session_required: bool | None = None
    embedder: Annotated[str | None, BeforeValidator(none_from_word)] = None
    auto_recall: bool | None = None
    auto_recall_tokens: int | None = None
    summary_input_tokens: int | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read our layers in place of the usual sources, which forget the line that a value stands on."""
        return init_settings, *(_LayerSource(settings_cls, layer) for layer in cls._layers())

    @classmethod
    def of(cls, layers: tuple[Layer, ...]) -> Settings:
        """Return the settings of these layers, the first one winning.

        Raises:
            pydantic.ValidationError: A value is not of its field's type.
        """

        # pydantic-settings asks the class for its sources, so the layers travel in one.
        class Layered(cls):  # type: ignore[valid-type, misc]  # a base that is known when it runs
            @classmethod
            def _layers(cls) -> tuple[Layer, ...]:
                return layers

        return Layered()

    @classmethod
    def _layers(cls) -> tuple[Layer, ...]:
        return layers_of(Path.cwd(), Path.home(), os.environ)


class _LayerSource(PydanticBaseSettingsSource):
    def __init__(self, settings_cls: type[BaseSettings], layer: Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._layer[field_name].text, field_name, False

    def __call__(self) -> dict[str, Any]:
        return {name: given.text for name, given in self._layer.items()}
