"""``codec study``: comparisons that train several small models and write a folder of results.

A study is a module ``_study_NAME.py`` beside this one with a click command named ``command``; add its NAME to
:data:`STUDIES`.
"""

from __future__ import annotations

import importlib

import click

from codec_cli import options

__all__ = ["STUDIES", "command"]

STUDIES = ("decoders", "latents", "mnist")


class _Studies(click.Group):
    """A group that imports a study's module when it is first asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all studies."""
        return list(STUDIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The study of a name, or None."""
        if cmd_name not in STUDIES:
            return None
        study: click.Command = importlib.import_module(f"codec_cli.commands._study_{cmd_name}").command
        return study


@click.group(
    "study",
    cls=_Studies,
    epilog=options.examples(
        "codec study mnist results/mnist --data mnist/",
        "codec study latents results/latents --data mnist/ --epochs 10",
        "codec study decoders results/decoders --data emnist.npz --latent 50 --latent 100",
    ),
)
def command() -> None:
    """Train and compare small autoencoders.

    The results are a folder: summary.md with tables and pictures, the tables as CSV, pictures as PNG and SVG,
    and all runs, which `codec train --resume` and `codec study decoders --from` take. What is trained already
    is not trained again: an interrupted study goes on with the same command.
    """
