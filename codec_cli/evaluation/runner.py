"""Measuring codecs on images: every image at every setting.

::

    from codec_cli.evaluation import figures, runner

    ours = runner.Subject.ours(Zoo().info("photo"), [10, 30, 50, 70, 90])
    evaluator = runner.Evaluator((ours, *runner.Subject.others(["jpeg"])))
    results = [evaluator(path) for path in paths]
    points = [point for result in results for point in result.points]
    means = figures.means(points)
    print(figures.bd_rates(means, [ours.name], ["jpeg"]))

Rates are bytes of complete files without metadata. Quality is that of the pixels which decoding these bytes
returns. Alpha is not measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from codec_cli.errors import CodecError
from codec_cli.evaluation.cache import Cache, identity_of_model, identity_of_quality, pixels_digest
from codec_cli.evaluation.figures import Point
from codec_cli.evaluation.others import others
from codec_cli.evaluation.quality import Measure
from codec_cli.pictures.images import Picture, load_picture

if TYPE_CHECKING:
    from codec_cli.codec import Codec
    from codec_cli.zoo import ModelInfo

__all__ = ["Coder", "Evaluator", "Ours", "Result", "Subject", "usable_qualities"]

Pixels = npt.NDArray[np.uint8]


class Coder(Protocol):
    """What encodes pixels to a complete file and decodes it: one of the other codecs, or :class:`Ours`."""

    def encode(self, pixels: Pixels, setting: int) -> bytes:
        """Pixels to a file, at the codec's own setting."""

    def decode(self, data: bytes) -> Pixels:
        """A file to pixels."""


@dataclass
class Ours:
    """Our codec with the interface of the others.

    Attributes:
        codec: With a model.
        max_pixels: The largest image to decode.
    """

    codec: Codec
    max_pixels: int

    def encode(self, pixels: Pixels, setting: int) -> bytes:
        """See :class:`Coder`; the setting is a quality."""
        return self.codec.encode_picture(Picture(pixels), setting)

    def decode(self, data: bytes) -> Pixels:
        """See :class:`Coder`."""
        return self.codec.decode_picture(data, max_pixels=self.max_pixels).pixels


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

    def coder(self, models_dir: Path | None, threads: int | None, max_pixels: int) -> Coder:
        """What encodes and decodes; a model is loaded at its first use.

        Args:
            models_dir: Searched first for models.
            threads: Threads of our codec; None for all.
            max_pixels: The largest image to decode.
        """
        if self.model is None:
            (codec,) = others([self.name])
            return codec
        from codec_cli.codec import Codec

        return Ours(Codec(self.model, models_dir=models_dir, threads=threads), max_pixels)

    @classmethod
    def ours(cls, model: ModelInfo, qualities: Iterable[int]) -> Subject:
        """One of our models at some qualities (1 to 100)."""
        return cls(f"codec:{model.name}", tuple(sorted(set(qualities))), model)

    @classmethod
    def others(cls, names: Iterable[str]) -> list[Subject]:
        """Other codecs, each at its own sweep (raises :class:`CodecError` for unknown names)."""
        return [cls(codec.name, tuple(codec.settings())) for codec in others(names)]


@dataclass(frozen=True)
class Result:
    """What became of one image: its points, or an error.

    Attributes:
        image: Its path.
        points: At every setting of every subject.
        warnings: What is not measured.
        error: Why there are no points.
        digest: SHA-256 of its pixels (``cache.pixels_digest``), empty after an error.
        measured: How many of the points are new, not from the cache.
    """

    image: str
    points: tuple[Point, ...] = ()
    warnings: tuple[str, ...] = ()
    error: CodecError | MemoryError | None = None
    digest: str = ""
    measured: int = 0


@dataclass
class Evaluator:
    """Measures all subjects on one image after the other. Can be pickled before its first use.

    Attributes:
        subjects: What to measure.
        models_dir: Searched first for models.
        threads: Threads of our codec; None for all.
        max_pixels: The largest image to accept.
        lpips_weights: File with LPIPS's weights; None leaves LPIPS out.
        cache: Where results are kept and found again; None for nowhere.
    """

    subjects: tuple[Subject, ...]
    models_dir: Path | None = None
    threads: int | None = None
    max_pixels: int = 1 << 28
    lpips_weights: Path | None = None
    cache: Cache | None = None
    _coders: dict[str, Coder] = field(default_factory=dict, init=False, repr=False)
    _identities: dict[str, str] = field(default_factory=dict, init=False, repr=False)
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
            digest = pixels_digest(picture.pixels)
            found = [
                self._find(subject, picture.pixels, digest, setting)
                for subject in self.subjects
                for setting in subject.settings
            ]
        except (CodecError, MemoryError) as error:
            return Result(name, error=error)
        points = tuple(replace(point, image=name) for point, _ in found)
        return Result(name, points, notes, None, digest, sum(new for _, new in found))

    def _find(self, subject: Subject, pixels: Pixels, digest: str, setting: int) -> tuple[Point, bool]:
        """A point and whether it is new. Points are kept without the image's name: it is not part of them."""
        if self.cache is None:
            return self._measure(subject, pixels, setting, ""), True
        identity = self._identities.get(subject.name)
        if identity is None:
            identity = self._identities[subject.name] = _identity(subject)
        entry = self.cache.path(digest, identity, str(setting), identity_of_quality(self.lpips_weights))
        kept = self.cache.load(entry)
        if kept is not None and kept.keys() == {field.name for field in fields(Point)}:
            return Point(**{**kept, "codec": subject.name}), False
        point = self._measure(subject, pixels, setting, "")
        self.cache.save(entry, asdict(point))
        return point, True

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

    def _coder(self, subject: Subject) -> Coder:
        coder = self._coders.get(subject.name)
        if coder is None:
            coder = subject.coder(self.models_dir, self.threads, self.max_pixels)
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


def _identity(subject: Subject) -> str:
    """What a subject's results depend on apart from image and setting."""
    if subject.model is not None:
        return identity_of_model(subject.model)
    (codec,) = others([subject.name])
    return codec.identity
