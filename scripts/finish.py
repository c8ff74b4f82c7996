"""Finishes a trained model: every level trained, on the symbols that the encoder really sends.

    python scripts/finish.py photo-1 runs/photo-2 --data PHOTOS --validation PHOTOS --minutes 30
    codec export runs/photo-2 models/photo-2 --set data.path=PHOTOS --set data.validation=PHOTOS

The analysis stays; entropy model and synthesis learn (see `codec_cli/training/finish.py`). MODEL is the name
or folder of a context model, whose weights the finishing starts from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from codec_cli import zoo
from codec_cli.errors import CodecError
from codec_cli.training.config import Config
from codec_cli.training.finish import finish
from codec_cli.training.networks import Arrays


def finished(arguments: argparse.Namespace) -> list[dict[str, float]]:
    """Runs it; see :func:`codec_cli.training.finish.finish`."""
    info = zoo.Zoo().info(arguments.model)
    params: Arrays = {name: value.astype("float32") for name, value in info.arrays(zoo.WEIGHTS).items()}
    config = Config.model_validate(info.facts["config"])
    where = {"path": arguments.data, "validation": arguments.validation}
    return finish(
        config.model_copy(update={"data": config.data.model_copy(update=where)}),
        params,
        arguments.run,
        minutes=arguments.minutes,
        strength=arguments.strength,
        learning_rate=arguments.learning_rate,
        crop=arguments.crop,
        batch=arguments.batch,
        cache_dir=arguments.cache_dir,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name or folder of a context model with weights")
    parser.add_argument("run", type=Path, help="folder of the new run")
    parser.add_argument("--data", required=True, help="directory of photographs")
    parser.add_argument("--validation", help="images to measure on (by default some of DATA are held out)")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument(
        "--strength", type=float, default=0.25, help="of the encoder's optimisation (%(default)s)"
    )
    parser.add_argument("--learning-rate", type=float, default=2e-5)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--cache-dir", type=Path)
    arguments = parser.parse_args()
    try:
        rows = finished(arguments)
    except CodecError as error:
        raise SystemExit(str(error)) from None
    half = len(rows) // 2
    print("| level | bits per pixel before, after | PSNR before, after |\n|---:|---:|---:|")
    for old, new in zip(rows[:half], rows[half:], strict=True):
        rates, qualities = f"{old['bpp']:.4f}, {new['bpp']:.4f}", f"{old['psnr']:.3f}, {new['psnr']:.3f}"
        print(f"| {new['level']:.0f} | {rates} | {qualities} |")


if __name__ == "__main__":
    main()
