"""The autoencoder as a whole: initial parameters, and the rate-distortion loss of a batch.

Symbols and levels: a batch holds every quality level equally often. Image ``i`` is coded at level
``i % levels``, so that the prior of batch shape (levels, channels) is evaluated exactly once per symbol.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from codec_cli.training import layers, losses, networks, prior, start
from codec_cli.training.checkpoint import DISTORTION_WEIGHT
from codec_cli.training.config import Config, Convolutional, Transforms
from codec_cli.training.networks import Arrays, Params

# Of large pictures, what a fresh start is fitted to.
_CROPS = 32


def block_pca(
    patches: npt.NDArray[np.uint8], stride: int, components: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """PCA of square image blocks, about mid-grey.

    Args:
        patches: uint8 (n, height, width, channels), at least ``stride`` wide.
        stride: Block size.
        components: Number of components to keep.

    Returns:
        Orthonormal columns (channels * stride^2, components) in the channel order of
        ``space_to_depth``, by falling variance; and the standard deviation of each, for pixels in [0, 1].
    """
    n, height, width, channels = patches.shape
    rows, columns = height // stride, width // stride
    blocks = patches[:, : rows * stride, : columns * stride].reshape(
        n, rows, stride, columns, stride, channels
    )
    flat = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(-1, stride * stride * channels)
    data = flat.astype(np.float32) / 255 - 0.5
    # Second moment, not covariance: the linear path has no bias, so the mean is a component like any other.
    moment = (data.T @ data).astype(np.float64) / len(data)
    values, vectors = np.linalg.eigh(moment)
    order = np.argsort(values)[::-1][:components]
    deviation = np.sqrt(np.maximum(values[order], 0))
    return vectors[:, order].astype(np.float32), deviation.astype(np.float32)


def init_params(config: Config, patches: npt.NDArray[np.uint8]) -> Arrays:
    """All initial parameters of a configuration, from a sample of training patches.

    The initial gain is the high-rate optimum of a uniform quantiser in an orthonormal transform:
    bits + lambda * step^2 / 36 is least at step = sqrt(26 / lambda) on the scale [0, 255].
    """
    rng = np.random.default_rng(config.seed)
    transforms, lambdas = config.transforms, np.asarray(config.levels.lambdas)
    gain = 255 / np.sqrt(26 / lambdas)
    # 26 holds for three channels sharing one pixel's bits; fewer channels weigh distortion more per value.
    gain = gain * np.sqrt(3 / transforms.channels)
    if isinstance(transforms, Transforms):
        basis, deviation = block_pca(patches, transforms.stride, transforms.latent_channels)
        params = networks.init_transforms(transforms, len(gain), basis, rng)
    else:
        params = layers.init_transforms(transforms, rng)
        side = config.data.crop
        sample = patches[:, :side, :side]
        if isinstance(transforms, Convolutional):
            # A small image has a latent or a few of each channel, a photograph's crop hundreds.
            sample = sample[:_CROPS]
            start.linear(params, transforms, sample)
        deviation = networks.deviations(params, transforms, sample)
    log_gain = np.repeat(np.log(gain)[:, None], transforms.latent_channels, 1)
    if config.entropy.kind == "none":
        return params
    if config.labels is not None:
        # The same symbols at every level.
        log_gain[:, : config.labels.bits] = 0
    params["gain/forward"] = log_gain.astype(np.float32)
    params["gain/inverse"] = (-log_gain).astype(np.float32)
    scales = (np.exp(log_gain) * deviation[None, :]).astype(np.float32)
    if config.entropy.kind == "context":
        from codec_cli.training import context

        params.update(context.init_context(config, scales, rng))
    else:
        params.update(prior.init_prior(scales, config.entropy, rng))
    return params


def level_weights(config: Config) -> npt.NDArray[np.float32]:
    """Weight of each trained level in the loss, mean 1."""
    weights = np.asarray(config.levels.lambdas) ** -config.levels.weight_power
    return (weights / weights.mean()).astype(np.float32)


def forward(
    params: Params,
    config: Config,
    images: tf.Tensor,
    noise: tf.Tensor | None,
    hard: tf.Tensor | float,
    dtype: tf.DType = tf.float32,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Rate-distortion loss of a batch.

    Args:
        params: All parameters by name.
        config: The configuration.
        images: uint8 (batch, height, width, channels); batch a multiple of the number of levels.
        noise: float32 (batch, height / stride, width / stride, latent_channels), uniform in [-0.5, 0.5);
            None evaluates rates of rounded symbols, for validation. With ``run.rdoq`` rates are those of the
            symbols that the encoder would choose, noise or not.
        hard: float32 scalar; 0 gives the synthesis noisy latents, 1 rounded ones; likewise.
        dtype: Precision of the convolutional branches.

    Returns:
        The scalar loss, and metrics: ``bpp``, ``mse`` (on [0, 255]) and ``loss`` per level, each float32
        (levels,).
    """
    original, decoded, bpp = transmit(params, config, images, noise, hard, dtype)
    return rate_distortion(config, original, decoded, bpp, dtype)


def transmit(
    params: Params,
    config: Config,
    images: tf.Tensor,
    noise: tf.Tensor | None,
    hard: tf.Tensor | float,
    dtype: tf.DType = tf.float32,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """A batch through both transforms.

    Args:
        params: All parameters by name.
        config: The configuration.
        images: As for :func:`forward`.
        noise: As for :func:`forward`.
        hard: As for :func:`forward`.
        dtype: Precision of the convolutional branches.

    Returns:
        Originals and decoded images, float32 (batch, height, width, channels), nominally in [0, 1]; bits per
        pixel, float32 (levels,).
    """
    levels = len(config.levels.lambdas)
    original = tf.cast(images, tf.float32) / 255.0
    latents = networks.analysis(params, config.transforms, original, dtype)
    batch, height, width, channels = latents.shape
    if config.entropy.kind == "none":
        decoded = _decode(params, config, latents, dtype)
        return original, decoded, tf.zeros(levels)
    shape = (batch // levels, levels, height, width, channels)
    scaled = tf.reshape(latents, shape) * tf.exp(params["gain/forward"])[:, None, None, :]
    if config.run.rdoq:
        from codec_cli.training import context

        worth = params[DISTORTION_WEIGHT] * (1 / config.run.rdoq)
        received, rate = context.optimised(params, config, scaled, worth)
    else:
        rounded = scaled + tf.stop_gradient(tf.round(scaled) - scaled)
        noisy = rounded if noise is None else scaled + tf.reshape(noise, shape)
        rate = rate_bits(params, config, noisy, rounded)
        received = noisy + hard * (rounded - noisy)
    restored = received * tf.exp(params["gain/inverse"])[:, None, None, :]
    decoded = _decode(params, config, tf.reshape(restored, (batch, height, width, channels)), dtype)
    pixels = float(height * width * config.transforms.stride**2)
    return original, decoded, tf.reduce_mean(rate, 0) / pixels


def label_loss(
    params: Params, config: Config, images: tf.Tensor, labels: tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """How far the first channels' symbols are from the images' labels.

    Args:
        params: All parameters by name.
        config: The configuration, with ``labels``.
        images: As for :func:`forward`.
        labels: float32 (batch, labels.bits), 0 or 1.
        dtype: Precision of the convolutional branches.

    Returns:
        Scalar: the squared error, summed over channels, mean over images.
    """
    levels, bits = len(config.levels.lambdas), labels.shape[1]
    latents = networks.analysis(params, config.transforms, tf.cast(images, tf.float32) / 255.0, dtype)
    gain = tf.tile(tf.exp(params["gain/forward"][:, :bits]), (latents.shape[0] // levels, 1))
    symbols = latents[:, 0, 0, :bits] * gain
    return tf.reduce_mean(tf.reduce_sum(tf.square(symbols - labels), 1))


def reconstruct(
    params: Params, config: Config, images: npt.NDArray[np.uint8] | tf.Tensor, level: int
) -> tf.Tensor:
    """Images as they come back at a trained level, latents rounded as in use.

    Args:
        params: All parameters by name.
        config: The configuration.
        images: uint8 (batch, height, width, channels), any batch.
        level: Index of a trained level.

    Returns:
        float32 (batch, height, width, channels), nominally in [0, 1], not clipped.
    """
    latents = networks.analysis(params, config.transforms, tf.cast(images, tf.float32) / 255.0)
    if config.entropy.kind != "none":
        symbols = tf.round(latents * tf.exp(params["gain/forward"][level]))
        latents = symbols * tf.exp(params["gain/inverse"][level])
    weights = tf.one_hot([level] * latents.shape[0], len(config.levels.lambdas))
    return networks.synthesis(params, config.transforms, latents, weights)


def _decode(params: Params, config: Config, latents: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Images of a batch that holds every level in turn."""
    levels = len(config.levels.lambdas)
    weights = tf.tile(tf.eye(levels), (latents.shape[0] // levels, 1))
    return networks.synthesis(params, config.transforms, latents, weights, dtype)


def rate_distortion(
    config: Config, original: tf.Tensor, decoded: tf.Tensor, bpp: tf.Tensor, dtype: tf.DType
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """The scalar loss and the metrics of :func:`forward`, from what :func:`transmit` gives."""
    levels = len(config.levels.lambdas)
    distortion = tf.reduce_mean(
        tf.reshape(losses.distortion(config, original, decoded, dtype), (-1, levels)), 0
    )
    lambdas = tf.constant(config.levels.lambdas, tf.float32)
    per_level = bpp + lambdas * distortion
    mse = tf.reduce_mean(
        tf.reshape(tf.reduce_mean(tf.square((original - decoded) * 255.0), (1, 2, 3)), (-1, levels)), 0
    )
    loss = tf.reduce_mean(per_level * tf.constant(level_weights(config)))
    return loss, {"bpp": bpp, "mse": mse, "loss": per_level}


def rate_bits(params: Params, config: Config, noisy: tf.Tensor, rounded: tf.Tensor) -> tf.Tensor:
    """Bits of each image under the configured entropy model.

    Args:
        params: All parameters by name.
        config: The configuration.
        noisy: float32 (batch / levels, levels, height, width, channels), with uniform noise.
        rounded: The same shape, rounded with a straight-through gradient: what contexts see.

    Returns:
        float32 (batch / levels, levels).
    """
    levels = len(config.levels.lambdas)
    if config.entropy.kind == "context":
        from codec_cli.training import context

        return context.rate_bits(params, config, noisy, rounded)
    density = prior.build_prior(params, (levels, config.transforms.latent_channels), config.entropy)
    return tf.reduce_sum(prior.bits(density, noisy), (1, 2, 4))
