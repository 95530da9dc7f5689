"""The models that the agent can ask: one protocol, `LLM`, and `connect`, which finds a provider by name.

Each provider is one file in this package, behind this protocol. A provider's SDK is imported when its model is made,
and only in its file.
"""

from .connecting import connect
from .protocol import LLM, Delta, LLMResponse, OnDelta, ProviderModel, StopReason

__all__ = ["LLM", "Delta", "LLMResponse", "OnDelta", "ProviderModel", "StopReason", "connect"]
