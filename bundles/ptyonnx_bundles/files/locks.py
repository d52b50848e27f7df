"""Lock an open file; the operating system releases the lock when the process ends, also after a kill."""

from __future__ import annotations

import sys

__all__ = ["try_lock"]


if sys.platform == "win32":
    import msvcrt

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
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

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
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
