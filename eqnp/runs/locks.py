"""One process at a time: a lock on a file that ends with its process, or a soft one where the file system has none."""

from __future__ import annotations

import errno
import os
import platform
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path

from eqnp.errors import DiskError
from eqnp.runs.storage import disk_error

if sys.platform == "win32":  # a locked byte cannot be read there: lock one far behind the holder's name
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 4096, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 4096, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


# What flock says where the file system, or its server, has no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NOBODY = "another process"


class FileLock:
    """An exclusive lock on a file, which holds until ``release`` or the end of the process, however it ends.

    The file stays, since removing it would let two processes lock two files of one name; it says who locked it last.
    Where the file system has no locks, a second file, ``soft_path``, is there as long as the lock is held. A process
    that is killed leaves it; it is taken over if this host can tell that the process is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.soft_path = path.with_name(f"{path.name}-held")
        self._descriptor: int | None = None
        self._soft = False

    def acquire(self) -> bool:
        """Take the lock and return True, or return False at once if somebody else has it.

        Raises:
            DiskError: the file cannot be made or locked, or is a link, which is never followed.
        """
        descriptor = self._open()
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):  # what flock and Windows raise when somebody else has it
            _close(descriptor)
            return False
        except OSError as error:
            _close(descriptor)
            if error.errno in _NO_LOCKS:
                return self._acquire_softly()
            reason = error.strerror or error
            raise DiskError(
                f"{self.path}: cannot be locked ({reason}); choose a place on another file system"
            ) from error
        if os.path.lexists(self.soft_path) and not self._take_away_stale():  # of a host that sees no locks here
            _close(descriptor)
            return False
        self._descriptor = descriptor
        with suppress(OSError):  # on a full disk the lock holds all the same, only without a name
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _this_process().partition("\n")[0].encode(errors="replace"))
        return True

    def release(self) -> None:
        """Free the lock; nothing happens if it is not held. What was done under it is not undone by an error here."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):  # to close it, or to end, unlocks it too
                _unlock(descriptor)
            _close(descriptor)
        if self._soft:
            self._soft = False
            if _text(self.soft_path) == _this_process():
                with suppress(OSError):
                    os.unlink(self.soft_path)

    def holder(self) -> str:
        """Return who locked the file last, as "process PID on HOST", and what to do where only a person can tell."""
        held = _text(self.soft_path)
        if held is not None:
            name = held.partition("\n")[0] or _NOBODY
            return name if _runs(held) else f"{name} (if that is gone, delete {self.soft_path})"
        return (_text(self.path) or "").strip() or _NOBODY

    def _open(self) -> int:
        try:
            descriptor = os.open(self.path, _OPEN, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DiskError(f"{self.path}: is a link, which is not written through; delete it") from error
            raise disk_error(self.path, error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            _close(descriptor)
            raise DiskError(f"{self.path}: is not a regular file; delete it or choose another folder")
        return descriptor

    def _acquire_softly(self) -> bool:
        for _ in range(2):
            try:
                descriptor = os.open(self.soft_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                if not self._take_away_stale():
                    return False
            except OSError as error:
                raise disk_error(self.soft_path, error) from error
            else:
                self._write_name(descriptor)
                self._soft = True
                return True
        return False

    def _write_name(self, descriptor: int) -> None:
        try:
            os.write(descriptor, _this_process().encode(errors="replace"))
        except OSError as error:  # without a name it could never be taken over
            with suppress(OSError):
                os.unlink(self.soft_path)
            raise disk_error(self.soft_path, error) from error
        finally:
            _close(descriptor)

    def _take_away_stale(self) -> bool:
        """Move a soft lock out of the way if its process ended on this host; return whether the place is free."""
        held = _text(self.soft_path)
        if held is None:
            return not os.path.lexists(self.soft_path)
        if _runs(held) is not False:
            return False
        aside = self.soft_path.with_name(f"{self.soft_path.name}-{os.urandom(4).hex()}")
        try:
            os.rename(self.soft_path, aside)
        except FileNotFoundError:
            return True  # somebody else did; who is first makes the next
        except OSError as error:
            raise disk_error(self.soft_path, error) from error
        mine = _text(aside) == held
        with suppress(OSError):
            if not mine:  # another process was quicker, and this is its lock: give it back
                os.link(aside, self.soft_path)
            os.unlink(aside)
        return mine


def _this_process() -> str:
    """Return "process PID on HOST", and on a second line what tells it from another process of that number."""
    return "\n".join([f"process {os.getpid()} on {platform.node()}", *_system(), _started(os.getpid())])


def _process_of(name: str) -> int | None:
    """Return the number of a process on this host from "process PID on HOST"; None if it is of another."""
    found = re.fullmatch(r"process (\d{1,10}) on (.*)", name)
    return int(found[1]) if found and found[2] == platform.node() else None


def _system() -> list[str]:
    """Return the boot and the process namespace in which numbers of processes mean something; empty if not known."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return [(_text(Path("/proc/sys/kernel/random/boot_id")) or "").strip(), namespace]


def _started(process: int) -> str:
    """Return when a process started, in clock ticks since the boot; empty if it is gone or cannot be looked at."""
    status = _text(Path(f"/proc/{process}/stat"))  # field 22; field 2, a name in brackets, may hold anything
    return status.rpartition(")")[2].split()[19] if status else ""


def _runs(held: str) -> bool | None:
    """Return whether the process that wrote ``held`` still runs, None if that cannot be told from here."""
    name, *rest = held.split("\n")
    process = _process_of(name)
    if process is None or len(rest) != 3 or rest[:2] != _system() or os.name == "nt":
        return None  # of another host, boot or container; and Windows would end the process that it is asked about
    if rest[2] and (started := _started(process)):
        return started == rest[2]
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)
