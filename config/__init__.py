"""Settings from arguments, the environment, `.aloop/config` files and presets, each with where it came from."""

from .agent import AgentSettings, LoadedAgent, load_agent
from .load import Loaded, Setting, load
from .settings import Settings

__all__ = ["AgentSettings", "Loaded", "LoadedAgent", "Setting", "Settings", "load", "load_agent"]
