"""Rate-distortion curves that others published: to draw beside what is measured, never to mix with it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from codec_cli.errors import CodecError

__all__ = ["Series", "select", "series", "tree"]


@dataclass(frozen=True)
class Series:
    """Mean points on the Kodak set, as published.

    Attributes:
        name: What ``--published`` calls it.
        label: For people.
        source: The file that the figures come from.
        bpp: Bits per pixel, rising.
        psnr_rgb_db: PSNR over R'G'B'.
        ms_ssim: MS-SSIM, linear; empty where only PSNR was published. There is no mean in dB: the dB of a
            mean is not the mean of dBs.
    """

    name: str
    label: str
    source: str
    bpp: tuple[float, ...]
    psnr_rgb_db: tuple[float, ...]
    ms_ssim: tuple[float, ...]

    def values(self, metric: str) -> tuple[float, ...]:
        """The curve over a metric of :mod:`codec_cli.evaluation.quality`; empty where there is none."""
        return {"psnr_rgb_db": self.psnr_rgb_db, "ms_ssim": self.ms_ssim}.get(metric, ())


@cache
def series() -> dict[str, Series]:
    """All published curves, by name."""
    return {
        name: Series(
            name,
            entry["label"],
            entry["source"],
            tuple(entry["bpp"]),
            tuple(entry["psnr_rgb_db"]),
            tuple(entry.get("ms_ssim", ())),
        )
        for name, entry in json.loads(_text())["series"].items()
    }


def select(names: Iterable[str]) -> list[Series]:
    """Curves by name; ``all`` stands for all.

    Raises:
        CodecError: A name is unknown: says which are known.
    """
    known = series()
    wanted = list(dict.fromkeys(names))
    if wanted == ["all"]:
        return list(known.values())
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise CodecError(f"no published curve {', '.join(unknown)}: known are all, {', '.join(known)}")
    return [known[name] for name in wanted]


def tree(chosen: Iterable[Series]) -> dict[str, Any]:
    """Some curves laid out as in ``published.json``."""
    entries = json.loads(_text())["series"]
    return {"series": {entry.name: entries[entry.name] for entry in chosen}}


@cache
def _text() -> str:
    return (resources.files("codec_cli.evaluation") / "published.json").read_text("utf-8")
