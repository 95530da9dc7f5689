"""What a memory relies on in a session store, as tests: subclass `SessionStoreContract` and say how to make a store."""

from __future__ import annotations

from .session_housekeeping import HousekeepingContract
from .session_ownership import OwnershipContract
from .session_reading import ReadingContract
from .session_recall import RecallContract


class SessionStoreContract(OwnershipContract, ReadingContract, HousekeepingContract, RecallContract):
    """Tests of everything that `SessionStore` promises.

    For a store of your own:

        class TestMyStore(SessionStoreContract):
            @pytest.fixture
            def make_store(self, tmp_path):
                return lambda: MyStore(tmp_path / "sessions")

    `make_store` opens the same place each time, which is empty when a test begins. Each test is a plain method that
    raises `AssertionError`, so any runner that passes it such a function will do.
    """
