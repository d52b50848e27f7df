"""The operating system's lock on an open file: whoever holds it is alive, since a kill releases it."""

from __future__ import annotations

import sys

__all__ = ["try_lock"]


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Lock an open file, without waiting; closing the file releases it, as does the end of the process.

        Parameters
        ----------
        descriptor : int
            Of a file that was opened for writing.

        Returns
        -------
        bool
            False where another descriptor, of this process or another one, holds the lock.

        Raises
        ------
        OSError
            The file system has no locks.
        """
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Lock an open file, without waiting; closing the file releases it, as does the end of the process.

        Parameters
        ----------
        descriptor : int
            Of a file that was opened for writing.

        Returns
        -------
        bool
            False where another descriptor, of this process or another one, holds the lock.

        Raises
        ------
        OSError
            The file system has no locks.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
