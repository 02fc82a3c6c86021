"""A property that is computed once, even where several threads ask for it at the same time."""

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, overload

T = TypeVar("T")


class HasLock(Protocol):
    """What has such properties."""

    _lock: threading.RLock  # pyright: ignore[reportInvalidTypeForm]


class once(Generic[T]):  # noqa: N801
    """`functools.cached_property` under the lock `_lock` of its owner.

    Since Python 3.12 that of functools has no lock: two threads may compute the value twice, and go on with
    different ones.

    Args:
        function: from the owner to the value.
    """

    def __init__(self, function: Callable[[Any], T]):
        self._function = function
        self._name = function.__name__
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> "once[T]": ...

    @overload
    def __get__(self, owner: HasLock, kind: type) -> T: ...

    def __get__(self, owner: Any, kind: type) -> Any:
        if owner is None:
            return self
        values = vars(owner)
        with owner._lock:
            if self._name not in values:
                values[self._name] = self._function(owner)
            return values[self._name]
