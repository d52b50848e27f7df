"""Lock an open file; the operating system releases the lock when the process ends, also after a kill."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["try_lock"]


def try_lock(descriptor: int) -> bool:
    """Lock an open file without waiting; closing the file or ending the process releases the lock.

    Parameters
    ----------
    descriptor : int
        Of a file that is open for writing.

    Returns
    -------
    bool
        False if another descriptor, of this process or another one, holds the lock.

    Raises
    ------
    OSError
        The file system has no locks.
    """
    if sys.platform == "win32":
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
    else:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
