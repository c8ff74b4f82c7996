"""A saved autoencoder on other images: as it is, fine-tuned, and against a fresh start of the same length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from codec_cli.study import pictures
from codec_cli.study.folder import Folder
from codec_cli.study.images import Split, load_split, overrides
from codec_cli.study.runs import Trained, reload
from codec_cli.training.config import Config, load_config
from codec_cli.training.networks import Arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from codec_cli.study.decoders import Options

__all__ = ["Tuned", "report", "tune"]


class Trainer(Protocol):
    """Trains or reloads a run of a study."""

    def __call__(
        self, name: str, config: Config, share: float = 1.0, start: Arrays | None = None
    ) -> Trained: ...


@dataclass(frozen=True)
class Tuned:
    """What came of fine-tuning.

    Attributes:
        start: The run from which it went out.
        data: Name of the other data set.
        split: Its images.
        rows: Figures on its test images: before, after, fresh.
        decoded: The first test images as they come back, in the same order.
        curves: Validation loss over steps, after and fresh.
    """

    start: Trained
    data: str
    split: Split
    rows: Sequence[dict[str, Any]]
    decoded: dict[str, Any]
    curves: Sequence[pictures.Line]


def tune(train: Trainer, start: Trained, options: Options, say: Callable[[str], None]) -> Tuned:
    """Reloads a run from its folder and fine-tunes it.

    Args:
        train: Trains a run of the study.
        start: The run to go out from.
        options: Of the study; ``fine_tune_on`` is given.
        say: Takes lines on what happens.
    """
    from codec_cli.study.decoders import figures

    data = str(options.fine_tune_on)
    # From the disk: what was saved is what is fine-tuned.
    saved = reload(start.run)
    config = _on(saved, data, options.data_dir, options.overrides)
    split = load_split(data, config, options.data_dir, options.test_images)
    name = f"{saved.run.name}-tuned"
    runs = {
        "as it was": saved,
        "fine-tuned": train(name, config, options.tune_share, saved.params),
        "fresh, as long": train(f"{name}-fresh", config, options.tune_share),
    }
    rows, decoded = [], {}
    places = split.examples(min(12, len(split.test)))
    for label, trained in runs.items():
        images, row = figures(trained, split)
        rows.append({"weights": label, **row, "steps": 0 if trained is saved else trained.steps})
        decoded[label] = images[places]
        say(f"  {label}: PSNR {row['psnr_db']:.2f} dB, SSIM {row['ssim']:.4f}")
    curves = [history(label, trained) for label, trained in runs.items() if trained is not saved]
    return Tuned(saved, data, split, rows, {"original": split.test[places], **decoded}, curves)


def _on(saved: Trained, data: str, data_dir: str | None, more: Sequence[str]) -> Config:
    """The configuration of a run, on other images."""
    from codec_cli.training.checkpoint import CONFIG

    cleared = ["data.path=null", "data.dataset=null", "data.data_dir=null", "data.validation=null"]
    return load_config(str(saved.run / CONFIG), [*cleared, *overrides(data, data_dir), *more])


def history(name: str, trained: Trained) -> pictures.Line:
    """Validation loss over steps, as the run's log has it."""
    rows = trained.history
    return pictures.Line(name, [row["step"] for row in rows], [row["loss"] for row in rows])


_COLUMNS = (
    ("weights", "weights", ""),
    ("steps", "steps on it", "d"),
    ("train_loss", "training loss", ".1f"),
    ("test_loss", "validation loss", ".1f"),
    ("mse", "MSE", ".5f"),
    ("psnr_db", "PSNR, dB", ".2f"),
    ("ssim", "SSIM", ".4f"),
)


def report(folder: Folder, tuned: Tuned) -> None:
    """Adds the results to a folder."""
    from pathlib import Path

    folder.say("## Fine-tuning on another data set")
    folder.say(
        f"The saved run `{tuned.start.run.name}`, reloaded, on `{Path(tuned.data).name}` "
        f"({len(tuned.split.train)} training images, {len(tuned.split.test)} test images): as it was, "
        "fine-tuned, and a fresh start of as many steps. Figures are on the other data set's test images."
    )
    folder.table("fine-tuning", _COLUMNS, tuned.rows)
    folder.picture("fine-tuning", pictures.grid(tuned.decoded), "Originals and reconstructions")

    def draw(axes: Sequence[Axes]) -> None:
        pictures.lines(
            axes[0], tuned.curves, xlabel="step", ylabel="validation loss (averaged weights)", yscale="log"
        )

    folder.picture("fine-tuning-loss", pictures.panels(1, draw), "Validation loss while fine-tuning")
