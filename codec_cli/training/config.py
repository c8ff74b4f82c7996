"""The training configuration: a JSON file, validated, every field overridable with ``--set``."""

from __future__ import annotations

import json
import math
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from codec_cli.errors import TrainingError
from codec_cli.training.shapes import Shape, output_shape, reach, whole_side

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stage(_Section):
    """One resolution of a transform.

    Attributes:
        stride: Resolution step into this stage, from the image outwards (2 halves width and height).
        width: Channels of the residual blocks.
        blocks: Number of residual blocks of two 3x3 convolutions.
    """

    stride: Annotated[int, Field(ge=2)]
    width: PositiveInt
    blocks: Annotated[int, Field(ge=0)]


class Transforms(_Section):
    """The photo model's transforms; both list their stages from fine to coarse resolution.

    See :mod:`codec_cli.training.networks`.
    """

    kind: Literal["stages"] = "stages"
    channels: Literal[1, 3] = 3
    latent_channels: PositiveInt = 320
    analysis: Annotated[list[Stage], Field(min_length=1)]
    synthesis: Annotated[list[Stage], Field(min_length=1)]
    slope: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @property
    def stride(self) -> int:
        """Pixels per latent position along one axis."""
        return math.prod(stage.stride for stage in self.analysis)

    @model_validator(mode="after")
    def _strides_agree(self) -> Transforms:
        if self.stride != math.prod(stage.stride for stage in self.synthesis):
            raise ValueError("analysis and synthesis must have the same total stride")
        if self.latent_channels > self.channels * self.stride**2:
            raise ValueError("latent_channels can't exceed channels * stride^2 (the linear path)")
        if any(stage.width % 2 for stage in self.synthesis[1:]):
            raise ValueError("synthesis widths must be even but for the first: going up halves them")
        return self


class Layer(_Section):
    """One layer of a transform that is listed layer by layer; see :mod:`codec_cli.training.layers`.

    Attributes:
        op: ``conv``, ``conv_transpose``, ``dense``, ``flatten``, ``reshape``, ``upsample`` (by repetition),
            ``space_to_depth``, ``subpixel`` (a convolution and ``depth_to_space``), ``residual`` (input plus
            ``layers``), ``gdn`` and ``igdn`` (:mod:`codec_cli.training.gdn`) or ``attention`` (input times
            the sigmoid of a convolution).
        filters: Output channels, or units of a dense layer.
        kernel: Side of a convolution's kernel.
        stride: Of a convolution.
        factor: By which resolution changes.
        shape: What ``reshape`` makes.
        layers: Inside ``residual``.
        activation: After the layer.
        gain: Factor of the initial weights.
    """

    op: Literal[
        "attention", "conv", "conv_transpose", "dense", "flatten", "gdn", "igdn", "reshape", "residual",
        "space_to_depth", "subpixel", "upsample",
    ]  # fmt: skip
    filters: Annotated[int, Field(ge=0)] = 0
    kernel: PositiveInt = 3
    stride: PositiveInt = 1
    factor: Annotated[int, Field(ge=2)] = 2
    shape: list[PositiveInt] = []
    layers: list[Layer] = []
    activation: Literal["none", "relu", "leaky_relu", "prelu", "sigmoid", "tanh"] = "none"
    gain: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _complete(self) -> Layer:
        if self.op in ("conv", "conv_transpose", "dense", "subpixel") and not self.filters:
            raise ValueError(f"{self.op} needs `filters`")
        if self.op == "reshape" and not self.shape:
            raise ValueError("reshape needs `shape`")
        if self.op == "residual" and not self.layers:
            raise ValueError("residual needs `layers`")
        return self

    def shortcut(self, channels: int) -> Layer | None:
        """What a ``residual`` adds to its layers' output in place of an input that has another shape.

        Args:
            channels: Of the input.

        Returns:
            A convolution over as many pixels as become one, or one that makes several of each; None where
            the input itself can be added.

        Raises:
            ValueError: The layers do not fit, or change resolution by no whole factor.
        """
        side = whole_side(self.layers)
        rows, _, filters = output_shape(self.layers, "layers", (side, side, channels))
        if max(rows, side) % min(rows, side):
            raise ValueError(f"the layers inside change {side}x{side} to {rows}x{rows}: no whole factor")
        gain = math.sqrt(0.5)
        if rows > side:
            return Layer(op="subpixel", filters=filters, kernel=1, factor=rows // side, gain=gain)
        if rows < side or filters != channels:
            step = side // rows
            return Layer(op="conv", filters=filters, kernel=step, stride=step, gain=gain)
        return None


class _ByLayers(_Section):
    """Transforms that are listed layer by layer."""

    channels: Literal[1, 3] = 1
    analysis: Annotated[list[Layer], Field(min_length=1)]
    synthesis: Annotated[list[Layer], Field(min_length=1)]
    slope: Annotated[float, Field(ge=0, lt=1)] = 0.2

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image that fits."""
        raise NotImplementedError

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Height and width in positions, and channels, of an image's latents."""
        shape = self._shapes[0]
        return (1, 1, shape[0]) if len(shape) == 1 else (shape[0], shape[1], shape[2])

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.latent_shape[2]

    @property
    def stride(self) -> int:
        """Pixels per latent position along one axis."""
        return self.image_shape[0] // self.latent_shape[0]

    def _check_ops(self) -> None:
        """Raises ValueError for a layer that has no place here."""

    @cached_property
    def _shapes(self) -> tuple[Shape, Shape]:
        latent = output_shape(self.analysis, "analysis", self.image_shape)
        return latent, output_shape(self.synthesis, "synthesis", latent)

    @model_validator(mode="after")
    def _fits(self) -> _ByLayers:
        self._check_ops()
        rows, columns, _ = self.latent_shape
        if rows != columns or self.image_shape[0] % rows:
            raise ValueError(f"the analysis gives {rows}x{columns} positions, which do not divide the image")
        if self._shapes[1] != self.image_shape:
            raise ValueError(f"the synthesis gives {self._shapes[1]}, not an image of {self.image_shape}")
        return self


class Listed(_ByLayers):
    """Transforms for images of one size, listed layer by layer.

    The latents are whatever the analysis ends with; a vector counts as one position of many channels.

    Attributes:
        channels: Of the images.
        size: Their height and width.
        analysis: Image (size, size, channels) in [-0.5, 0.5] to latents.
        synthesis: Latents to image.
        slope: Of leaky rectifiers below zero.
    """

    kind: Literal["layers"]
    size: PositiveInt

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return (self.size, self.size, self.channels)


_ANYWHERE = frozenset({"attention", "conv", "gdn", "igdn", "residual", "space_to_depth", "subpixel"})


def _ops(layers: list[Layer]) -> set[str]:
    return {layer.op for layer in layers}.union(*(_ops(layer.layers) for layer in layers))


class Convolutional(_ByLayers):
    """Transforms for images of any size, listed layer by layer; see ``configs/residual-attention.json``.

    Only layers that do the same at every position are allowed: a picture is coded in tiles.

    Attributes:
        channels: Of the images.
        analysis: Image (height, width, channels) in [-0.5, 0.5] to latents.
        synthesis: Latents to image.
        slope: Of leaky rectifiers below zero.
    """

    kind: Literal["convolutional"]
    channels: Literal[1, 3] = 3

    def _check_ops(self) -> None:
        for name, layers in (("analysis", self.analysis), ("synthesis", self.synthesis)):
            if others := sorted(_ops(layers) - _ANYWHERE):
                allowed = ", ".join(sorted(_ANYWHERE))
                raise ValueError(f"{name}: {others[0]} is for images of one size; here are {allowed}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the smallest image of whole positions."""
        side = whole_side(self.analysis)
        return (side, side, self.channels)

    @property
    def halo(self) -> tuple[int, int]:
        """Latent positions on each side that one output of (analysis, synthesis) can depend on."""
        stride = self.stride
        first, last = reach(self.analysis, 0, 0)
        low, high = reach(self.synthesis, 0, stride - 1)
        return max(-(first // stride), last // stride), max(-low, high)


AnyTransforms = Transforms | Listed | Convolutional


class Context(_Section):
    """The integer context model (``entropy.kind = "context"``).

    Attributes:
        groups: Channels of each group, coded in this order; must sum to ``latent_channels``.
        hidden: Width of the two hidden layers of each pass's network.
    """

    groups: list[PositiveInt] = [4, 12, 16, 32, 64, 192]
    hidden: PositiveInt = 128


class Entropy(_Section):
    """The entropy model: a factorized prior per level, passes with contexts, or none.

    Attributes:
        kind: With ``none`` latents are neither rounded nor rated: a plain autoencoder, which can't become a
            model of the codec.
        prior: Family of the factorized prior's densities: learned cumulatives (Ballé et al. 2018,
            arXiv:1802.01436), or one normal or logistic per channel.
        filters: Hidden layer widths of the learned cumulatives.
        context: Of the context model.
    """

    kind: Literal["factorized", "context", "none"] = "factorized"
    prior: Literal["deep", "normal", "logistic"] = "deep"
    filters: list[PositiveInt] = [3, 3]
    context: Context = Context()


class Levels(_Section):
    """Quality levels trained together.

    Attributes:
        lambdas: Weight of the distortion (on [0, 255]) against bits per pixel, one per trained level.
        between: Interpolated levels between two trained ones.
        weight_power: A level's share of the loss is ``lambda ** -weight_power`` (0.5 gives equal
            relative weight to low and high rates).
    """

    lambdas: list[PositiveFloat]
    between: Annotated[int, Field(ge=0)] = 5
    weight_power: Finite = 0.5

    @model_validator(mode="after")
    def _rising(self) -> Levels:
        if len(self.lambdas) < 1 or sorted(set(self.lambdas)) != self.lambdas:
            raise ValueError("lambdas must rise strictly")
        if self.usable > 255:
            raise ValueError("at most 255 usable levels fit the format")
        return self

    @property
    def usable(self) -> int:
        """Number of levels an exported model offers."""
        return (len(self.lambdas) - 1) * (self.between + 1) + 1


class Loss(_Section):
    """One term of the distortion.

    Attributes:
        name: A function of :mod:`codec_cli.training.losses`. Errors are on [0, 255]; similarities count as
            1 - x, so that MS-SSIM takes a weight of about 1333 where MSE takes 1.
        weight: Its factor.
        weights: ``lpips``: the file with its network's weights; the environment's ``CODEC_LPIPS_WEIGHTS`` by
            default.
    """

    name: Literal["mse", "mae", "ssim", "ms_ssim", "lpips"] = "mse"
    weight: PositiveFloat = 1.0
    weights: str | None = None

    @property
    def smallest(self) -> int:
        """The smallest crop that it is defined for, in pixels."""
        return {"ssim": 11, "ms_ssim": 176, "lpips": 64}.get(self.name, 1)

    @model_validator(mode="after")
    def _weights_are_of_lpips(self) -> Loss:
        if self.weights is not None and self.name != "lpips":
            raise ValueError(f"the loss {self.name} has no network that takes weights")
        return self


class Optimizer(_Section):
    """Adam with warm-up, plateau and cosine decay, or with a cyclic learning rate.

    Attributes:
        decay_start: Fraction of the run after which the rate falls along a cosine.
        cycle_steps: Steps in which the rate rises evenly from ``final_learning_rate`` to ``learning_rate``
            and falls back, again and again, in place of plateau and decay; None for those.
        multipliers: Learning-rate factor for parameters whose name starts with the key.
        ema: Decay of the moving average of the weights that is exported.
    """

    learning_rate: PositiveFloat = 4e-4
    final_learning_rate: PositiveFloat = 4e-6
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    decay_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    cycle_steps: Annotated[int, Field(ge=2)] | None = None
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.98
    clip_norm: PositiveFloat = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    multipliers: dict[str, PositiveFloat] = {}


class Adversarial(_Section):
    """A discriminator that learns to tell decoded images from originals, and a loss for not fooling it.

    See :mod:`codec_cli.training.adversarial`. It has an optimiser of its own: Adam at a constant rate.

    Attributes:
        loss: ``non-saturating`` (Goodfellow et al. 2014) or ``hinge`` (Lim and Ye 2017).
        weight: Factor of the generator's term. It counts as one of the ``losses``: a level's lambda
            multiplies it too.
        layers: The discriminator, image (crop, crop, channels) in [-0.5, 0.5] to any map or vector, whose
            mean is the logit.
        slope: Of leaky rectifiers below zero.
        start: Fraction of the run after which it switches on, for both networks; 1 means never.
        r1: Weight of the gradient penalty on originals (Mescheder et al. 2018).
    """

    loss: Literal["non-saturating", "hinge"] = "non-saturating"
    weight: PositiveFloat = 1.0
    layers: Annotated[list[Layer], Field(min_length=1)]
    slope: Annotated[float, Field(ge=0, lt=1)] = 0.2
    learning_rate: PositiveFloat = 2e-4
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    start: Annotated[float, Field(ge=0, le=1)] = 0.0
    r1: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Labels(_Section):
    """Latent channels that say what an image shows, for images with labels, whose latent is a vector.

    The first channels hold the label in binary, 0 or 1 each, lowest bit first. Everything coded after them
    knows what is shown, so the conditional densities of one kind of image need not cover all.

    Attributes:
        bits: Number of these channels; each is a group of its own.
        weight: Of the squared error of their symbols, summed over them, in the loss (bits per pixel).
    """

    bits: Annotated[int, Field(ge=1, le=16)] = 4
    weight: PositiveFloat = 0.3

    def can_say(self, lowest: int, highest: int) -> bool:
        """Whether the channels can hold all labels of a range."""
        return lowest >= 0 and highest >> self.bits == 0


class Data(_Section):
    """Where images come from and how crops are drawn.

    Attributes:
        path: Directory of images, searched recursively; or an npz or idx file, or a directory of MNIST's.
        dataset: ``tfds:NAME`` instead of a path.
        data_dir: Where TensorFlow Datasets keeps its files.
        validation: Where validation images are; without it a source's own, or every 20th file of a
            directory, or the last images of an array.
        min_scale: Images are downscaled by a random factor from here to 1 before cropping.
        augment: Mirror and transpose crops at random; not for letters and digits.
        cache_patches: Decoded patches kept on disk, so that training does not decode images.
    """

    path: str | None = None
    dataset: str | None = None
    data_dir: str | None = None
    validation: str | None = None
    crop: PositiveInt = 256
    batch: PositiveInt = 8
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.5
    augment: bool = True
    cache_patches: PositiveInt = 3000


class Run(_Section):
    """Length and housekeeping of a run.

    Attributes:
        decoder_rounding: Fraction of the run after which the synthesis sees rounded latents
            (straight-through gradient) instead of noisy ones; 1 means never.
        rdoq: Strength of rate-distortion-optimised quantization (at 1 an error counts in full, below it
            counts more). Above 0, entropy model and synthesis learn from the symbols that the encoder would
            choose; the analysis stays as it is. For a context model that has its transforms (``--from``).
    """

    steps: PositiveInt = 20000
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    decoder_rounding: Annotated[float, Field(ge=0, le=1)] = 1.0
    checkpoint_minutes: PositiveFloat = 3.0
    validate_steps: PositiveInt = 1000
    validation_images: PositiveInt = 8
    jit: bool = False
    rdoq: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


def _kind(tree: Any) -> str:  # noqa: ANN401 - JSON, or an object already
    kind = tree.get("kind") if isinstance(tree, dict) else getattr(tree, "kind", None)
    # Anything else is for the validation of the usual kind to complain about.
    return kind if kind in ("layers", "convolutional") else "stages"


class Config(_Section):
    """A whole training configuration; see ``codec_cli/configs/photo.json``."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 1
    transforms: Annotated[
        Annotated[Transforms, Tag("stages")]
        | Annotated[Listed, Tag("layers")]
        | Annotated[Convolutional, Tag("convolutional")],
        Discriminator(_kind),
    ]
    entropy: Entropy = Entropy()
    levels: Levels
    losses: Annotated[list[Loss], Field(min_length=1)] = [Loss()]
    optimizer: Optimizer = Optimizer()
    adversarial: Adversarial | None = None
    labels: Labels | None = None
    data: Data = Data()
    run: Run = Run()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.data.batch % len(self.levels.lambdas):
            raise ValueError("data.batch must be a multiple of the number of levels: every batch holds all")
        for loss in self.losses:
            if self.data.crop < loss.smallest:
                raise ValueError(f"data.crop must be at least {loss.smallest} for the loss {loss.name}")
        if isinstance(self.transforms, Listed) and self.data.crop != self.transforms.size:
            raise ValueError(f"data.crop must be the transforms' size {self.transforms.size}")
        if self.data.crop % self.transforms.stride:
            raise ValueError(f"data.crop must be a multiple of the stride {self.transforms.stride}")
        if (
            self.entropy.kind == "context"
            and sum(self.entropy.context.groups) != self.transforms.latent_channels
        ):
            raise ValueError("entropy.context.groups must sum to transforms.latent_channels")
        if self.run.rdoq and self.entropy.kind != "context":
            raise ValueError("run.rdoq is for entropy.kind context")
        return self

    @model_validator(mode="after")
    def _discriminator_fits(self) -> Config:
        if self.adversarial is not None:
            image = (self.data.crop, self.data.crop, self.transforms.channels)
            output_shape(self.adversarial.layers, "adversarial.layers", image)
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> Config:
        if self.labels is not None:
            own = self.entropy.context.groups[: self.labels.bits] == [1] * self.labels.bits
            flat = isinstance(self.transforms, Listed) and self.transforms.latent_shape[:2] == (1, 1)
            if not flat or self.entropy.kind != "context" or not own:
                raise ValueError(
                    "labels is for transforms.kind layers whose latent is a vector, and for entropy.kind "
                    "context whose first labels.bits groups are of one channel"
                )
            if self.run.rdoq:
                raise ValueError("labels shape the analysis, which run.rdoq leaves as it is: set one of them")
        return self

    def to_json(self) -> str:
        """The configuration as JSON text that :func:`load_config` reads back."""
        return self.model_dump_json(indent=2) + "\n"


def config_names() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = resources.files("codec_cli") / "configs"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".json"))


def load_config(name_or_path: str, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Reads a configuration by name or path and applies overrides.

    Args:
        name_or_path: A packaged name such as ``photo``, or the path of a JSON file.
        overrides: ``section.field=value`` texts; a value is JSON, or else taken as a string.

    Returns:
        The validated configuration.

    Raises:
        TrainingError: The file is missing, is not JSON, or a field is wrong (the field is named).
    """
    if name_or_path in config_names():
        text = (resources.files("codec_cli") / "configs" / f"{name_or_path}.json").read_text("utf-8")
    else:
        try:
            text = Path(name_or_path).read_text(encoding="utf-8")
        except OSError as error:
            known = ", ".join(config_names())
            raise TrainingError(
                f"{name_or_path}: no such configuration ({error.strerror}); known names: {known}"
            ) from error
        except UnicodeDecodeError as error:
            raise TrainingError(f"{name_or_path}: not valid JSON: {error}") from error
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise TrainingError(f"{name_or_path}: not valid JSON: {error}") from error
    if not isinstance(tree, dict):
        raise TrainingError(f"{name_or_path}: not a configuration: expected a JSON object")
    for override in overrides:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        problems = "; ".join(
            f"{_place_name(item['loc']) or 'configuration'}: {item['msg']}" for item in error.errors()
        )
        raise TrainingError(f"{name_or_path}: {problems}") from error


def _place_name(place: tuple[int | str, ...]) -> str:
    """Where a problem is, without the kind of transforms that pydantic puts behind their name."""
    parts = [str(part) for part in place]
    if parts[:1] == ["transforms"] and parts[1:2] in (["stages"], ["layers"], ["convolutional"]):
        del parts[1]
    return ".".join(parts)


def _apply(tree: Any, override: str) -> None:  # noqa: ANN401 - a JSON tree
    key, equals, text = override.partition("=")
    if not equals:
        raise TrainingError(f"--set {override}: write it as section.field=value")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    *parents, leaf = key.split(".")
    node = tree
    for part in parents:
        node = node[_place(node, part, override)] if isinstance(node, list) else node.setdefault(part, {})
        if not isinstance(node, dict | list):
            raise TrainingError(f"--set {override}: {part} is not a section")
    if isinstance(node, list):
        node[_place(node, leaf, override)] = value
    else:
        node[leaf] = value


def _place(entries: list[Any], part: str, override: str) -> int:
    if not (part.isascii() and part.isdigit() and int(part) < len(entries)):
        raise TrainingError(f"--set {override}: {part} is no entry of a list of {len(entries)}")
    return int(part)
