"""`config.load_agent`: the agent's settings, their origins, keys that nobody sees, and what a project may not say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from config import LoadedAgent, load, load_agent
from config.layers import AGENT_KEYS
from memory.errors import ConfigError


class Place:
    """A home and a project directory of which a test writes the configuration files."""

    def __init__(self, root: Path) -> None:
        self.home, self.project = root / "home", root / "home" / "work"
        self.project.mkdir(parents=True)

    def write(self, directory: Path, *lines: str) -> Path:
        path = directory / ".aloop" / "config"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))
        return path

    def load(self, environ: Mapping[str, str] | None = None, **arguments: Any) -> LoadedAgent:
        return load_agent(project_dir=self.project, home_dir=self.home, environ=environ or {}, **arguments)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_each_place_beats_the_next_and_says_so(place: Place) -> None:
    def step(environ: Mapping[str, str] | None = None, **arguments: Any) -> tuple[int, str]:
        loaded = place.load(environ, **arguments)
        return loaded.agent.max_iterations, loaded.source_of("max_iterations")

    steps = [step()]
    home = place.write(place.home, "ALOOP_MAX_ITERATIONS=11")
    steps.append(step())
    project = place.write(place.project, "# ours", "aloop_max_iterations = 12")
    steps.append(step())
    steps.append(step({"ALOOP_MAX_ITERATIONS": "13"}))
    steps.append(step({"ALOOP_MAX_ITERATIONS": "13"}, max_iterations=14))

    assert steps == [
        (50, "default"),
        (11, f"{home}:1"),
        (12, f"{project}:2"),
        (13, "environment"),
        (14, "argument"),
    ]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("ALOOP_PROVIDER", "anthropic", "anthropic"),
        ("ALOOP_PROVIDER", "none", None),
        ("ALOOP_MODEL", "claude-haiku-4-5", "claude-haiku-4-5"),
        ("ALOOP_BASE_URL", "http://localhost:11434/v1", "http://localhost:11434/v1"),
        ("ALOOP_BASE_URL", "NONE", None),
        ("ALOOP_STREAM", "off", False),
        ("ALOOP_MAX_ITERATIONS", "7", 7),
        ("ALOOP_TIMEOUT_SECONDS", "2.5", 2.5),
        ("ALOOP_MAX_RETRIES", "0", 0),
        ("ALOOP_ALLOW_WRITES", "yes", True),
        ("ALOOP_ALLOW_COMMANDS", "1", True),
        ("ALOOP_STREAM", "", True),
    ],
)
def test_each_key_is_read_from_the_environment_and_from_the_users_file(
    place: Place, key: str, text: str, value: object
) -> None:
    assert getattr(place.load({key: text}).agent, AGENT_KEYS[key]) == value

    place.write(place.home, f"{key}={text}")
    assert getattr(place.load().agent, AGENT_KEYS[key]) == value


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"ALOOP_MODLE": "x"}, "ALOOP_MODLE from environment: there is no such key; did you mean ALOOP_MODEL?"),
        ({"ALOOP_STREAM": "perhaps"}, "stream must be true or false, got 'perhaps'"),
        ({"ALOOP_MAX_ITERATIONS": "0"}, "max_iterations must be a whole number, 1 or more, got '0'"),
        ({"ALOOP_MAX_RETRIES": "-1"}, "max_retries must be a whole number, 0 or more, got '-1'"),
        ({"ALOOP_TIMEOUT_SECONDS": "nan"}, "timeout_seconds must be a number of seconds above 0, got 'nan'"),
        ({"ALOOP_BASE_URL": "http://localhost:99999"}, "base_url must be an address"),
        ({"ALOOP_BASE_URL": "http://elsewhere.org\\@localhost"}, "base_url must be an address"),
        ({"ALOOP_BASE_URL": "localhost:11434"}, "base_url must be an address that begins with http:// or https://"),
        ({"ALOOP_MODEL": "a", "aloop_model": "b"}, "ALOOP_MODEL stands twice in the environment"),
    ],
)
def test_what_is_wrong_is_told_with_its_key_and_its_place(
    place: Place, environ: Mapping[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        place.load(environ)

    assert str(caught.value).startswith("ALOOP_")
    assert sentence in str(caught.value)


def test_an_argument_that_does_not_exist_is_told_with_the_one_that_was_meant(place: Place) -> None:
    with pytest.raises(ConfigError, match="did you mean max_iterations"):
        place.load(max_iteration=3)


def test_neither_part_of_the_program_judges_the_keys_of_the_other(place: Place) -> None:
    place.write(place.project, "ALOOP_MAX_ITERATIONS=3", "MEMORY_SHORT_TERM_SIZE=5", "OTHER=1")

    assert place.load({"MEMORY_NONSENSE": "1"}).agent.max_iterations == 3
    loaded = load(project_dir=place.project, home_dir=place.home, environ={"ALOOP_NONSENSE": "1"})
    assert loaded.memory.short_term_size == 5


@pytest.mark.parametrize("text", ["http://localhost:1234/v1", "http://127.0.0.1:8000", "https://[::1]:8000/v1"])
def test_a_project_may_name_a_server_on_this_machine(place: Place, text: str) -> None:
    place.write(place.project, f"ALOOP_BASE_URL={text}", "ALOOP_ALLOW_COMMANDS=false")

    assert place.load().agent.base_url == text


@pytest.mark.parametrize(
    "line",
    [
        "ALOOP_ALLOW_COMMANDS=true",
        "ALOOP_ALLOW_WRITES=on",
        "ALOOP_BASE_URL=https://models.example/v1",
        "ALOOP_BASE_URL=http://localhost.models.example/v1",
        "ALOOP_BASE_URL=http://localhost@models.example/v1",
        "ALOOP_BASE_URL=http://10.0.0.7:8000/v1",
    ],
)
def test_a_project_may_not_say_what_is_its_users_to_say(place: Place, line: str) -> None:
    path = place.write(place.project, line)

    with pytest.raises(ConfigError, match=r"~/\.aloop/config") as caught:
        place.load()

    assert str(caught.value).startswith(f"{line.partition('=')[0]} from {path}:1: ")
    place.write(place.home, line)
    path.unlink()
    assert place.load().source_of(AGENT_KEYS[line.partition("=")[0]]).endswith("config:1")


def test_an_option_takes_back_what_a_project_may_not_say(place: Place) -> None:
    place.write(place.project, "ALOOP_ALLOW_COMMANDS=true")

    assert place.load(allow_commands=False).agent.allow_commands is False


def test_the_users_own_key_comes_before_a_projects_and_the_environments_is_left_to_the_sdk(place: Place) -> None:
    place.write(place.home, "GOOGLE_API_KEY=of-the-user", "OPENAI_API_KEY=sk-1")
    place.write(place.project, "GEMINI_API_KEY=of-the-project", "OPENAI_API_KEY=sk-2", "ANTHROPIC_API_KEY=sk-3")
    names = ("GOOGLE_API_KEY", "GEMINI_API_KEY")

    assert place.load().api_key(*names) == "of-the-user"
    assert place.load().api_key("OPENAI_API_KEY") == "sk-1"
    assert place.load().api_key("ANTHROPIC_API_KEY") == "sk-3"
    assert place.load({"GEMINI_API_KEY": "of-the-environment"}).api_key(*names) is None


def test_no_key_and_no_password_is_ever_shown(place: Place) -> None:
    place.write(
        place.home, "OPENAI_API_KEY=sk-secret", "ALOOP_BASE_URL=https://me:hidden-word@models.example/v1?key=qq7"
    )
    loaded = place.load({"ANTHROPIC_API_KEY": "sk-other"})
    shown = {setting.key: setting.value for setting in loaded.settings}

    assert (shown["OPENAI_API_KEY"], shown["ANTHROPIC_API_KEY"]) == ("(hidden)", "(hidden)")
    assert shown["ALOOP_BASE_URL"] == "https://models.example/v1?(hidden)"
    assert loaded.source_of("openai_api_key").endswith("config:1")
    assert [secret for secret in ("sk-", "hidden-word", "qq7") if secret in str(loaded.settings)] == []


@pytest.mark.parametrize("environ", [{"ALOOP_BASE_URL": "ftp://me:hidden-word@x"}, {"ALOOP_SECRET": "hidden-word"}])
def test_no_secret_is_quoted_in_an_error(place: Place, environ: Mapping[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        place.load(environ)

    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("ALOOP_MAX_COST", "did you mean MEMORY_MAX_COST_DOLLARS?"),
        ("ALOOP_API_KEY", "such as OPENAI_API_KEY?"),
        ("OPENAI_KEY", "did you mean OPENAI_API_KEY?"),
    ],
)
def test_a_key_that_is_easily_mistaken_says_which_is_meant(place: Place, key: str, meant: str) -> None:
    path = place.write(place.home, f"{key}=hidden-word")

    with pytest.raises(ConfigError) as caught:
        place.load()

    assert str(caught.value).startswith(f"{key} from {path}:1: there is no such key; ")
    assert meant in str(caught.value)
    assert "hidden-word" not in str(caught.value)


def test_the_environments_other_keys_are_nobodys_business(place: Place) -> None:
    assert place.load({"OPENAI_KEY": "of-another-program"}).api_key("OPENAI_API_KEY") is None
