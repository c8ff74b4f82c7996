"""Measuring codecs on images: every image at every setting, means over the images, Bjøntegaard deltas.

::

    from codec_cli.evaluation import runner

    ours = runner.Subject.ours(Zoo().info("photo"), [10, 30, 50, 70, 90])
    evaluator = runner.Evaluator((ours, *runner.Subject.others(["jpeg"])))
    results = [evaluator(path) for path in paths]
    points = [point for result in results for point in result.points]
    means = runner.means(points)
    print(runner.bd_rates(means, [ours.name], ["jpeg"]))

Rates are bytes of complete files without metadata. Quality is that of the pixels which decoding these bytes
returns. Alpha is not measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from codec_cli.errors import CodecError
from codec_cli.evaluation import bdrate
from codec_cli.evaluation.others import others
from codec_cli.evaluation.quality import Measure
from codec_cli.images import Picture, load_picture

if TYPE_CHECKING:
    from codec_cli.codec import Codec
    from codec_cli.zoo import ModelInfo

__all__ = [
    "METRICS",
    "SCHEMA",
    "BdRate",
    "Evaluator",
    "Mean",
    "Point",
    "Result",
    "Subject",
    "bd_rates",
    "means",
    "report",
    "rounded",
    "usable_qualities",
]

SCHEMA = 1
"""Version of :func:`report`'s layout."""

METRICS = ("psnr_rgb_db", "ms_ssim_db")
"""What Bjøntegaard deltas are computed over."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Subject:
    """A codec under test.

    Attributes:
        name: ``codec:MODEL``, or a name of :mod:`codec_cli.evaluation.others`.
        settings: What to measure at: qualities, or the other codec's own scale.
        model: Ours; None for other codecs.
    """

    name: str
    settings: tuple[int, ...]
    model: ModelInfo | None = None

    @classmethod
    def ours(cls, model: ModelInfo, qualities: Iterable[int]) -> Subject:
        """One of our models at some qualities (1 to 100)."""
        return cls(f"codec:{model.name}", tuple(sorted(set(qualities))), model)

    @classmethod
    def others(cls, names: Iterable[str]) -> list[Subject]:
        """Other codecs, each at its own sweep (raises :class:`CodecError` for unknown names)."""
        return [cls(codec.name, tuple(codec.settings())) for codec in others(names)]


@dataclass(frozen=True)
class Point:
    """One image at one setting; quality is that of :class:`codec_cli.evaluation.quality.Measure`.

    A figure of quality is None where it is infinite, not defined (MS-SSIM below 176 pixels) or not measured
    (LPIPS without weights).

    Attributes:
        image: Path of the image.
        codec: Name of the subject.
        setting: Quality, or the other codec's setting.
        bytes: Size of the complete file.
        bpp: Bits per pixel.
        psnr_rgb_db: Over R'G'B' samples (over gray ones for gray images).
        psnr_luma_db: Over BT.601 luma.
        ssim: -1 to 1.
        ms_ssim: 0 to 1.
        ms_ssim_db: The same, ``-10 log10(1 - x)``.
        lpips: A distance, 0 for equal images.
        encode_s: Seconds from pixels to bytes, model loaded.
        decode_s: Seconds from bytes to pixels, model loaded.
        width: In pixels.
        height: In pixels.
    """

    image: str
    codec: str
    setting: int
    bytes: int
    bpp: float
    psnr_rgb_db: float | None
    psnr_luma_db: float | None
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    lpips: float | None
    encode_s: float
    decode_s: float
    width: int
    height: int


@dataclass(frozen=True)
class Mean:
    """Arithmetic means over the images, of the figures as they are in :class:`Point` (dB, not MSE).

    A mean is None where it is so for one of the images: means over different images don't compare.
    """

    codec: str
    setting: int
    images: int
    bytes: float
    bpp: float
    psnr_rgb_db: float | None
    psnr_luma_db: float | None
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    lpips: float | None
    encode_s: float
    decode_s: float


@dataclass(frozen=True)
class BdRate:
    """A Bjøntegaard delta: bits that ``test`` needs more than ``anchor`` at equal quality.

    Attributes:
        test: Name of a subject.
        anchor: Name of the subject that it is compared with.
        metric: One of :data:`METRICS`.
        percent: -20 is 20 % fewer bits; None where there is nothing to compare.
        reason: Why it is None.
    """

    test: str
    anchor: str
    metric: str
    percent: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Result:
    """What became of one image: its points, or an error."""

    image: str
    points: tuple[Point, ...] = ()
    warnings: tuple[str, ...] = ()
    error: CodecError | MemoryError | None = None


class _Coder(Protocol):
    def encode(self, pixels: Pixels, setting: int) -> bytes: ...

    def decode(self, data: bytes) -> Pixels: ...


@dataclass
class _Ours:
    """Our codec with the interface of the others."""

    codec: Codec
    max_pixels: int

    def encode(self, pixels: Pixels, setting: int) -> bytes:
        return self.codec.encode_picture(Picture(pixels), setting)

    def decode(self, data: bytes) -> Pixels:
        return self.codec.decode_picture(data, max_pixels=self.max_pixels).pixels


@dataclass
class Evaluator:
    """Measures all subjects on one image after the other. Can be pickled before its first use.

    Attributes:
        subjects: What to measure.
        models_dir: Searched first for models.
        threads: Threads of our codec; None for all.
        max_pixels: The largest image to accept.
        lpips_weights: File with LPIPS's weights; None leaves LPIPS out.
    """

    subjects: tuple[Subject, ...]
    models_dir: Path | None = None
    threads: int | None = None
    max_pixels: int = 1 << 28
    lpips_weights: Path | None = None
    _coders: dict[str, _Coder] = field(default_factory=dict, init=False, repr=False)
    _quality: Measure = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._quality = Measure(self.lpips_weights)

    def __call__(self, path: Path) -> Result:
        """Measures one image.

        An image on which any of the subjects fails gives no points at all: means over different images
        don't compare.
        """
        name = str(path)
        try:
            picture = load_picture(path, name, self.max_pixels, keep_metadata=False)
            notes = (
                picture.warnings if picture.alpha is None else (*picture.warnings, "alpha is not measured")
            )
            points = tuple(
                self._measure(subject, picture.pixels, setting, name)
                for subject in self.subjects
                for setting in subject.settings
            )
        except (CodecError, MemoryError) as error:
            return Result(name, error=error)
        return Result(name, points, notes)

    def _measure(self, subject: Subject, pixels: Pixels, setting: int, image: str) -> Point:
        coder = self._coder(subject)
        if subject.model is None and pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)  # What the others take.
        start = time.perf_counter()
        data = coder.encode(pixels, setting)
        encoded = time.perf_counter()
        decoded = coder.decode(data)
        done = time.perf_counter()
        height, width = pixels.shape[:2]
        return Point(
            image=image,
            codec=subject.name,
            setting=setting,
            bytes=len(data),
            bpp=len(data) * 8 / (width * height),
            encode_s=encoded - start,
            decode_s=done - encoded,
            width=width,
            height=height,
            **self._quality(pixels, decoded),
        )

    def _coder(self, subject: Subject) -> _Coder:
        coder = self._coders.get(subject.name)
        if coder is None:
            if subject.model is None:
                (coder,) = others([subject.name])
            else:
                from codec_cli.codec import Codec

                codec = Codec(subject.model, models_dir=self.models_dir, threads=self.threads)
                coder = _Ours(codec, self.max_pixels)
            # Loading the model is not part of anyone's seconds.
            channels = 3 if subject.model is None else subject.model.channels
            coder.decode(coder.encode(np.zeros((64, 64, channels), np.uint8), subject.settings[0]))
            self._coders[subject.name] = coder
        return coder


def usable_qualities(model: ModelInfo, count: int | None = None) -> list[int]:
    """Qualities for a sweep.

    Args:
        model: One of ours.
        count: How many, spread evenly over the levels; None for one quality per usable level.

    Returns:
        Rising qualities, each of another level.
    """
    levels: dict[int, int] = {}
    for quality in range(1, 101):
        levels.setdefault(model.level_of_quality(quality), quality)
    qualities = sorted(levels.values())
    if count is None or count >= len(qualities):
        return qualities
    if count == 1:
        return [model.default_quality]
    return [qualities[round(i * (len(qualities) - 1) / (count - 1))] for i in range(count)]


def means(points: Iterable[Point]) -> list[Mean]:
    """Means over the images, for every codec and setting, in the order of their first points."""
    groups: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        groups.setdefault((point.codec, point.setting), []).append(point)
    averaged = [field.name for field in fields(Mean) if field.name not in ("codec", "setting", "images")]
    return [
        Mean(codec, setting, len(group), **{name: _mean(group, name) for name in averaged})  # type: ignore[arg-type]
        for (codec, setting), group in groups.items()
    ]


def bd_rates(means: Sequence[Mean], tests: Sequence[str], anchors: Sequence[str]) -> list[BdRate]:
    """Bjøntegaard deltas between mean curves, over each of :data:`METRICS`.

    Args:
        means: Of all codecs.
        tests: Names of the codecs under test.
        anchors: Names of the codecs that each of them is compared with (never with itself).
    """
    pairs = [(test, anchor) for test in tests for anchor in anchors if test != anchor]
    return [_bd_rate(means, test, anchor, metric) for test, anchor in pairs for metric in METRICS]


def report(points: Sequence[Point], rates: Sequence[BdRate], skipped: Iterable[Result]) -> dict[str, Any]:
    """Everything as plain values for JSON.

    The layout (``schema`` 1): ``results`` has the fields of :class:`Point`, ``means`` those of
    :class:`Mean`, ``bd_rate`` those of :class:`BdRate`, ``skipped`` has ``image`` and ``error``.
    """
    return {
        "schema": SCHEMA,
        "results": [rounded(asdict(point)) for point in points],
        "means": [rounded(asdict(mean)) for mean in means(points)],
        "bd_rate": [rounded(asdict(rate)) for rate in rates],
        "skipped": [{"image": result.image, "error": str(result.error)} for result in skipped],
    }


def rounded(facts: dict[str, Any]) -> dict[str, Any]:
    """The same with six digits after the point, which is more than any of the figures means."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in facts.items()}


def _bd_rate(means: Sequence[Mean], test: str, anchor: str, metric: str) -> BdRate:
    curves = []
    for name in (anchor, test):
        curve = [mean for mean in means if mean.codec == name]
        known = [(mean.bpp, value) for mean in curve if (value := getattr(mean, metric)) is not None]
        curves += [[bpp for bpp, _ in known], [value for _, value in known]]
    try:
        return BdRate(test, anchor, metric, bdrate.bd_rate(*curves))
    except CodecError as error:
        return BdRate(test, anchor, metric, None, str(error))


def _mean(points: Sequence[Point], name: str) -> float | None:
    values = [getattr(point, name) for point in points]
    return None if None in values else math.fsum(values) / len(values)
