"""Zip archives of strangers, opened in bounded memory."""

from __future__ import annotations

import zipfile
from typing import Any, BinaryIO, cast

MOST_AT_ONCE = 1 << 21  # bytes of one read, and so of the directory of an archive: some 30,000 entries


class _Bounded:
    """A file of which only ``MOST_AT_ONCE`` bytes can be read at once."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._read = file.read

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, all that follow for a negative ``size``."""
        data = self._read(min(size, MOST_AT_ONCE + 1) if size >= 0 else MOST_AT_ONCE + 1)
        if len(data) > MOST_AT_ONCE:
            raise zipfile.BadZipFile(f"its directory has more than {MOST_AT_ONCE} bytes")
        return data


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """Return the archive in a file, to read.

    ``zipfile`` reads the directory of an archive whole, and makes an object ten times as large of each entry. So a
    directory of more than ``MOST_AT_ONCE`` bytes is refused.

    Raises:
        BadZipFile: it is damaged, or its directory is too large.
    """
    return zipfile.ZipFile(cast(Any, _Bounded(file)))
