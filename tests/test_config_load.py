"""`config.load`: who wins, where it came from, and one clear error for everything that is wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import config
from config import Loaded
from memory import MemoryConfig
from memory.config import FIELD_NAMES, CompressionStrategy, ToolPolicy
from memory.errors import ConfigError


class Place:
    """A home and a project directory of which a test writes the configuration files."""

    def __init__(self, root: Path) -> None:
        self.home, self.project = root / "home", root / "home" / "work" / "project"
        self.project.mkdir(parents=True)

    def write(self, directory: Path, text: str | bytes) -> Path:
        path = directory / ".aloop" / "config"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def load(self, environ: Mapping[str, str] | None = None, **arguments: Any) -> Loaded:
        return config.load(project_dir=self.project, home_dir=self.home, environ=environ or {}, **arguments)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_without_anything_all_values_are_defaults(place: Place) -> None:
    loaded = place.load()

    assert {setting.source for setting in loaded.settings} == {"default"}
    assert [setting.field for setting in loaded.settings] == ["preset", *FIELD_NAMES]
    assert loaded.files == ()


def test_each_layer_beats_the_next_and_says_so(place: Place) -> None:
    file_value = "MEMORY_SHORT_TERM_SIZE={}\n"
    steps: list[tuple[int, str]] = [(place.load().memory.short_term_size, place.load().source_of("short_term_size"))]

    place.write(place.home, "MEMORY_PRESET=aggressive\n")
    loaded = place.load()
    steps.append((loaded.memory.short_term_size, loaded.source_of("short_term_size")))

    home = place.write(place.home, "MEMORY_PRESET=aggressive\n" + file_value.format(11))
    loaded = place.load()
    steps.append((loaded.memory.short_term_size, loaded.source_of("short_term_size")))

    project = place.write(place.project, file_value.format(12))
    loaded = place.load()
    steps.append((loaded.memory.short_term_size, loaded.source_of("short_term_size")))

    loaded = place.load({"MEMORY_SHORT_TERM_SIZE": "13"})
    steps.append((loaded.memory.short_term_size, loaded.source_of("short_term_size")))

    loaded = place.load({"MEMORY_SHORT_TERM_SIZE": "13"}, short_term_size=14)
    steps.append((loaded.memory.short_term_size, loaded.source_of("short_term_size")))

    assert steps == [
        (20, "default"),
        (10, "preset 'aggressive'"),
        (11, f"{home}:2"),
        (12, f"{project}:1"),
        (13, "environment"),
        (14, "argument"),
    ]
    assert loaded.files == (project, home)


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        ("MEMORY_ENABLED", "false", "enable_compression", False),
        ("MEMORY_ENABLED", "0", "enable_compression", False),
        ("MEMORY_ENABLED", "YES", "enable_compression", True),
        ("MEMORY_MAX_CONTEXT_TOKENS", "200_000", "max_context_tokens", 200_000),
        ("MEMORY_COMPRESSION_THRESHOLD", "50000", "compression_threshold", 50_000),
        ("MEMORY_SHORT_TERM_SIZE", " 7 ", "short_term_size", 7),
        ("MEMORY_COMPRESSION_RATIO", "0.25", "compression_ratio", 0.25),
        ("MEMORY_COMPRESSION_STRATEGY", "masking", "compression_strategy", CompressionStrategy.MASKING),
        ("MEMORY_PRESERVE_SYSTEM_PROMPTS", "off", "preserve_system_prompts", False),
        ("MEMORY_PRESERVE_TOOL_CALLS", "no", "preserve_tool_calls", False),
        ("MEMORY_COMPRESSION_MODEL", "gpt-4o-mini", "compression_model", "gpt-4o-mini"),
        ("MEMORY_COMPRESSION_MODEL", "none", "compression_model", None),
        ("MEMORY_MAX_COST_DOLLARS", "2.5", "max_cost_dollars", 2.5),
        ("MEMORY_MAX_COST_DOLLARS", "None", "max_cost_dollars", None),
        ("MEMORY_PROTECTED_TOOLS", "plan, ask_user,", "protected_tools", ("plan", "ask_user")),
        (
            "MEMORY_TOOL_POLICIES",
            "bash=mask, ls=drop",
            "tool_policies",
            {"bash": ToolPolicy.MASK, "ls": ToolPolicy.DROP},
        ),
        ("MEMORY_SUMMARY_TIMEOUT_SECONDS", "5", "summary_timeout_seconds", 5.0),
        ("MEMORY_SUMMARY_INPUT_TOKENS", "8000", "summary_input_tokens", 8000),
        ("MEMORY_EMBEDDER", "local", "embedder", "local"),
        ("MEMORY_EMBEDDER", "none", "embedder", None),
        ("MEMORY_AUTO_RECALL", "true", "auto_recall", True),
        ("MEMORY_AUTO_RECALL_TOKENS", "500", "auto_recall_tokens", 500),
    ],
)
def test_each_key_is_read_from_the_environment_and_from_a_file(
    place: Place, key: str, text: str, field: str, value: object
) -> None:
    assert getattr(place.load({key: text}).memory, field) == value

    place.write(place.project, f"{key}={text}\n")
    assert getattr(place.load().memory, field) == value


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("MEMORY_SHORT_TERM_SIZE = 7", 7),
        ("  export MEMORY_SHORT_TERM_SIZE=7  ", 7),
        ("MEMORY_SHORT_TERM_SIZE='7'", 7),
        ('MEMORY_SHORT_TERM_SIZE="7" # seven', 7),
        ("MEMORY_SHORT_TERM_SIZE=7 # seven", 7),
        ("memory_short_term_size=7", 7),
        ("\ufeffMEMORY_SHORT_TERM_SIZE=7", 7),
        ("# a comment\r\n\r\nMEMORY_SHORT_TERM_SIZE=7\r\n", 7),
        ("MEMORY_SHORT_TERM_SIZE=", 20),
        ("MEMORY_SHORT_TERM_SIZE= # nothing", 20),
        ("", 20),
    ],
    ids=repr,
)
def test_a_file_may_be_written_as_such_files_are(place: Place, line: str, size: int) -> None:
    place.write(place.project, line)

    assert place.load().memory.short_term_size == size


def test_a_projects_file_cannot_send_what_was_said_to_an_endpoint(place: Place) -> None:
    endpoint = "openai:text-embedding-3-small"
    assert place.load({"MEMORY_EMBEDDER": endpoint}).memory.embedder == endpoint

    place.write(place.project, f"MEMORY_EMBEDDER={endpoint}\n")
    with pytest.raises(ConfigError, match="no endpoint"):
        place.load()


def test_keys_of_others_are_left_alone(place: Place) -> None:
    place.write(place.project, "ANTHROPIC_API_KEY=secret\nPATH='a # b'\n")

    assert place.load({"HOME": "/x", "memoryenabled": "?"}).memory == place.load().memory


def test_keys_may_be_written_in_lower_case_in_the_environment_as_in_a_file(place: Place) -> None:
    place.write(place.project, "memory_preset=aggressive\n")

    assert place.load().memory == MemoryConfig.preset("aggressive")
    assert place.load({"memory_preset": "conservative"}).memory == MemoryConfig.preset("conservative")


def test_a_key_in_both_cases_is_refused(place: Place) -> None:
    with pytest.raises(ConfigError, match=r"MEMORY_PRESET stands twice in the environment, as .* keep one"):
        place.load({"memory_preset": "aggressive", "MEMORY_PRESET": "balanced"})


@pytest.mark.parametrize("text", ["x", "shell", "shell=", "=drop", "shell=drop,x"])
def test_a_policy_without_a_tool_or_a_tool_without_one_tells_how_to_write_it(place: Place, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"one of keep, .*got '{text}'; write tool=policy"):
        place.load({"MEMORY_TOOL_POLICIES": text})


def test_an_empty_variable_counts_as_not_set(place: Place) -> None:
    place.write(place.project, "MEMORY_SHORT_TERM_SIZE=7\n")

    assert place.load({"MEMORY_SHORT_TERM_SIZE": ""}).memory.short_term_size == 7


def test_none_takes_back_the_limit_of_a_weaker_layer(place: Place) -> None:
    place.write(place.home, "MEMORY_MAX_COST_DOLLARS=5\n")

    assert place.load().memory.max_cost_dollars == 5
    assert place.load({"MEMORY_MAX_COST_DOLLARS": "none"}).memory.max_cost_dollars is None
    assert place.load(max_cost_dollars=None).memory.max_cost_dollars is None


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("MEMORY_ENABLED", "maybe"),
        ("MEMORY_MAX_CONTEXT_TOKENS", "many"),
        ("MEMORY_MAX_CONTEXT_TOKENS", "-5"),
        ("MEMORY_COMPRESSION_THRESHOLD", "nan"),
        ("MEMORY_SHORT_TERM_SIZE", "1.5"),
        ("MEMORY_SHORT_TERM_SIZE", "0"),
        ("MEMORY_COMPRESSION_RATIO", "nan"),
        ("MEMORY_COMPRESSION_RATIO", "1.0"),
        ("MEMORY_COMPRESSION_RATIO", "-inf"),
        ("MEMORY_COMPRESSION_RATIO", "30%"),
        ("MEMORY_COMPRESSION_STRATEGY", "slide"),
        ("MEMORY_MAX_COST_DOLLARS", "-1"),
        ("MEMORY_MAX_COST_DOLLARS", "$5"),
        ("MEMORY_TOOL_POLICIES", "bash=burn"),
        ("MEMORY_TOOL_POLICIES", "bash"),
        ("MEMORY_SUMMARY_TIMEOUT_SECONDS", "inf"),
        ("MEMORY_PRESET", "agressive"),
    ],
)
def test_a_bad_value_names_key_value_range_and_place(place: Place, key: str, text: str) -> None:
    with pytest.raises(ConfigError) as from_environment:
        place.load({key: text})
    path = place.write(place.project, f"\n{key}={text}\n")
    with pytest.raises(ConfigError) as from_file:
        place.load()

    assert str(from_environment.value).startswith(f"{key} from environment: ")
    assert str(from_file.value).startswith(f"{key} from {path}:2: ")
    assert "must be" in str(from_file.value)
    assert (text.partition("=")[2] or text) in str(from_file.value)


def test_two_values_that_contradict_each_other_name_both_places(place: Place) -> None:
    path = place.write(place.project, "MEMORY_MAX_CONTEXT_TOKENS=20000\n")

    with pytest.raises(ConfigError) as refused:
        place.load({"MEMORY_COMPRESSION_THRESHOLD": "30000"})

    assert "MEMORY_COMPRESSION_THRESHOLD from environment" in str(refused.value)
    assert f"MEMORY_MAX_CONTEXT_TOKENS is from {path}:1" in str(refused.value)


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("MEMORY_TRESHOLD", "MEMORY_COMPRESSION_THRESHOLD"),
        ("MEMORY_MAX_TOKENS", "MEMORY_MAX_CONTEXT_TOKENS"),
        ("MEMORY_STRATEGY", "MEMORY_COMPRESSION_STRATEGY"),
        ("MEMORY_QQQ", "there are: MEMORY_ENABLED"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_and_without_its_value(
    place: Place, key: str, suggestion: str
) -> None:
    path = place.write(place.home, f"{key}=s3cret\n")

    with pytest.raises(ConfigError) as refused:
        place.load()

    assert f"{key} from {path}:1" in str(refused.value)
    assert suggestion in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MEMORY_ENABLED\n", ":1: not a KEY=value line"),
        ("\nsk-s3cret\n", ":2: not a KEY=value line"),
        ("API_KEY='s3cret\n", ":1: API_KEY: the value begins with ' and does not end with it"),
        ("MEMORY_ENABLED=true\nMEMORY_ENABLED=false\n", ":2: MEMORY_ENABLED stands on line 1 already"),
        ("MEMORY_ENABLED=true\nmemory_enabled=false\n", ":2: MEMORY_ENABLED stands on line 1 already"),
        (b"\xff\xfe\x00s3cret", ": not a text file in UTF-8"),
    ],
    ids=repr,
)
def test_a_broken_file_is_refused_by_line_and_without_its_text(place: Place, text: str | bytes, message: str) -> None:
    path = place.write(place.project, text)

    with pytest.raises(ConfigError) as refused:
        place.load()

    assert f"{path}{message}" in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_directory_in_the_files_place_is_a_clear_error(place: Place) -> None:
    (place.project / ".aloop" / "config").mkdir(parents=True)

    with pytest.raises(ConfigError, match="cannot be read"):
        place.load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_a_clear_error(place: Place) -> None:
    place.write(place.project, "MEMORY_ENABLED=true\n").chmod(0)

    with pytest.raises(ConfigError, match="cannot be read"):
        place.load()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"treshold": 3}, "did you mean compression_threshold"),
        ({"preset": 4}, "preset must be one of"),
        ({"preset": "balanced", "short_term_size": 0}, "short_term_size must be"),
        ({"compression_ratio": float("nan")}, "got nan"),
    ],
)
def test_a_bad_argument_is_refused_as_one(place: Place, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        place.load(**arguments)


def test_a_lowered_threshold_says_why(place: Place) -> None:
    assert place.load(max_context_tokens=20_000).source_of("compression_threshold") == (
        "default, lowered to 80 % of max_context_tokens"
    )


class TestTheProjectsFile:
    def test_is_the_nearest_on_the_way_up(self, place: Place) -> None:
        place.write(place.project.parent, "MEMORY_SHORT_TERM_SIZE=5\n")
        assert place.load().memory.short_term_size == 5

        place.write(place.project, "MEMORY_SHORT_TERM_SIZE=6\n")
        assert place.load().memory.short_term_size == 6

    def test_is_not_looked_for_above_the_repository(self, place: Place) -> None:
        place.write(place.project.parent, "MEMORY_SHORT_TERM_SIZE=5\n")
        (place.project / ".git").mkdir()

        assert place.load().memory.short_term_size == 20

    def test_is_not_looked_for_above_a_directory_that_is_in_no_repository_and_no_home(self, tmp_path: Path) -> None:
        place = Place(tmp_path)
        elsewhere = tmp_path / "elsewhere" / "deep"
        elsewhere.mkdir(parents=True)
        place.write(elsewhere.parent, "MEMORY_SHORT_TERM_SIZE=5\n")

        loaded = config.load(project_dir=elsewhere, home_dir=place.home, environ={})

        assert loaded.memory.short_term_size == 20

    def test_is_not_read_twice_when_the_project_is_the_home(self, place: Place) -> None:
        path = place.write(place.home, "MEMORY_SHORT_TERM_SIZE=5\n")

        loaded = config.load(project_dir=place.home, home_dir=place.home, environ={})

        assert loaded.files == (path,)


def test_settings_alone_read_this_process(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.project)
    monkeypatch.setenv("HOME", str(place.home))
    monkeypatch.setenv("MEMORY_SHORT_TERM_SIZE", "9")

    settings = config.Settings()

    assert (settings.short_term_size, settings.preset) == (9, None)
    assert config.load().memory.short_term_size == 9


class TestThePlaceOfSessions:
    def test_is_meant_from_the_projects_folder_on(self, place: Place) -> None:
        place.write(place.project, "MEMORY_SESSION_DB=runs.db")

        assert place.load().memory.session_db == str(place.project / "runs.db")

    def test_in_the_environment_is_meant_as_it_stands(self, place: Place) -> None:
        assert place.load({"MEMORY_SESSION_DB": "runs.db"}).memory.session_db == "runs.db"

    def test_is_shown_without_its_password(self, place: Place) -> None:
        loaded = place.load({"MEMORY_SESSION_DB": "postgresql://agents:topsecret@host:1/agents"})

        [shown] = [setting.value for setting in loaded.settings if setting.field == "session_db"]
        assert shown == "postgresql://host:1/agents"
        assert loaded.memory.session_db == "postgresql://agents:topsecret@host:1/agents"

    def test_is_no_database_that_a_project_names(self, place: Place) -> None:
        place.write(place.project, "MEMORY_SESSION_DB=postgresql://elsewhere/agents")

        with pytest.raises(ConfigError, match="no database"):
            place.load()
