"""Other image codecs behind one interface, as far as they are installed.

Options are chosen so that each codec shows what it can do rather than what its defaults give, within seconds
for an image. Sweeps are eight points that cover about 0.1 to 2.5 bits per pixel on photographs (JPEG has
nothing usable under 0.15). The measurements behind the choices: docs/EVALUATION.md.
"""

from __future__ import annotations

from collections.abc import Iterable

from codec_cli.errors import CodecError
from codec_cli.evaluation.others.base import OtherCodec
from codec_cli.evaluation.others.bpg import BPG
from codec_cli.evaluation.others.pillow import PILLOW_CODECS

__all__ = ["KNOWN", "OtherCodec", "others"]

_CODECS: dict[str, OtherCodec] = {codec.name: codec for codec in (*PILLOW_CODECS, BPG)}

KNOWN: tuple[str, ...] = tuple(_CODECS)
"""Names that :func:`others` takes."""


def others(names: Iterable[str]) -> list[OtherCodec]:
    """Look codecs up by name.

    Args:
        names: Some of :data:`KNOWN`; repeated names count once.

    Returns:
        The codecs, in the order of the names. They may be unavailable here (:meth:`OtherCodec.available`).

    Raises:
        CodecError: A name is unknown.
    """
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in _CODECS]
    if unknown:
        raise CodecError(f"unknown codec {', '.join(unknown)}: known are {', '.join(KNOWN)}")
    return [_CODECS[name] for name in wanted]
