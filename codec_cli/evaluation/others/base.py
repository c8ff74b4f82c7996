"""The interface of other codecs."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

__all__ = ["INSTALL", "OtherCodec", "Pixels", "check_pixels", "one_line"]

Pixels = npt.NDArray[np.uint8]

INSTALL = "pip install 'codec-cli[eval]'"
"""What installs the packages of all codecs that packages bring."""


class OtherCodec(ABC):
    """A codec to compare with.

    Attributes:
        name: What :func:`codec_cli.evaluation.others.others` knows it by.
        description: One line on its options, for reports.
        scale: Every setting that the codec knows, rising in rate (which can be falling in number).
    """

    name: str
    description: str
    scale: range

    @abstractmethod
    def settings(self) -> list[int]:
        """A sweep for a rate-distortion curve: eight settings on the codec's own scale, rising in rate."""

    @abstractmethod
    def encode(self, pixels: Pixels, setting: int) -> bytes:
        """Compress.

        Args:
            pixels: uint8, ``(height, width, 3)``, sRGB.
            setting: One of :meth:`settings`, or another value on that scale.

        Returns:
            A complete file without metadata; its length is the rate.

        Raises:
            ValueError: `pixels` is of another type or shape.
            CodecError: The codec is not available, or can't encode this image (too large).
        """

    @abstractmethod
    def decode(self, data: bytes) -> Pixels:
        """Decompress what :meth:`encode` returned.

        Args:
            data: The file.

        Returns:
            uint8, ``(height, width, 3)``, sRGB.

        Raises:
            CodecError: The codec is not available, or the file is damaged.
        """

    @abstractmethod
    def available(self) -> str | None:
        """None when the codec can be used here, else the reason and what to do, in one line."""

    @abstractmethod
    def version(self) -> str:
        """Libraries and their versions, in one line; ``not installed`` for what is not."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """One line that changes whenever files could: name, options and versions, without the setting.

        Results that were measured under one identity hold for as long as it is the same.
        """


def check_pixels(pixels: Pixels) -> None:
    """Raises ValueError for what is not uint8 of (height, width, 3)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"needs uint8 of (height, width, 3), not {pixels.dtype} of {pixels.shape}")


def one_line(text: object) -> str:
    """A library's message, which may be a paragraph, as one line of at most 200 characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= 200 else f"{line[:197]}..."
