"""What the pages of the docs must say: the output of their own code and commands, and tables taken from the code.

    python -m tests.pages     # writes the pages anew

A `text` block right behind a Python block is what that block prints. In a `console` block stands what each command
prints. Between `<!-- table: name -->` and `<!-- end -->` stands a table made from the code.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from agent.cli import main
from config import AgentSettings
from config.agent import ALLOWED
from config.layers import AGENT_KEYS, KEYS
from memory import MemoryConfig
from memory.config import PRESETS, allowed
from memory.dialects import RULES
from memory.messages import DialectName
from memory.prompt_cache import cache_rules
from memory.tokens import tokenizer_for

from .test_docs import ROOT, run

PAGES = sorted((ROOT / "docs").rglob("*.md"))

_SECTION = re.compile(
    r"^```python\n(?P<code>.*?)^```(?P<gap>\n+)(?P<output>```text\n.*?^```)?"
    r"|^<!-- run\n(?P<hidden>.*?)^-->"
    r"|^```console\n(?P<console>.*?)^```"
    r"|^<!-- table: (?P<table>[a-z_ ]+) -->\n.*?^<!-- end -->",
    re.DOTALL | re.MULTILINE,
)
_COMMAND = re.compile(r"aloop (?P<arguments>.*?)(?: \| (?P<end>head|tail) -(?P<lines>\d+))?")
_SECONDS = re.compile(r"\d+\.\d seconds")
_PORT = re.compile(r"(?<=127\.0\.0\.1):\d+")
_SESSION_ID = re.compile(r"(?<=^Session )[0-9a-f]{16}(?=:)", re.MULTILINE)


def written_anew(page: Path) -> str:
    """Return the page as its code, its commands and the tables would have it. Runs everything on it."""
    with _scratch_directory() as scratch:
        return _Page(page, scratch).text()


def without_times(text: str) -> str:
    """Return the text with each duration replaced: it differs from run to run."""
    return _SECONDS.sub("0.0 seconds", text)


@contextmanager
def _scratch_directory() -> Iterator[Path]:
    """Give an empty working directory that is the home directory too, without settings in the environment."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as name, chdir(name):
        for key in [key for key in os.environ if key.startswith(("MEMORY_", "ALOOP_"))]:
            del os.environ[key]
        os.environ |= {"HOME": name, "COLUMNS": "100"}
        try:
            yield Path(name).resolve()
        finally:
            os.environ.clear()
            os.environ |= before


class _Page:
    """One page on its way from top to bottom, with the names that its blocks have defined so far."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self._path = path
        self._text = path.read_text(encoding="utf-8")
        self._scratch = scratch
        self._namespace: dict[str, Any] = {"__name__": "__page__"}
        self._exit_code = 0

    def text(self) -> str:
        return _SECTION.sub(self._section, self._text)

    def _section(self, match: re.Match[str]) -> str:
        if match["hidden"] is not None:
            self._run(match["hidden"], match)
            return match[0]
        if match["code"] is not None:
            printed = self._run(match["code"], match)
            output = f"```text\n{printed}```" if match["output"] else ""
            return f"```python\n{match['code']}```{match['gap']}{output}"
        if match["console"] is not None:
            return f"```console\n{self._session(match['console'])}```"
        return f"<!-- table: {match['table']} -->\n{TABLES[match['table']]()}\n<!-- end -->"

    def _run(self, code: str, match: re.Match[str]) -> str:
        first_line = self._text.count("\n", 0, match.start()) + 2
        with redirect_stdout(io.StringIO()) as printed:
            run(code, page=self._path, first_line=first_line, namespace=self._namespace)
        return self._shown(printed.getvalue())

    def _session(self, session: str) -> str:
        commands = [line.removeprefix("$ ") for line in session.splitlines() if line.startswith("$ ")]
        return "".join(f"$ {command}\n{self._shown(self._command(command))}" for command in commands)

    def _command(self, command: str) -> str:
        if command == "echo $?":
            return f"{self._exit_code}\n"
        match = _COMMAND.fullmatch(command)
        if match is None:
            raise ValueError(f"{self._path}: only `aloop …` and `echo $?` can be run, not {command!r}")
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            try:
                main(shlex.split(match["arguments"]))
            except SystemExit as end:
                self._exit_code = int(end.code or 0)
        lines = printed.getvalue().splitlines(keepends=True)
        count = int(match["lines"] or 0)
        return "".join(lines[:count] if match["end"] == "head" else lines[-count:])

    def _shown(self, text: str) -> str:
        """Return output as a page may show it: paths, ports and sessions under a name, no spaces at ends of lines."""
        text = _PORT.sub(":8000", text.replace(str(self._scratch), "/home/you"))
        text = _SESSION_ID.sub("5f1c09ab7d3e2846", text)
        return re.sub(r"[ ]+$", "", text, flags=re.MULTILINE)


# --- Tables -----------------------------------------------------------------------------------------------------------


def _rules_table(dialect: DialectName) -> str:
    rows = [
        f"| {rule.code} | {rule.severity} | {_cell(rule.title)} | {_links(rule.source)} |" for rule in RULES[dialect]
    ]
    return "\n".join(["| code | severity | rule | source |", "|---|---|---|---|", *rows])


def _settings_table() -> str:
    key_of = {field: key for key, field in KEYS.items()}
    rows = [
        f"| `{key_of[field.name]}` | `{field.name}` | {_default(field.name)} | {_cell(allowed(field.name))} |"
        for field in fields(MemoryConfig)
    ]
    return "\n".join(["| key | field | default | allowed |", "|---|---|---|---|", *rows])


def _agent_table() -> str:
    defaults = AgentSettings().model_dump()
    rows = [f"| `{key}` | {_written(defaults[name])} | {_cell(ALLOWED[name])} |" for key, name in AGENT_KEYS.items()]
    return "\n".join(["| key | default | allowed |", "|---|---|---|", *rows])


def _default(name: str) -> str:
    field = next(field for field in fields(MemoryConfig) if field.name == name)
    value = getattr(MemoryConfig(), name)
    assert field.default is not MISSING or field.default_factory is not MISSING
    return _written(value)


def _written(value: object) -> str:
    if isinstance(value, tuple | dict) or value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _presets_table() -> str:
    names = list(dict.fromkeys(name for values in PRESETS.values() for name in values))
    rows = [
        f"| `{preset}` | " + " | ".join(f"`{values.get(name, 'when it pays')}`" for name in names) + " |"
        for preset, values in PRESETS.items()
    ]
    head = "| preset | " + " | ".join(f"`{name}`" for name in names) + " |"
    return "\n".join([head, "|---" * (len(names) + 1) + "|", *rows])


def _families_table() -> str:
    models = ("gpt-4o", "gpt-4", "claude-3-5-sonnet-20241022", "claude-opus-4-7", "gemini-2.5-pro", "llama-3.3-70b")
    rows = []
    for model in models:
        kind = tokenizer_for(model)
        frame = f"{kind.tokens_per_message} + {kind.tokens_per_call} a call + {kind.tokens_per_result} a result"
        tools = f"{kind.tokens_for_tools} + {kind.tokens_per_tool} each"
        rows.append(f"| `{model}` | {kind.encoding} | {kind.factor:g} | {frame} | {tools} |")
    head = "| for example | ranks | factor | added to a message | added for tools |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def _caches_table() -> str:
    models = ("gpt-4o", "gpt-5", "gpt-5.5", "gpt-5.6", "claude-sonnet-4-5", "claude-opus-4-5", "claude-opus-5-5")
    rows = []
    for model in (*models, "gemini-2.5-pro", "gemini-3.8-flash", "deepseek-chat", "glm-5"):
        rules = cache_rules(model)
        filled = "by marks" if rules.is_explicit else "by itself"
        found = "at ends and marks" if rules.is_exact else f"in steps of {rules.step_tokens:,}"
        alive = ", ".join(f"{rules.alive(minutes * 60):.2g}" for minutes in (1, 5, 10, 60))
        rows.append(
            f"| `{model}` | {filled} | {rules.min_tokens:,} | {found} | {rules.ttl_seconds / 60:g} min | {alive} |"
        )
    head = "| for example | filled | from | found again | counted on for | alive after 1, 5, 10, 60 min |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


TABLES: Mapping[str, Callable[[], str]] = {
    "settings": _settings_table,
    "agent settings": _agent_table,
    "presets": _presets_table,
    "families": _families_table,
    "caches": _caches_table,
    "rules openai_chat": lambda: _rules_table("openai_chat"),
    "rules openai_responses": lambda: _rules_table("openai_responses"),
    "rules anthropic": lambda: _rules_table("anthropic"),
    "rules gemini": lambda: _rules_table("gemini"),
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _links(source: str) -> str:
    """Return a rule's sources with each address as a short link: the repository and its thread, or the file."""
    return re.sub(r"https?://[^\s,()]+", lambda match: f"[{_short(match[0])}]({match[0]})", source)


def _short(url: str) -> str:
    parts = url.removeprefix("https://").removeprefix("http://").split("/")
    if parts[0] == "github.com" and parts[3:4] in (["issues"], ["pull"]):
        return f"{parts[1]}/{parts[2]}#{parts[4]}"
    return f"{parts[2]}: {parts[-1]}" if "blob" in parts else "/".join(parts[1:3])


def _write() -> None:
    for page in PAGES:
        text = written_anew(page)
        if without_times(text) != without_times(page.read_text(encoding="utf-8")):
            page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write()
