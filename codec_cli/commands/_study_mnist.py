"""``codec study mnist``."""

from __future__ import annotations

import click

from codec_cli import options
from codec_cli.commands import _study


@click.command(
    "mnist",
    epilog=options.examples(
        "codec study mnist results/ --data mnist/",
        "codec study mnist results/ --data tfds:mnist --epochs 5 --test-images 1000",
    ),
)
@_study.common
@click.option(
    "--test-images",
    type=click.IntRange(1),
    default=10000,
    show_default=True,
    help="Test images to code, each as a file at every quality level.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="Digits to draw from the prior.",
)
@click.option(
    "--ablations",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    metavar="SHARE",
    help="Length of each ablation's training, as a share of the main one's; 0 for none.",
)
def command(
    common: _study.Common,
    test_images: int,
    samples: int,
    ablations: float,
) -> None:
    """Compress digits with a learned transform, next to a block DCT.

    The folder OUT gets the model, rate and PSNR over real files of the test images beside block DCTs with the
    same quantiser, tables and container, reconstructions before and after training, latents against the
    learned prior, digits drawn from it with the judgement of a classifier, and what the prior's family, the
    start and the joint training of several rates do.
    """
    data = common.require_data()
    from codec_cli import study

    study.require()
    from codec_cli.study import mnist as library

    chosen = library.Options(
        data=data,
        test=20 if common.tiny else test_images,
        samples=40 if common.tiny else samples,
        part=ablations,
        judge_epochs=1 if common.tiny else 6,
        **common.options(),
    )
    common.finish(library.run, chosen)
