"""A process that is killed at one of its file operations: what it would have done from there on does not happen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

__all__ = ["Killed", "every_kill", "killed_at"]

OPERATIONS = ("open", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir")


class Killed(BaseException):
    """Not an exception that anybody handles; cleaning up raises it again, as a dead process cleans nothing up."""


@contextmanager
def killed_at(place: int, operations: tuple[str, ...] = OPERATIONS) -> Iterator[None]:
    """Die at the file operation of this number, and at every later one.

    Which files are created, renamed and removed counts; reading does not.
    """
    done = count()

    def dying(operation: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            writes = name != "open" or (len(arguments) > 1 and arguments[1] & os.O_CREAT)
            if writes and next(done) >= place:
                raise Killed
            return operation(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in operations:
            patch.setattr(os, name, dying(getattr(os, name), name))
        yield


def every_kill(command: Callable[[], Any], operations: tuple[str, ...] = OPERATIONS, start: int = 0) -> Iterator[int]:
    """Run a command again and again, each time killed one operation later, until it ends by itself.

    What is done with the generator's values, the numbers of the operations, happens after each kill.
    """
    for place in count(start):
        try:
            with killed_at(place, operations):
                command()
        except Killed:
            yield place
        else:
            return
