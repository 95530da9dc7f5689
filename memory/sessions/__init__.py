"""Sessions: conversations that outlive their process, in a file or a database.

A store keeps what it is given and knows nothing of conversations; what is worth keeping, and how a memory is put
together again from it, is written here once for all stores.
"""

from .opening import open_store
from .sqlite import SqliteSessionStore
from .store import SessionStore
from .values import SessionInfo

__all__ = ["SessionInfo", "SessionStore", "SqliteSessionStore", "open_store"]
