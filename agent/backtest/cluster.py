"""A Dask cluster as an executor; the only place that imports `distributed`, and only when one is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, Final

from memory.errors import ConfigError, MissingDependencyError

LOCAL: Final = "local"
_CONNECT_SECONDS: Final = 10


@contextmanager
def dask_executor(address: str, *, workers: int) -> Iterator[tuple[Executor, int]]:
    """Give an executor on a cluster, and how many jobs it runs at once. Its workers need this package installed.

    Args:
        address: A scheduler's (`tcp://host:8786`), or `local` for a cluster of this machine's own, which listens on
            127.0.0.1 alone.
        workers: How many processes a local one has.

    Raises:
        MissingDependencyError: Dask is not installed.
        ConfigError: No scheduler answers at the address.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingDependencyError(
            "a Dask cluster needs the package distributed: pip install 'aloop-memory[dask]'"
        ) from error
    dask: Any = distributed  # its functions have no types
    if address == LOCAL:
        settings = {"n_workers": workers, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
        with dask.LocalCluster(**settings) as cluster, dask.Client(cluster) as client:
            yield client.get_executor(), workers
        return
    try:
        client = dask.Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {address!r} ({type(error).__name__})", field="dask") from error
    with client:
        yield client.get_executor(), max(1, sum(client.nthreads().values()))
