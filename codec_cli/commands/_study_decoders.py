"""``codec study decoders``."""

from __future__ import annotations

from pathlib import Path

import click

from codec_cli import options
from codec_cli.commands import _study


@click.command(
    "decoders",
    epilog=options.examples(
        "codec study decoders results/ --data emnist.npz --latent 50 --latent 100 --latent 200",
        "codec study decoders results/ --data tfds:emnist/balanced --minutes 5",
        "codec study decoders results/ --data emnist.npz --fine-tune-on mnist/",
        "codec study decoders tuned/ --from results/runs/deep-50-seed-1 --fine-tune-on mnist/",
    ),
)
@_study.common
@click.option(
    "--latent",
    "latents",
    type=click.IntRange(1),
    multiple=True,
    default=(50,),
    show_default=True,
    help="Dimensions of the latent. Repeatable: all decoders at the first, the best of them at the others.",
)
@click.option(
    "--decoder",
    "decoders",
    metavar="NAME",
    multiple=True,
    show_default="all",
    help="Decoder to compare: plain, deep, wide, residual, kernel, upsample. Repeatable; the encoder of the "
    "first is that for decoders alone.",
)
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="Trainings of each decoder."
)
@click.option(
    "--alone-share",
    type=click.FloatRange(0, min_open=True),
    default=0.5,
    show_default=True,
    help="Length of the training of a decoder alone, as a share of that of a full autoencoder.",
)
@click.option(
    "--fine-tune-on",
    metavar="PATH",
    show_default="none",
    help="Other images (as --data) to fine-tune the best decoder's autoencoder on.",
)
@click.option(
    "--tune-share",
    type=click.FloatRange(0, min_open=True),
    default=0.2,
    show_default=True,
    help="Length of fine-tuning, as a share of that of a full autoencoder.",
)
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="RUN",
    show_default="none",
    help="Compare nothing, and fine-tune this run of a study.",
)
def command(
    common: _study.Common,
    latents: tuple[int, ...],
    decoders: tuple[str, ...],
    seeds: int,
    alone_share: float,
    fine_tune_on: str | None,
    tune_share: float,
    start: Path | None,
) -> None:
    """Compare decoders behind one encoder of strided convolutions.

    Each is trained as part of a full autoencoder, and alone behind a frozen encoder; the folder OUT gets
    loss, MSE, PSNR, SSIM, parameters and time of all, curves, and originals against reconstructions.
    """
    if start is not None and fine_tune_on is None:
        raise click.UsageError("--from needs --fine-tune-on")
    data = common.require_data() if start is None else common.data or ""
    from codec_cli import study

    study.require()
    from codec_cli.study import decoders as library

    chosen = library.Options(
        data=data,
        decoders=decoders or tuple(library.DECODERS),
        latents=tuple(dict.fromkeys(latents)),
        seeds=seeds,
        alone_share=alone_share,
        start=start,
        fine_tune_on=fine_tune_on,
        tune_share=tune_share,
        test_images=100 if common.tiny else None,
        **common.options(),
    )
    common.finish(library.run if start is None else library.tune_only, chosen)
