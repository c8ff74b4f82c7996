"""The alpha plane of a file: a PNG, lossless."""

from __future__ import annotations

import io
import struct

import numpy as np

from codec_cli.bitstream.container import Header
from codec_cli.errors import FormatError, ImageError
from codec_cli.pictures.images import load_picture
from codec_cli.transforms import Plane

__all__ = ["check_alpha", "decode_alpha", "encode_alpha"]


def encode_alpha(alpha: Plane | None) -> bytes | None:
    """The PNG of a plane, uint8 (height, width); None for one that is opaque everywhere."""
    from PIL import Image

    if alpha is None or (alpha == 255).all():
        return None
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(alpha)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def check_alpha(png: bytes, header: Header) -> None:
    """Checks the beginning of a plane's PNG, and for chunks that have no place in it.

    Raises:
        FormatError: It is not the PNG of a plane of this image.
    """
    start = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBB", header.width, header.height, 8, 0)
    if png[: len(start)] != start:
        raise FormatError("damaged: the alpha plane does not fit the image")
    # They could turn the plane, or add transparency.
    if b"eXIf" in png or b"tRNS" in png:
        raise FormatError("damaged: the alpha plane has chunks that it must not have")


def decode_alpha(png: bytes | None, header: Header, name: str) -> Plane:
    """The alpha plane, uint8 (height, width); its PNG header is checked before any pixel is decoded.

    Args:
        png: As in the file; None for a plane that is opaque everywhere.
        header: Of the file.
        name: Of the file, for messages.

    Raises:
        FormatError: The PNG is not the plane of this image, or is damaged.
    """
    if png is None:
        return np.full((header.height, header.width), 255, np.uint8)
    check_alpha(png, header)
    try:
        # No other format: a damaged PNG is not to be shown to all of Pillow's decoders.
        plane = load_picture(png, name, header.width * header.height, keep_metadata=False, formats=("PNG",))
    except ImageError as error:
        raise FormatError("damaged: the alpha plane is not decodable") from error
    if plane.pixels.shape != (header.height, header.width, 1) or plane.alpha is not None:
        raise FormatError("damaged: the alpha plane does not fit the image")
    return plane.pixels[:, :, 0]
