"""Search for the level that meets a target: a size, or a quality.

The analysis runs once; each try only quantizes and codes (and, for a quality, decodes). Size and quality rise
with the level, so a bisection over the levels takes six tries. Levels are 4 to 8 % of the bytes apart; a few
tries more find how hard the symbols of the better one have to be optimised to fit between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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
# How far apart two levels are, in the logarithm of the weight of distortion: on the grid of the one, refined
# latents are about as good as those of the other when the weight is changed by this (0.4 to 0.6 was seen).
LEVEL_STEP = 0.5
# The smallest weight to try, as a logarithm, too.
LOWEST = -2.0
# Files to refine between two levels, and how near to a target they aim: a share of a size, dB of a quality.
FITS, NEAR = 3, 0.002
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
    codec: Codec,
    picture: Picture | RowPicture,
    target: Target,
    effort: int = DEFAULT_EFFORT,
    finer: Sequence[float] = FINER,
) -> bytes:
    """Compresses a picture to a target.

    Args:
        codec: With the model that encodes.
        picture: What to compress. Of a picture that is read by rows, the latents go to a temporary file.
        target: A size gives the largest file within it, which is nearly always the best; a quality gives the
            smallest file that has it, of those that were tried.
        effort: See :meth:`codec_cli.Codec.encode_picture`.
        finer: Strengths to try between levels, by rising size; none for levels only. Refinement (efforts 7
            to 9) has the weight of distortion instead.

    Returns:
        A whole compressed file; never larger than a target size.

    Raises:
        TargetError: No level is small enough, or none good enough.
    """
    if effort in EFFORT_STEPS:
        return _refined(codec, picture, target, effort, FITS if finer else 0)
    latents: Iterable[Floats]
    if isinstance(picture, RowPicture):
        latents = Spool(codec.latents(picture.source()))
        codec.forget_transforms()
    else:
        latents = list(codec.latents(picture.pixels))

    def pack(level: int, strength: float | None = None) -> bytes:
        return codec.pack(picture, latents, level, effort, strength)

    judge = _Judge(codec, picture, target)
    if not (EFFORT_STRENGTH[effort] > 0 and codec.optimises):
        finer = ()
    top, wants_small = codec.info.levels - 1, target.kind == SIZE
    # A size holds up to some level, a quality from some level on.
    last = _last(top, lambda level: judge(pack(level)) == wants_small)
    between = 0 if last is None else last + 1
    if between <= top:
        _last(len(finer) - 1, lambda i: judge(pack(between, finer[i])) == wants_small)
    if judge.best is not None:
        return judge.best
    if wants_small:
        raise TargetError(
            f"the smallest possible file has {judge.smallest} bytes, more than {target.value:.0f}"
        )
    raise TargetError(f"the model's best level does not reach {target.kind} {target.value:g}")


def _refined(codec: Codec, picture: Picture | RowPicture, target: Target, effort: int, fits: int) -> bytes:
    """Searches with plain rounding, then with refined files: level by level, then between two levels.

    At a level, refined files are about as large as plainly rounded ones, and better; optimised ones are
    smaller and worse, so that a search with those would end some levels away. That takes two or three
    refined files, and what lies between up to ``fits`` more.
    """
    meets, top = _Judge(codec, picture, target), codec.info.levels - 1
    # Levels that are better if they meet the target.
    onward = 1 if target.kind == SIZE else -1
    try:
        level = container.peek(encode_to(codec, picture, target, PLAIN_EFFORT)).level
    except TargetError:
        level = 0 if target.kind == SIZE else top
    places: dict[int, float] = {}

    def refine(level: int, weight: float = 1.0) -> bool:
        """Whether there is such a level and its refined file meets the target."""
        if not 0 <= level <= top:
            return False
        met = meets(codec.encode_picture(picture, level=level, effort=effort, weight=weight))
        places.setdefault(level, meets.place)
        return met

    if refine(level):
        while refine(level + onward):
            level += onward
    else:
        while 0 <= level <= top and not refine(level - onward):
            level -= onward
        level -= onward
    if meets.best is None:
        # At the last level, what is optimised for few bits may meet what refined files don't.
        return encode_to(codec, picture, target, DEFAULT_EFFORT)
    low, high = sorted((level, level + onward))
    if fits and low in places and high in places:

        def place(shift: float) -> float:
            # Where the higher level has channels that the lower one lacks, only the higher can come between.
            refine(high, math.exp(shift))
            return meets.place

        _fit(places[high], (places[high] - places[low]) / LEVEL_STEP, place, -onward * NEAR, fits)
    return meets.best


def _fit(start: float, slope: float, place: Callable[[float], float], aim: float, fits: int) -> None:
    """Makes files nearer and nearer to a target, by the secant from where the search starts.

    Args:
        start: Place of the file of shift 0.
        slope: By how much places rise with the shift, a guess.
        place: Makes the file of a shift.
        aim: The place to come near to, on the side that meets the target; no farther than this from it.
        fits: How many files at most.
    """
    shift, found = 0.0, start
    for _ in range(fits):
        if abs(found - aim) <= abs(aim) or slope <= 0:
            return
        shift = min(max(shift + (aim - found) / slope, LOWEST), 0.0)
        found = place(shift)
        if shift in (LOWEST, 0.0):
            return
        slope = (found - start) / shift


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


class _Judge:
    """Whether compressed files meet a target, and which of those that do is the best.

    Args:
        codec: That decodes them.
        picture: Their source.
        target: What they are to reach.

    Attributes:
        best: Of the files that meet it, the largest for a size, the smallest for a quality; None so far.
        smallest: Bytes of the smallest file seen.
        place: How far the last file lies above the target: the logarithm of sizes, or dB of qualities.
    """

    def __init__(self, codec: Codec, picture: Picture | RowPicture, target: Target) -> None:
        self._target = target
        self._measure = None if target.kind == SIZE else _metric(codec, picture, target.kind)
        self.best: bytes | None = None
        self.smallest = 0
        self.place = 0.0

    def __call__(self, data: bytes) -> bool:
        """Whether a file meets the target."""
        self.smallest = min(len(data), self.smallest or len(data))
        wished = self._target.value
        if self._measure is None:
            good = len(data) <= wished
            better = self.best is None or len(data) > len(self.best)
            self.place = math.log(len(data) / max(1.0, wished))
        else:
            value = self._measure(data)
            good = value >= wished
            better = self.best is None or len(data) < len(self.best)
            self.place = value - wished if self._target.kind == PSNR else _db(value) - _db(wished)
        if good and better:
            self.best = data
        return good


def _db(ms_ssim: float) -> float:
    from codec_cli.evaluation.metrics import to_db

    return to_db(min(ms_ssim, 1 - 1e-6))  # Finite for equal images, too.


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
