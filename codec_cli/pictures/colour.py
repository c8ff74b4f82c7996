"""Colour spaces: what a file says of them without an ICC profile becomes one; CMYK and CIELab become sRGB."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["implied_profile", "to_rgb"]

# x and y of white, red, green and blue.
Chromaticities = tuple[float, ...]
_D65 = (0.3127, 0.3290)
_SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# By the numbers of ITU-T H.273, table 2; 2 is "unspecified".
_PRIMARIES: dict[int, Chromaticities] = {
    1: _SRGB,
    2: _SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
# Table 3: the exponent, None for sRGB's curve. Television's curves (1, 6, 14, 15) are those of cameras; they
# count as sRGB's, as in browsers.
_TRANSFERS = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
_HDR = {16: "PQ", 18: "HLG"}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# libpng calls a gamma significant from 5 % on.
_GAMMA_TOLERANCE, _CHROMATICITY_TOLERANCE = 0.05, 0.01
_LARGEST = 100.0  # Of X, Y and Z of a primary; white has 1.

# Of Little CMS: black point compensation; no tables of 8 bits (up to 8 levels off) instead of the profile.
# Pillow's own type for them is younger than our oldest Pillow, which takes numbers.
_EXACT: Any = 0x2000 | 0x0100

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

Matrix = npt.NDArray[np.float64]


def implied_profile(
    image: Image.Image, nclx: tuple[int, int] | None, channels: int, notes: list[str]
) -> bytes | None:
    """An ICC profile of the colour space that a file without one names in another way, unless that is sRGB.

    These are the numbers of PNG's cICP and of HEIC and AVIF, or else PNG's gAMA and cHRM (if there is no
    sRGB). Without them, and where they say sRGB, there is no profile: pictures without one are shown so.

    Args:
        image: The opened image.
        nclx: Colour primaries and transfer characteristics, numbers of ITU-T H.273.
        channels: 1 for gray, 3 for R'G'B'.
        notes: Gets a line if a colour space can't be described by a profile.
    """
    if nclx is None:
        return _png_profile(image.info, channels) if image.format == "PNG" else None
    primaries, transfer = _PRIMARIES.get(nclx[0]), nclx[1]
    if primaries is None or transfer not in _TRANSFERS:
        space = _HDR.get(transfer, f"{nclx[0]}/{transfer} of H.273")
        notes.append(f"colour space {space} dropped: no ICC profile describes it")
        return None
    return _profile(primaries, _TRANSFERS[transfer], channels)


def to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Converts a loaded image to R'G'B' if it is CMYK or CIELab, CMYK by its own profile; a note says so."""
    if image.mode == "LAB":
        notes.append("CIELab converted to sRGB")
    if image.mode != "CMYK":
        return image
    icc = image.info.get("icc_profile")
    if icc:
        from PIL import ImageCms

        try:
            source, target = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB", flags=_EXACT)
        except Exception:  # A damaged profile, one of another space, or a Pillow without Little CMS.
            converted = None
        if converted is not None:
            notes.append("CMYK converted to sRGB by its profile")
            return converted
    notes.append("CMYK converted without its profile" if icc else "CMYK converted without a profile")
    return image.convert("RGB")


def _png_profile(info: dict[Any, Any], channels: int) -> bytes | None:
    """Of gAMA and cHRM: gAMA is the exponent of encoding, about 1/2.2 for sRGB."""
    gamma, chromaticity = info.get("gamma"), info.get("chromaticity", ())
    if "srgb" in info:
        return None
    # What is no picture's gamma is taken for none.
    gamma = gamma if gamma and 0.1 < gamma < 10 else 1 / 2.2
    exponent = None if abs(gamma * 2.2 - 1) < _GAMMA_TOLERANCE else 1 / gamma
    known = len(chromaticity) == 8 and min(chromaticity[1::2]) > 0
    return _profile(chromaticity if known else _SRGB, exponent, channels)


def _profile(chromaticities: Chromaticities, exponent: float | None, channels: int) -> bytes | None:
    """A profile, or None for what is as good as sRGB, and for primaries that span no space."""
    near = np.abs(np.subtract(chromaticities, _SRGB)).max() < _CHROMATICITY_TOLERANCE
    if exponent is None and (near or channels == 1):
        return None
    white, *primaries = (
        np.array([x / y, 1, (1 - x - y) / y]) for x, y in zip(*[iter(chromaticities)] * 2, strict=True)
    )
    try:
        scale = np.linalg.solve(np.stack(primaries, 1), white)
        adaptation = _adaptation(white)
    except np.linalg.LinAlgError:
        return None
    columns = adaptation @ (np.stack(primaries, 1) * scale)
    if not max(np.abs(columns).max(), np.abs(adaptation).max()) < _LARGEST:  # Not a number, too.
        return None
    return _icc(columns if channels == 3 else None, adaptation, exponent)


def _adaptation(white: Matrix) -> Matrix:
    """From a white point to that of profiles, D50 (the linear Bradford transform of ICC.1, annex E)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    adapted: Matrix = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD
    return adapted


def _icc(columns: Matrix | None, adaptation: Matrix, exponent: float | None) -> bytes:
    """A display profile of ICC.1:2010 (version 4.3): X, Y, Z of three primaries, or gray, and one curve."""

    def text(words: str) -> bytes:
        coded = words.encode("utf-16-be")
        return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(coded), 28) + coded

    def numbers(kind: bytes, values: Any) -> bytes:  # noqa: ANN401 - any array
        fixed: bytes = np.rint(np.ravel(values) * 65536).astype(">i4").tobytes()
        return kind + bytes(4) + fixed

    parameters = _SRGB_CURVE if exponent is None else (exponent,)
    curve = numbers(b"para", parameters)
    curve = curve[:8] + struct.pack(">HH", 3 if exponent is None else 0, 0) + curve[8:]
    tags = {
        b"desc": text("Colour space of the original file"),
        b"cprt": text("CC0"),
        b"wtpt": numbers(b"XYZ ", _D50),
        b"chad": numbers(b"sf32", adaptation),
    }
    if columns is None:
        tags[b"kTRC"] = curve
    else:
        for letter, column in zip((b"r", b"g", b"b"), columns.T, strict=True):
            tags[letter + b"XYZ"] = numbers(b"XYZ ", column)
            tags[letter + b"TRC"] = curve
    entries, body = struct.pack(">I", len(tags)), b""
    start, places = 128 + 4 + 12 * len(tags), dict[bytes, int]()
    for name, content in tags.items():
        if content not in places:  # The curves are one and the same.
            places[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        entries += name + struct.pack(">II", places[content], len(content))
    header = struct.pack(
        ">I4s4s4s4s4s6H4s28x12s48x",
        start + len(body),
        bytes(4),
        b"\x04\x30\0\0",
        b"mntr",
        b"GRAY" if columns is None else b"RGB ",
        b"XYZ ",
        *(2026, 1, 1, 0, 0, 0),
        b"acsp",
        numbers(b"", _D50)[4:],
    )
    return header + entries + body
