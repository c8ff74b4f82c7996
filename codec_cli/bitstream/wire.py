"""What all our formats are made of: numbers, checksums and zlib streams, read from bytes that may be hostile.

Multi-byte integers are little-endian; a *varint* is an unsigned LEB128 number in its shortest form, at most
2**32 - 1. A claimed size is checked against the bytes that are really there before it is used, and inflating
stops at :data:`MAX_METADATA`.
"""

import zlib
from dataclasses import dataclass

from codec_cli.errors import FormatError

__all__ = [
    "CRC_SIZE",
    "MAX_METADATA",
    "MAX_VARINT",
    "Reader",
    "crc",
    "inflate",
    "matches",
    "require_match",
    "varint",
]

CRC_SIZE = 4
MAX_METADATA = 16 << 20
MAX_VARINT = (1 << 32) - 1  # takes 5 bytes


def crc(data: bytes) -> bytes:
    """The CRC-32 of zlib, PNG and gzip, as it is stored."""
    return zlib.crc32(data).to_bytes(CRC_SIZE, "little")


def matches(data: bytes) -> bool:
    """Whether the last bytes are the CRC-32 of all those before."""
    return data[-CRC_SIZE:] == crc(data[:-CRC_SIZE])


def require_match(data: bytes, what: str) -> None:
    """Raises :class:`FormatError` unless :func:`matches`; ``what`` is a word for the bytes."""
    if not matches(data):
        raise FormatError(f"damaged: checksum does not match (the {what} is truncated or was changed)")


@dataclass
class Reader:
    """A position in bytes, which never leaves them."""

    data: bytes
    position: int = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.position

    def take(self, count: int, what: str) -> bytes:
        """The next ``count`` bytes; raises FormatError, naming ``what``, if there are fewer."""
        if count > self.left:
            raise FormatError(f"damaged: {what} needs {count} bytes, but {self.left} are left")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self, what: str) -> int:
        """The next number; raises FormatError, naming ``what``, if it is not one in its shortest form."""
        value = 0
        for index in range(5):
            byte = self.take(1, what)[0]
            value |= (byte & 0x7F) << (7 * index)
            if index and not byte:
                raise FormatError(f"damaged: {what} is not in its shortest form")
            if byte < 0x80 and value <= MAX_VARINT:
                return value
        raise FormatError(f"damaged: {what} is too large a number")


def varint(value: int) -> bytes:
    """A number as unsigned LEB128; raises ValueError beyond :data:`MAX_VARINT`."""
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"{value} does not fit a varint")
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def inflate(stream: bytes, name: str) -> bytes:
    """Inflate exactly one zlib stream of at most MAX_METADATA bytes."""
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(stream, MAX_METADATA + 1)  # one more: too much differs from just enough
    except zlib.error:
        raise FormatError(f"damaged: section {name} is no zlib stream") from None
    if len(raw) > MAX_METADATA:
        raise FormatError(f"section {name} inflates to more than {MAX_METADATA >> 20} MiB")
    if not inflater.eof or inflater.unused_data:
        raise FormatError(f"damaged: section {name} is incomplete or has bytes too many")
    return raw
