"""The lower half of ``eqnp.runs.plainhdf5``: object headers, attributes and texts of an HDF5 file in memory."""

from __future__ import annotations

from collections.abc import Iterator

from eqnp.runs.hdf5types import Cursor, is_text, shape_of

BASE = 512  # where HDF5 begins in the file, after the user block
MOST_STEPS = 100_000  # about a second; an array or a number takes about 9
UNDEFINED = 2**64 - 1  # an address of nothing
ATTRIBUTE, ATTRIBUTE_INFO = 12, 21  # types of messages

_SUPERBLOCK = 96  # bytes
_NIL, _MORE = 0, 16

Messages = list[tuple[int, Cursor]]


class Objects:
    """The objects of an HDF5 file, given without its user block. Each is read once, and so is every byte.

    Raises:
        ValueError: the file is not as eqnp writes it. So do all methods.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._unread = len(data)
        self._steps = MOST_STEPS
        self._objects: set[int] = set()
        self._heaps: dict[int, dict[int, Cursor]] = {}

    def take(self, address: int, length: int) -> Cursor:
        """Return ``length`` bytes at ``address``. No byte of an honest file is needed twice."""
        if address + length > len(self._data):
            raise ValueError("an address lies outside the file")
        self._unread -= length
        if self._unread < 0:
            raise ValueError("two parts of it overlap")
        return Cursor(self._data[address : address + length])

    def step(self) -> None:
        """Count a message, a link or a text; a file may have ``MOST_STEPS``."""
        self._steps -= 1
        if self._steps < 0:
            raise ValueError("it has far more objects than eqnp writes")

    def root_address(self) -> int:
        """Return the address of the root's header, as the superblock has it."""
        block = self.take(0, _SUPERBLOCK)
        block.expect(b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]), "its superblock")
        block.skip(8)  # sizes of trees that it does not have, and flags
        if (block.uint(8), block.uint(8)) != (BASE, UNDEFINED):
            raise ValueError("its superblock is unusual")
        block.skip(8)  # the end of the file
        if block.uint(8) != UNDEFINED:
            raise ValueError("its superblock is unusual")
        block.skip(8)  # the name of the root
        return block.uint(8)

    def messages(self, address: int) -> Messages:
        """Return the messages of an object header, type and body; an object may be reached once."""
        if address in self._objects:
            raise ValueError("an object has two names")
        self._objects.add(address)
        if bytes(self._data[address : address + 4]) == b"OHDR":
            return self._messages_2(address)
        head = self.take(address, 16)
        head.expect(b"\x01\0", "an object header")
        head.skip(2)
        if head.uint(4) != 1:
            raise ValueError("an object has two names")
        return self._all(address + 16, head.uint(4), 8, b"")

    def _messages_2(self, address: int) -> Messages:
        head = self.take(address, 6)
        head.skip(4)
        version, flags = head.uint(1), head.uint(1)
        if version != 2 or flags & 0xD0:
            raise ValueError("an object header is unusual")
        times, size = 16 if flags & 32 else 0, 1 << (flags & 3)  # HDF5 1.14 has the times of groups
        length = self.take(address + 6 + times, size).uint(size)
        return self._all(address + 6 + times + size, length, 6 if flags & 4 else 4, b"OCHK")

    def _all(self, address: int, length: int, head: int, sign: bytes) -> Messages:
        """Return the messages in all chunks of a header. Each has ``head`` bytes before its body."""
        result: Messages = []
        wide = 2 if head == 8 else 1
        chunks = [self.take(address, length)]
        for chunk in chunks:  # grows
            while chunk.left >= head:
                self.step()
                kind, size, flags = chunk.uint(wide), chunk.uint(2), chunk.uint(1)
                chunk.skip(head - wide - 3)
                body = chunk.part(size)
                if flags & 2:
                    raise ValueError("a message is shared")
                if kind == _MORE:
                    more = self.take(body.uint(8), body.uint(8))
                    more.expect(sign, "an object header")
                    more.drop(len(sign))  # the checksum at its end
                    chunks.append(more)
                elif kind != _NIL:
                    result.append((kind, body))
        return result

    def attributes(self, messages: Messages) -> dict[str, str]:
        """Return the attributes of an object; all are text."""
        result: dict[str, str] = {}
        for kind, body in messages:
            if kind == ATTRIBUTE_INFO:
                body.expect(b"\0\x03", "an object with attributes")
                body.skip(2)
                body.expect(UNDEFINED.to_bytes(8, "little"), "an object with attributes")  # they are in no heap
            if kind != ATTRIBUTE:
                continue
            body.expect(b"\x01\0", "an attribute")
            sizes = [body.uint(2) for _ in range(3)]
            name, type_, space = (body.part(-(-size // 8) * 8) for size in sizes)  # padded
            text = str(name.rest[: sizes[0]], "utf-8").removesuffix("\0")
            if text in result or not is_text(type_) or shape_of(space) != ():
                raise ValueError("an attribute is unusual")
            result[text] = self.text(body)
        return result

    def text(self, place: Cursor) -> str:
        """Return the text that a descriptor names by its length, a global heap and a number in that; each once."""
        length, address, number = place.uint(4), place.uint(8), place.uint(4)
        if not length:
            return ""
        if address not in self._heaps:
            self._heaps[address] = dict(self._collection(address))
        found = self._heaps[address].pop(number, None)
        if found is None or found.left != length:
            raise ValueError("a text is not where it should be")
        return str(found.rest, "utf-8")

    def _collection(self, address: int) -> Iterator[tuple[int, Cursor]]:
        """Yield number and bytes of the objects in a global heap."""
        head = self.take(address, 16)
        head.expect(b"GCOL\x01\0\0\0", "a heap of texts")
        heap = self.take(address + 16, max(head.uint(8), 16) - 16)
        while heap.left >= 16:
            self.step()
            number = heap.uint(2)
            heap.skip(6)  # how often it is referred to
            size = heap.uint(8)
            if not number:  # the rest is free
                break
            body = heap.part(-(-size // 8) * 8)
            yield number, Cursor(body.rest[:size])
