"""Settings from arguments, the environment, `.aloop/config` files and presets, each with where it came from."""

from .load import Loaded, Setting, load
from .settings import Settings

__all__ = ["Loaded", "Setting", "Settings", "load"]
