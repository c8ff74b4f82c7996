"""Search for the level that meets a target: a size, or a quality.

The analysis runs once; each try only quantizes and codes (and, for a quality, decodes). Size and quality rise
with the level, so a bisection over the levels takes six tries. Levels are 4 to 8 % of the bytes apart; three
tries more find how hard the symbols of the better one have to be optimised to fit between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from codec_cli.bitstream import container
from codec_cli.codec import DEFAULT_EFFORT, EFFORT_STEPS, EFFORT_STRENGTH, Codec
from codec_cli.errors import TargetError
from codec_cli.pictures.images import Picture
from codec_cli.pictures.rows import RowPicture
from codec_cli.spool import Spool
from codec_cli.streaming import ms_ssim_by_rows, psnr_by_rows
from codec_cli.transforms import Floats

SIZE, PSNR, MS_SSIM = "size", "psnr", "ms-ssim"
# Rounds plainly.
PLAIN_EFFORT = 1
# Strengths of the optimisation beyond the usual 0.2, by rising size. The first saves 3 % at the highest
# levels and 16 % at the lowest, where weaker ones fill the step from level to level.
FINER = (0.5, 0.43, 0.37, 0.32, 0.28, 0.24)


@dataclass(frozen=True)
class Target:
    """What to reach.

    Attributes:
        kind: ``size`` (at most ``value`` bytes), ``psnr`` (at least ``value`` dB over R'G'B') or
            ``ms-ssim`` (at least ``value``, within 0 to 1).
        value: See ``kind``.
    """

    kind: str
    value: float


def encode_to(
    codec: Codec, picture: Picture | RowPicture, target: Target, effort: int = DEFAULT_EFFORT
) -> bytes:
    """Compresses a picture to a target.

    Args:
        codec: With the model that encodes.
        picture: What to compress. Of a picture that is read by rows, the latents go to a temporary file.
        target: A size gives the best quality within it; a quality gives the smallest file that has it.
        effort: See :meth:`codec_cli.Codec.encode_picture`.

    Returns:
        A whole compressed file; never larger than a target size.

    Raises:
        TargetError: No level is small enough, or none good enough.
    """
    if effort in EFFORT_STEPS:
        return _refined(codec, picture, target, effort)
    latents: Iterable[Floats]
    tried: dict[tuple[int, float | None], bytes] = {}
    if isinstance(picture, RowPicture):
        latents, tries = Spool(codec.latents(picture.source())), 1
        codec.forget_transforms()
    else:
        latents, tries = list(codec.latents(picture.pixels)), codec.info.levels

    def pack(level: int, strength: float | None = None) -> bytes:
        if (level, strength) not in tried:
            if len(tried) >= tries:
                tried.clear()
            tried[level, strength] = codec.pack(picture, latents, level, effort, strength)
        return tried[level, strength]

    top = codec.info.levels - 1
    meets = _judge(codec, picture, target)
    finer = FINER if EFFORT_STRENGTH[effort] > 0 and codec.optimises else ()
    if target.kind == SIZE:
        best = _last(top, lambda level: meets(pack(level)))
        above = 0 if best is None else best + 1
        rung = None if above > top else _last(len(finer) - 1, lambda i: meets(pack(above, finer[i])))
        found = [pack(best)] if best is not None else []
        found += [pack(above, finer[rung])] if rung is not None else []
        if not found:
            smallest = len(pack(0, *finer[:1]))
            raise TargetError(
                f"the smallest possible file has {smallest} bytes, more than {target.value:.0f}"
            )
        return max(found, key=len)
    worst = _last(top, lambda level: not meets(pack(level)))
    if worst == top:
        raise TargetError(f"the model's best level does not reach {target.kind} {target.value:g}")
    level = 0 if worst is None else worst + 1
    failing = _last(len(finer) - 1, lambda i: not meets(pack(level, finer[i])))
    return pack(level, *finer[0 if failing is None else failing + 1 :][:1])


def _refined(codec: Codec, picture: Picture | RowPicture, target: Target, effort: int) -> bytes:
    """Searches with plain rounding, then level by level with refined files, two or three in all.

    At a level, refined files are about as large as plainly rounded ones, and better; optimised ones are
    smaller and worse, so that a search with those would end some levels away.
    """
    meets, top = _judge(codec, picture, target), codec.info.levels - 1
    # Levels that are better if they meet the target.
    onward = 1 if target.kind == SIZE else -1
    try:
        level = container.peek(encode_to(codec, picture, target, PLAIN_EFFORT)).level
    except TargetError:
        level = 0 if target.kind == SIZE else top

    def refine(level: int) -> bytes | None:
        """The refined file if there is such a level and it meets the target."""
        if not 0 <= level <= top:
            return None
        data = codec.encode_picture(picture, level=level, effort=effort)
        return data if meets(data) else None

    found = refine(level)
    if found is not None:
        while (better := refine(level + onward)) is not None:
            found, level = better, level + onward
        return found
    while found is None and 0 <= level <= top:
        level -= onward
        found = refine(level)
    # At the last level, what is optimised for few bits may meet what refined files don't.
    return encode_to(codec, picture, target, DEFAULT_EFFORT) if found is None else found


def _last(top: int, holds: Callable[[int], bool]) -> int | None:
    """The last of 0..top at which a condition holds that holds up to some place; None if never."""
    if top < 0 or not holds(0):
        return None
    low, high = 0, top + 1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _judge(codec: Codec, picture: Picture | RowPicture, target: Target) -> Callable[[bytes], bool]:
    """Whether a compressed file meets the target."""
    if target.kind == SIZE:
        return lambda data: len(data) <= target.value
    measure = _metric(codec, picture, target.kind)
    return lambda data: measure(data) >= target.value


def _metric(codec: Codec, picture: Picture | RowPicture, kind: str) -> Callable[[bytes], float]:
    """What measures a compressed file against its source."""
    from codec_cli.evaluation import metrics

    if isinstance(picture, RowPicture):
        limit = math.prod(picture.shape[:2])
        by_rows = {PSNR: psnr_by_rows, MS_SSIM: ms_ssim_by_rows}[kind]
        return lambda data: by_rows(codec, picture, codec.open(data, limit))
    pixels = picture.pixels
    function = {PSNR: metrics.psnr, MS_SSIM: metrics.ms_ssim}[kind]
    return lambda data: function(pixels, codec.decode_picture(data, max_pixels=pixels.size).pixels)
