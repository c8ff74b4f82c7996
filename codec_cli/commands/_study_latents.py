"""``codec study latents``."""

from __future__ import annotations

import click

from codec_cli import options
from codec_cli.commands import _study


@click.command(
    "latents",
    epilog=options.examples(
        "codec study latents results/ --data mnist/",
        "codec study latents results/ --data tfds:mnist --epochs 10 --seeds 5",
        "codec study latents results/ --data mnist/ --latent 64 --latent 16 --rise 10",
    ),
)
@_study.common
@click.option(
    "--latent",
    "sizes",
    type=click.IntRange(1),
    multiple=True,
    default=(392, 78, 39, 8),
    show_default="392, 78, 39, 8",
    help="Dimensions of the latent; repeatable.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of each size.")
@click.option(
    "--rise",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="PERCENT",
    help="By how much rounding the latents may raise the MSE.",
)
@click.option(
    "--config", default="mnist-latents", show_default=True, help="Configuration: a name, or a JSON file."
)
def command(
    common: _study.Common,
    sizes: tuple[int, ...],
    seeds: int,
    rise: float,
    config: str,
) -> None:
    """Set the size of a plain autoencoder's latent against error, and against bits.

    The folder OUT gets the error at each size, originals and reconstructions, error by class (plain and
    normalised by ink), t-SNE of originals and reconstructions together, and the true bits of rounded and
    range-coded latents.
    """
    data = common.require_data()
    from codec_cli import study

    study.require()
    from codec_cli.study import latents as library

    chosen = library.Options(
        data=data,
        config=config,
        sizes=tuple(dict.fromkeys(sizes)),
        seeds=seeds,
        rise=rise / 100,
        shown=10 if common.tiny else 100,
        test_images=100 if common.tiny else None,
        **common.options(),
    )
    common.finish(library.run, chosen)
