"""``codec models``: what is installed, whether it is intact, and how to add more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from codec_cli import options

if TYPE_CHECKING:
    from codec_cli.zoo import ModelInfo, Zoo


@click.group(
    "models",
    invoke_without_command=True,
    epilog=options.examples(
        "codec models                  # lists them",
        "codec models verify",
        "codec models add ~/my-model-1",
        "codec models path photo",
    ),
)
@options.models_dir
@options.json_output
@click.pass_context
def command(ctx: click.Context, models_dir: Path | None, json: bool) -> None:
    """List, check and add models.

    Without a command of its own it lists the installed models.
    """
    # Both options may stand before the name of a subcommand, too.
    ctx.obj = {"models_dir": models_dir, "json": json}
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, models_dir=models_dir, json=json)


@command.command("list", epilog=options.examples("codec models list --json"))
@options.models_dir
@options.json_output
@click.pass_context
def list_models(ctx: click.Context, models_dir: Path | None, json: bool) -> None:
    """List the installed models, with what their cards say."""
    from codec_cli.errors import ModelError
    from codec_cli.report import describe, json_text

    zoo = _zoo(ctx, models_dir)
    json = json or ctx.obj["json"]
    listed: list[dict[str, Any]] = []
    code = 0
    for name in zoo.names():
        try:
            listed.append(_facts(zoo, name))
        except ModelError as error:
            message, code = describe(error)
            click.echo(f"codec: {message}", err=True)
            listed.append({"name": name, "error": message})
    if json:
        click.echo(json_text({"models": listed}), nl=False)
    elif not listed:
        click.echo("no models are installed; `codec models add PATH` adds one")
    else:
        click.echo("\n\n".join(_text(facts) for facts in listed if "error" not in facts))
    ctx.exit(code)


@command.command("verify", epilog=options.examples("codec models verify", "codec models verify photo-1"))
@click.argument("names", metavar="[NAMES]...", nargs=-1, shell_complete=options.complete_model)
@options.models_dir
@options.json_output
@click.pass_context
def verify_models(ctx: click.Context, names: tuple[str, ...], models_dir: Path | None, json: bool) -> None:
    """Recompute the checksums of all models, or of those named.

    A model may lack its weights.npz, which training from it and efforts 7 to 9 need: packages leave those of
    older models out. That is said, and is no error.
    """
    from codec_cli.errors import ModelError
    from codec_cli.report import describe, json_text

    zoo = _zoo(ctx, models_dir)
    json = json or ctx.obj["json"]
    found: list[dict[str, Any]] = []
    code = 0
    for name in names or zoo.names():
        message, state = None, "ok"
        try:
            info = zoo.info(name)
            info.verify()
            if info.lacks_weights:
                state = "ok, without weights.npz"
        except ModelError as error:
            message, code = describe(error)
            state = "FAILED"
            click.echo(f"codec: {message}", err=True)
        found.append({"name": name, "ok": message is None, "error": message})
        if not json:
            click.echo(f"{name}: {state}")
    if json:
        click.echo(json_text({"models": found}), nl=False)
    ctx.exit(code)


@command.command("add", epilog=options.examples("codec models add ~/models/my-model-1"))
@click.argument("path", type=click.Path(readable=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace a model of the same name. [default: refuse]")
def add_model(path: Path, force: bool) -> None:
    """Check a model folder and copy it into the user's models directory.

    Files that were compressed with a replaced model can no longer be decompressed: better give new models
    new names (my-model-1, my-model-2).
    """
    from codec_cli.zoo import Zoo

    info = Zoo().add(path, force)
    click.echo(f"{info.name} -> {info.path}")


@command.command("path", epilog=options.examples("codec models path", "ls $(codec models path photo)"))
@click.argument("name", required=False, shell_complete=options.complete_model)
@options.models_dir
@click.pass_context
def model_path(ctx: click.Context, name: str | None, models_dir: Path | None) -> None:
    """Print the folder of a model, or without NAME the directories that are searched, in order."""
    zoo = _zoo(ctx, models_dir)
    for path in zoo.directories if name is None else [zoo.info(name).path]:
        click.echo(path)


def _zoo(ctx: click.Context, models_dir: Path | None) -> Zoo:
    """The zoo for a subcommand: its own ``--models-dir``, else the group's, which knows the variable."""
    from codec_cli.zoo import Zoo

    own = ctx.get_parameter_source("models_dir") is ParameterSource.COMMANDLINE
    return Zoo(models_dir if own else ctx.obj["models_dir"])


def _facts(zoo: Zoo, name: str) -> dict[str, Any]:
    """What there is to say about a model, for ``--json``."""
    from codec_cli.errors import ModelError

    info = zoo.info(name)
    alias: str | None = name.rpartition("-")[0]
    try:
        if not alias or zoo.info(alias).name != name:
            alias = None  # A newer one has it.
    except ModelError:
        alias = None
    return {
        "name": name,
        "alias": alias,
        "kind": info.kind,
        "levels": info.levels,
        "default_quality": info.default_quality,
        "bytes": info.size_bytes(),
        "fingerprint": info.fingerprint.hex(),
        "path": str(info.path),
        "card": _card(info),
    }


def _text(facts: Mapping[str, Any]) -> str:
    """The same facts for people."""
    from codec_cli.report import one_line, size_text

    title = facts["name"] + (f" (also: {facts['alias']})" if facts["alias"] else "")
    lines = {
        "kind": facts["kind"],
        "levels": f"{facts['levels']}, default quality {facts['default_quality']}",
        "size": size_text(facts["bytes"]),
        "fingerprint": facts["fingerprint"],
        "path": facts["path"],
        **dict(_flat(facts["card"])),
    }
    return "\n".join([title, *(f"  {name:<12} {one_line(str(text))}" for name, text in lines.items())])


def _card(info: ModelInfo) -> dict[str, Any]:
    """What the export measured and recorded, in short; the whole is the folder's README.md."""
    facts = info.facts
    card = dict(facts["card"]) if isinstance(facts.get("card"), Mapping) else {}
    rows = facts.get("validation")
    if isinstance(rows, list) and len(rows) == info.levels:
        low, usual, high = rows[0], rows[int(facts["default_level"])], rows[-1]
        card["measured"] = "; ".join(
            f"quality {info.quality_of_level(row['level'])}: "
            f"{row['bpp']:.2f} bpp, {row['psnr_rgb_db']:.1f} dB"
            for row in (low, usual, high)
        )
    training = facts.get("training")
    if isinstance(training, Mapping):
        card["trained"] = {name: training[name] for name in ("data", "steps", "hardware") if name in training}
    return card


def _flat(card: Any, prefix: str = "") -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON
    """The facts of a model's card, one by one: nested names joined, short lists on one line."""
    if isinstance(card, Mapping):
        for name, value in card.items():
            yield from _flat(value, f"{prefix} {name}".strip().replace("_", " "))
    elif isinstance(card, list):
        if not any(isinstance(value, (list, Mapping)) for value in card):
            yield prefix, ", ".join(map(str, card))  # Tables are for --json.
    elif card is not None:
        yield prefix, str(card)
