"""Providers that run on this machine, for tests of an agent with its real SDK: no key, no network.

A `ProviderSimulator` speaks one provider's API over loopback HTTP. It refuses what that provider refuses, streams as
it streams, counts usage by its rules, and fails when it is told to. Its answers are scripted, computed, or those of a
recorded conversation (`Playback`).
"""

from __future__ import annotations

from .faults import FAULT_KINDS, Fault, FaultKind, RandomFaults
from .formats import Refusal
from .metering import Metered
from .playback import Playback
from .server import Exchange, ProviderSimulator
from .turns import Answer, AnswerSource, Call, Request, Turn

__all__ = [
    "FAULT_KINDS",
    "Answer",
    "AnswerSource",
    "Call",
    "Exchange",
    "Fault",
    "FaultKind",
    "Metered",
    "Playback",
    "ProviderSimulator",
    "RandomFaults",
    "Refusal",
    "Request",
    "Turn",
]
