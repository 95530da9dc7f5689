"""An object that behaves as another one, for the few of its attributes that must behave otherwise."""

from __future__ import annotations

from types import MemberDescriptorType
from typing import Any


class Proxy:
    """Passes everything on to its target: attributes, `isinstance`, `with`, `repr`.

    Own state lives in slots with mangled names, so that no attribute of any target can clash with it.
    """

    __slots__ = ("__target", "__weakref__")
    __target: Any

    def __init__(self, target: object) -> None:
        self.__target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__target, name)

    def __setattr__(self, name: str, value: object) -> None:
        is_own = isinstance(getattr(type(self), name, None), MemberDescriptorType)
        (object.__setattr__ if is_own else setattr)(self if is_own else self.__target, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__target, name)

    def __dir__(self) -> list[str]:
        return dir(self.__target)

    def __repr__(self) -> str:
        return repr(self.__target)

    @property
    def __class__(self) -> Any:
        return type(self.__target)

    @__class__.setter
    def __class__(self, value: object) -> None:
        raise TypeError("the class of a wrapped object cannot be changed")

    def __enter__(self) -> Any:
        return self._itself(self.__target.__enter__())

    def __exit__(self, *error: object) -> Any:
        return self.__target.__exit__(*error)

    async def __aenter__(self) -> Any:
        return self._itself(await self.__target.__aenter__())

    async def __aexit__(self, *error: object) -> Any:
        return await self.__target.__aexit__(*error)

    def _itself(self, entered: object) -> Any:
        return self if entered is self.__target else entered


def target_of(proxy: Proxy) -> Any:
    """Return what a proxy stands for."""
    return object.__getattribute__(proxy, "_Proxy__target")


def point_at(proxy: Proxy, target: object) -> None:
    """Let a proxy stand for something else from now on."""
    object.__setattr__(proxy, "_Proxy__target", target)
