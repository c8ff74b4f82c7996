"""A fixed transform to compare with: the block DCT, as a configuration of listed layers with set weights.

So it gets the same quantiser, tables, range coder and container as what was learned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from codec_cli.training import checkpoint, data, model
from codec_cli.training.config import Config
from codec_cli.training.step import init_state

__all__ = ["block_dct", "dct_config", "write_dct_run"]


def block_dct(side: int) -> npt.NDArray[np.float32]:
    """The orthonormal DCT-II of square blocks: columns (side^2 samples row by row, side^2 waves)."""
    place = np.arange(side)
    waves = np.cos(np.pi * (place[:, None] + 0.5) * place[None] / side) * np.sqrt(2 / side)
    waves[:, 0] /= np.sqrt(2)
    return np.kron(waves, waves).astype(np.float32)


def dct_config(base: Config, block: int, lambdas: list[float]) -> Config:
    """A configuration like another one, with a transform of blocks instead of networks.

    Args:
        base: Its images are gray, and ``size`` is a multiple of ``block``.
        block: Side of a block in pixels.
        lambdas: Weights of the distortion, one for each quality level; they decide the steps.
    """
    tree = base.model_dump()
    tree["name"] = f"dct-{block}"
    tree["transforms"]["analysis"] = [
        {"op": "space_to_depth", "factor": block},
        {"op": "conv", "kernel": 1, "filters": block**2},
    ]
    tree["transforms"]["synthesis"] = [{"op": "subpixel", "kernel": 1, "factor": block, "filters": 1}]
    tree["levels"]["lambdas"] = lambdas
    tree["levels"]["between"] = 0
    tree["data"]["batch"] = len(lambdas)
    return Config.model_validate(tree)


def write_dct_run(config: Config, run: Path, cache_dir: Path, quiet: bool) -> None:
    """A run whose weights are the DCT and the steps that are best at high rates, with nothing trained.

    Args:
        config: From :func:`dct_config`.
        run: Its folder.
        cache_dir: Of decoded patches.
        quiet: No progress bar.
    """
    patches = np.asarray(data.load_patches(config, cache_dir, quiet)[:2000])
    params = model.init_params(config, patches)
    basis = block_dct(config.transforms.analysis[0].factor)  # type: ignore[union-attr]
    params["analysis/1/kernel"] = basis[None, None]
    params["synthesis/0/kernel"] = np.ascontiguousarray(basis.T)[None, None]
    run.mkdir(parents=True, exist_ok=True)
    checkpoint.save_run_config(run, config)
    checkpoint.save(run, init_state(params), 0, 0.0)
