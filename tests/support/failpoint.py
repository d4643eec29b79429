"""Throws an exception into a coroutine at one of its awaits.

A fault from outside can reach a coroutine only where it waits. Throwing at each wait in turn
injects a fault at every await of the path.
"""

from collections.abc import Coroutine, Generator
from typing import Any


class Failpoint:
    """Throws an exception once, at the wait with this number."""

    def __init__(self, number: int, error: type[BaseException], text: str) -> None:
        """`number` counts from 0; `text` is the text of the exception."""
        self.number = number
        self.error = error
        self.text = text
        self.waits = 0

    @property
    def reached(self) -> bool:
        """Whether there was such a wait."""
        return self.waits > self.number

    def __call__(self, path: Coroutine[Any, Any, Any]) -> "_Faulty":
        """Wrap a coroutine, so that the exception is thrown into it."""
        return _Faulty(path, self)


class _Faulty:
    def __init__(self, path: Coroutine[Any, Any, Any], point: Failpoint) -> None:
        self._path = path
        self._point = point

    def __await__(self) -> Generator[Any, Any, Any]:
        step, value = self._path.send, None
        try:
            while True:
                try:
                    waited = step(value)
                except StopIteration as stop:
                    return stop.value
                now = self._point.waits == self._point.number
                self._point.waits += 1
                if now and waited is not None:
                    waited.cancel()  # as the cancellation of a task does first
                try:
                    step, value = self._path.send, (yield waited)
                except BaseException as error:  # noqa: BLE001 - any error is passed on
                    step, value = self._path.throw, error
                if now:
                    step, value = self._path.throw, self._point.error(self._point.text)
        finally:
            self._path.close()
