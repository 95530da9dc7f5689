"""What all tests share: Hypothesis profiles and the corpus of recorded transcripts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from .corpus import find_corpus
from .postgres_server import postgres_schema as postgres_schema
from .postgres_server import postgres_server as postgres_server

# Before any framework is imported: no price list, trace or usage report goes out, and none is asked for.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
os.environ["LANGSMITH_TRACING"] = "false"
for _name in [name for name in os.environ if name.endswith("_API_KEY") or name.lower().endswith("_proxy")]:
    del os.environ[_name]

# The same examples in every run: a red build stays red until it is mended. `thorough` looks for new ones.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    max_examples=50,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("default"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def corpus_dir() -> Path:
    """The folder of recorded transcripts. Without it a test is skipped, on CI it fails."""
    found = find_corpus()
    if found is None:
        missing = "the corpus of recorded transcripts is not beside the project (../shared/corpus)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found
