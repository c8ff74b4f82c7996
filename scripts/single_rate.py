"""What one model for all rates loses against a model of one rate.

Training goes on from a released model for a number of steps: once as it is, with all levels in every batch,
and once for each of some levels alone, with all crops, transforms and contexts for that one. All see as many
crops; the objective of the validation crops at these levels is compared.

    python scripts/single_rate.py runs/single-rate --data PHOTOS --validation PHOTOS --levels 2,5 --steps 300

The specialised models get few steps, so the true loss of a variable rate is at least what is printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from codec_cli import zoo
from codec_cli.study.runs import Trained, train_once
from codec_cli.training import levels
from codec_cli.training.config import Config
from codec_cli.training.networks import Arrays


def alone(config: Config, params: Arrays, level: int) -> tuple[Config, Arrays]:
    """The configuration and parameters of one trained level."""
    section = config.levels.model_copy(update={"lambdas": [config.levels.lambdas[level]]})
    chosen = levels.picked(params, len(config.levels.lambdas), [level])
    return config.model_copy(update={"levels": section}), chosen


def objective(trained: Trained, level: int, value: float) -> tuple[float, float, float]:
    """Bits per pixel, PSNR in dB, and bits plus lambda times MSE, of the last validation."""
    last = trained.history[-1]
    bpp, psnr = last["bpp"][level], last["psnr"][level]
    return bpp, psnr, bpp + value * 255**2 * 10 ** (-psnr / 10)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--model", default="photo-1")
    parser.add_argument("--levels", default="2,5", help="trained levels, from 0")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    arguments = parser.parse_args()
    info = zoo.Zoo().info(arguments.model)
    params: Arrays = {name: value.astype("float32") for name, value in info.arrays(zoo.WEIGHTS).items()}
    base = Config.model_validate(info.facts["config"])
    data = {"path": arguments.data, "validation": arguments.validation, "crop": 128, "batch": 8}
    rate = {"learning_rate": arguments.learning_rate, "warmup_steps": 20, "decay_start": 0.0, "ema": 0.98}
    # The released model ended with a synthesis for rounded latents; noisy ones would unlearn that first.
    run = {"steps": arguments.steps, "decoder_rounding": 0.0, "validate_steps": arguments.steps}
    config = base.model_copy(
        update={
            "data": base.data.model_copy(update=data),
            "optimizer": base.optimizer.model_copy(update=rate),
            "run": base.run.model_copy(update=run),
        }
    )
    cache = arguments.out / "cache"
    variable = train_once(config, arguments.out / "variable", start=params, cache_dir=cache, quiet=True)
    print("| lambda | model | bits per pixel | PSNR, dB | objective |\n|---:|---|---:|---:|---:|")
    for level in map(int, arguments.levels.split(",")):
        value = config.levels.lambdas[level]
        one, start = alone(config, params, level)
        single = train_once(one, arguments.out / f"level-{level}", start=start, cache_dir=cache, quiet=True)
        found = {"all rates": objective(variable, level, value), "one rate": objective(single, 0, value)}
        for name, (bpp, psnr, total) in found.items():
            print(f"| {value:g} | {name} | {bpp:.4f} | {psnr:.3f} | {total:.4f} |")
        loss = 100 * (found["all rates"][2] / found["one rate"][2] - 1)
        print(f"\nlambda {value:g}: all rates in one model cost {loss:+.2f} % of the objective\n", flush=True)


if __name__ == "__main__":
    main()
