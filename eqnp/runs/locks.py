"""One process at a time: a file lock of the operating system, or a lock file if the file system has no locks."""

from __future__ import annotations

import errno
import os
import platform
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

from eqnp.backends.system import system_link, system_text
from eqnp.errors import DiskError
from eqnp.runs.storage import disk_error, lock_file, new_file, read_bounded
from eqnp.shown import shown

if sys.platform == "win32":  # a locked byte cannot be read there: lock one far after the holder's name
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


# Errors of flock if the file system, or its server, has no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_MOST = 4096  # bytes of a lock file
_NOBODY = "another process"
_TRIES, _PAUSE = 50, 0.02  # seconds between looks at a lock whose holder has not written its name yet


class FileLock:
    """An exclusive lock on a file, held until ``release`` or the end of the process, however it ends.

    The file is not removed, since two processes could then lock two files of one name. It names the last holder. If the
    file system has no locks, a second file, ``soft_path``, exists as long as the lock is held. A killed process leaves
    it behind; it is taken over if this host can tell that the process is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.soft_path = path.with_name(f"{path.name}-held")
        self._descriptor: int | None = None
        self._soft = False

    def acquire(self) -> bool:
        """Take the lock and return True, or return False at once if another process has it.

        Raises:
            DiskError: the file cannot be made or locked, or is a link, which is never followed.
        """
        descriptor, taken = lock_file(self.path), False
        try:
            taken = self._take(descriptor)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                reason = error.strerror or error
                raise DiskError(
                    f"{self.path}: cannot be locked ({reason}); choose a place on another file system"
                ) from error
        else:
            return taken
        finally:
            if taken:
                self._descriptor = descriptor
            else:  # this process must not keep it
                _close(descriptor)
        return self._acquire_softly()

    def _take(self, descriptor: int) -> bool:
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):  # of flock and Windows: another process has it
            return False
        if os.path.lexists(self.soft_path) and not self._take_away_stale():  # of a host that has no locks
            return False
        with suppress(OSError):  # on a full disk the lock still holds, only without a name
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _this_process().partition("\n")[0].encode(errors="replace"))
        return True

    def release(self) -> None:
        """Release the lock, if it is held. Errors are ignored, since the work under the lock is done."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):  # closing the file, or the end of the process, unlocks it too
                _unlock(descriptor)
            _close(descriptor)
        if self._soft:
            self._soft = False
            if _text(self.soft_path) == _this_process():
                with suppress(OSError):
                    os.unlink(self.soft_path)

    def holder(self) -> str:
        """Return the holder as "process PID on HOST", and what to do if it is not known whether it still runs.

        The holder writes its name just after it got the lock, so the name of a process that is gone is read again.
        """
        for _ in range(_TRIES):
            soft = os.path.lexists(self.soft_path)
            held = _text(self.soft_path if soft else self.path) or ""  # it may be unreadable
            name = shown(held.partition("\n")[0].strip(), 100) or _NOBODY
            runs = _runs(held) if soft else _named_runs(name)
            if runs or (runs is None and name != _NOBODY):
                break
            time.sleep(_PAUSE)
        return name if runs or not soft else f"{name} (if that is gone, delete {self.soft_path})"

    def _acquire_softly(self) -> bool:
        for _ in range(2):
            try:
                descriptor = new_file(self.soft_path)
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
        except BaseException as error:  # a lock without a name could never be taken over
            with suppress(OSError):
                os.unlink(self.soft_path)
            if isinstance(error, OSError):
                raise disk_error(self.soft_path, error) from error
            raise
        finally:
            _close(descriptor)

    def _take_away_stale(self) -> bool:
        """Remove a soft lock whose process ended on this host; return whether the lock is free."""
        held = _text(self.soft_path)
        if held is None:
            return not os.path.lexists(self.soft_path)
        if _runs(held) is not False:
            return False
        aside = self.soft_path.with_name(f"{self.soft_path.name}-{os.urandom(4).hex()}")
        try:
            os.rename(self.soft_path, aside)
        except FileNotFoundError:
            return True  # another process removed it; the first to make a new one has the lock
        except OSError as error:
            raise disk_error(self.soft_path, error) from error
        mine = _text(aside) == held
        with suppress(OSError):
            if not mine:  # another process was faster, and this is its lock: restore it
                os.link(aside, self.soft_path)
            os.unlink(aside)
        return mine


def _this_process() -> str:
    """Return "process PID on HOST", then lines that identify it if the PID is used again: boot, namespace, start."""
    return "\n".join([f"process {os.getpid()} on {platform.node()}", *_system(), _started(os.getpid())])


def _process_of(name: str) -> int | None:
    """Return the PID from "process PID on HOST"; None if it is another host."""
    found = re.fullmatch(r"process (\d{1,10}) on (.*)", name)
    return int(found[1]) if found and found[2] == platform.node() else None


def _system() -> list[str]:
    """Return the boot and the process namespace in which a PID is unique; "" if not known."""
    return [system_text("proc/sys/kernel/random/boot_id").strip(), system_link("proc/self/ns/pid")]


def _started(process: int) -> str:
    """Return when a process started, in clock ticks since the boot; "" if it is gone or not visible."""
    status = system_text(f"proc/{process}/stat")  # field 22; field 2, a name in brackets, may contain anything
    return status.rpartition(")")[2].split()[19] if status else ""


def _runs(held: str) -> bool | None:
    """Return whether the process that wrote ``held`` still runs; None if this host cannot tell."""
    name, *rest = held.split("\n")
    process = _process_of(name)
    if process is None or len(rest) != 3 or rest[:2] != _system() or os.name == "nt":
        return None  # another host, boot or container; on Windows os.kill would end the process
    if rest[2] and (started := _started(process)):
        return started == rest[2]
    return _exists(process)


def _named_runs(name: str) -> bool | None:
    """Return whether "process PID on HOST" is a process of this host; None if this host cannot tell."""
    process = _process_of(name)
    return None if process is None or os.name == "nt" else _exists(process)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # a process of another user
    return True


def _text(path: Path) -> str | None:
    try:
        return read_bounded(path, _MOST).decode("utf-8", "replace")
    except OSError:
        return None


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)
