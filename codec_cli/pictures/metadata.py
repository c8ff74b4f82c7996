"""ICC profiles and EXIF: what of them is kept, and how Pillow is told."""

from __future__ import annotations

import re
from typing import Any, Literal

from PIL import Image

from codec_cli.pictures.colour import implied_profile
from codec_cli.pictures.modern import Facts

FACTS = "codec facts"
"""Where :class:`codec_cli.pictures.modern.Facts` lie in an image's ``info``."""


def printable(text: str) -> str:
    """One line without control characters: a file must not get to write them to a terminal."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def kept_icc(image: Image.Image, channels: int, notes: list[str]) -> bytes | None:
    """The profile of an image if it fits the pixels that come of it; a note says what was dropped.

    Where an image names its colour space in another way, a profile of that; see
    :func:`codec_cli.pictures.colour.implied_profile`.
    """
    if image.mode in ("CMYK", "LAB"):
        return None  # These are converted, with a note of its own.
    icc = image.info.get("icc_profile")
    if not isinstance(icc, bytes) or not icc:
        facts = image.info.get(FACTS)
        return implied_profile(image, facts.nclx if isinstance(facts, Facts) else None, channels, notes)
    if image.format == "JXL" and icc[4:8] == b"jxl " and _JXL_SRGB.search(icc.replace(b"\0", b"")):
        return None
    space = icc[16:20] if icc[36:40] == b"acsp" else None
    fits = space in (None, b"GRAY" if channels == 1 else b"RGB ")
    if not fits:
        source = printable((space or b"?").decode("ascii", "replace"))
        notes.append(f"colour profile for {source} dropped: it does not fit the pixels")
        return None
    return icc


# libjxl makes a profile for every picture; its description (in UTF-16) names the colour space.
_JXL_SRGB = re.compile(rb"sRGB|(RGB|Gra)_D65_(SRG_)?\w{3}_SRG")
# By where Pillow keeps them: in ``info``, in a TIFF's tags.
_XMP, _IPTC = ("xmp", "XML:com.adobe.xmp", "Raw profile type xmp", 700), ("Raw profile type iptc", 33723)
_PHOTOSHOP_IPTC = 0x0404


def _note_unkept(image: Image.Image, notes: list[str]) -> None:
    """Says what other metadata is not kept: XMP, IPTC, EXIF that can't be read."""
    known = {key for key, value in image.info.items() if value} | set(getattr(image, "tag_v2", {}))
    photoshop, facts = image.info.get("photoshop"), image.info.get(FACTS)
    packed = facts.packed if isinstance(facts, Facts) else ()
    lost = []
    if "EXIF" in packed and "exif" not in known:
        lost.append("compressed EXIF")
    if "XMP" in packed or known.intersection(_XMP):
        lost.append("XMP")
    if (isinstance(photoshop, dict) and _PHOTOSHOP_IPTC in photoshop) or known.intersection(_IPTC):
        lost.append("IPTC")
    if lost:
        notes.append(f"{' and '.join(lost)} dropped: only ICC profile and EXIF are kept")


# What of a TIFF's (or any EXIF's) first directory describes the picture, not the layout of its file.
_DESCRIPTIVE_TAGS = (270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096))
_DIRECTORY_TAGS = (0x8769, 0x8825, 0xA005)  # Exif, GPS, Interoperability
ORIENTATION = 0x0112
_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
_VALUE_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


def kept_exif(image: Image.Image, notes: list[str]) -> bytes | None:
    """The EXIF of an image from its TIFF header on, trimmed; notes say what was damaged or is not kept."""
    _note_unkept(image, notes)
    try:
        if hasattr(image, "tag_v2"):
            return _descriptive_exif(image.getexif())
        exif = image.info.get("exif")
        legacy = image.info.get("Raw profile type exif")  # ImageMagick's way to put EXIF in a PNG
        if not exif and isinstance(legacy, str):
            exif = bytes.fromhex("".join(legacy.split("\n")[3:]))
        kept = trimmed_exif(exif) if exif else None
        return None if kept is None or _says_nothing(kept) else kept
    except Exception:  # Cameras and editors write much that is wrong; the pixels are fine.
        notes.append("damaged EXIF dropped")
        return None


def _says_nothing(exif: bytes) -> bool:
    """Whether a trimmed EXIF holds its orientation, 1, and nothing else."""
    order = _BYTE_ORDERS[exif[:4]]
    first = int.from_bytes(exif[4:8], order)
    entries, tag = (int.from_bytes(exif[i : i + 2], order) for i in (first, first + 2))
    return entries == 0 or (entries == 1 and tag == ORIENTATION)


def _descriptive_exif(exif: Image.Exif) -> bytes | None:
    kept = Image.Exif()
    for tag in _DESCRIPTIVE_TAGS:
        if tag in exif:
            kept[tag] = exif[tag]
    for tag in _DIRECTORY_TAGS[:2]:
        directory = {key: value for key, value in exif.get_ifd(tag).items() if key not in _DIRECTORY_TAGS}
        if directory:
            kept[tag] = directory
    return kept.tobytes()[6:] if len(kept) else None


def trimmed_exif(exif: bytes) -> bytes:
    """Cuts the thumbnail off and sets the orientation to 1.

    Works on the bytes: Pillow would write everything anew, with other types for some tags and with broken
    offsets in maker notes. Bytes that no directory but the thumbnail's refers to become zero, or are cut off
    where they are the last.
    """
    data = re.sub(rb"\A(Exif\0\0)+", b"", exif)
    order = _BYTE_ORDERS.get(data[:4])
    if order is None:
        raise ValueError("no TIFF header")

    def number(start: int, size: int) -> int:
        if start + size > len(data):
            raise ValueError("points outside")
        return int.from_bytes(data[start : start + size], order)

    first = number(4, 4)
    spans, patches, end = [(0, 8)], [], 0
    directories = [first]
    for start in directories:  # Grows as we go.
        entries_end = start + 2 + 12 * number(start, 2)
        spans.append((start, entries_end))
        end = max(end, entries_end + 4)  # The offset of a next directory, which becomes zero: none.
        for entry in range(start + 2, entries_end, 12):
            tag, width = number(entry, 2), _VALUE_SIZES.get(number(entry + 2, 2), 1)
            size, value = number(entry + 4, 4) * width, number(entry + 8, 4)
            if size > 4:
                spans.append((value, value + size))
            elif tag in _DIRECTORY_TAGS and value not in directories:
                directories.append(value)
            elif tag == ORIENTATION and start == first:
                patches.append((entry + 8, (1).to_bytes(width, order)))
        if len(directories) > 8:  # There are three kinds: this is made to keep us busy.
            raise ValueError("too many directories")
    kept = bytearray(min(len(data), max(end, *(stop for _, stop in spans))))
    done = 0
    for start, stop in sorted(spans):
        start, done = max(start, done), max(stop, done)
        kept[start:done] = data[start:done]
    for start, value_bytes in patches:
        kept[start : start + len(value_bytes)] = value_bytes
    return bytes(kept)


def save_options(icc: bytes | None, exif: bytes | None, kind: str) -> dict[str, Any]:
    """What Pillow's ``save`` needs to attach a profile and EXIF to a format."""
    options: dict[str, Any] = {}
    if icc:
        options["icc_profile"] = icc
    if exif and kind == "TIFF":
        # Pillow would let an ImageWidth in the EXIF replace the true one of the file.
        loaded = Image.Exif()
        loaded.load(exif)
        exif = _descriptive_exif(loaded)
        if any(tag in loaded for tag in _DIRECTORY_TAGS):
            # libtiff, which compresses, can't write the Exif and GPS directories; Pillow alone can.
            options["compression"] = None
    if exif:
        options["exif"] = b"Exif\0\0" + exif.removeprefix(b"Exif\0\0")
    return options
