"""A small classifier of digits: the judge of generated ones. Its confidence is calibrated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

__all__ = ["Judge", "train_judge"]

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Judge:
    """A trained classifier.

    Attributes:
        network: Images in [0, 1] to logits.
        temperature: Logits are divided by it: the maximum of likelihood on held-out images, which makes
            confidences true frequencies (Guo et al. 2017, arXiv:1706.04599).
        accuracy: Share of right answers on the test images.
    """

    network: tf.keras.Model
    temperature: float
    accuracy: float

    def __call__(self, images: Images) -> npt.NDArray[np.float32]:
        """Probabilities, float32 (n, classes), of uint8 images (n, height, width, channels)."""
        logits = self.network.predict(images.astype(np.float32) / 255, batch_size=500, verbose=0)
        return np.asarray(tf.nn.softmax(logits / self.temperature))


def train_judge(
    images: Images,
    labels: npt.NDArray[np.int64],
    test_images: Images,
    test_labels: npt.NDArray[np.int64],
    *,
    epochs: int = 6,
    seed: int = 1,
) -> Judge:
    """Trains a network of two convolutions; the last twelfth of the training images calibrates it.

    Args:
        images: Training images, uint8 (n, height, width, channels).
        labels: Their classes.
        test_images: For the accuracy alone.
        test_labels: Their classes.
        epochs: Passes over the training images.
        seed: Of weights and order.
    """
    tf.keras.utils.set_random_seed(seed)
    held = max(1, len(images) // 12)
    classes = int(labels.max()) + 1
    network = tf.keras.Sequential(
        [
            tf.keras.layers.Input(images.shape[1:]),
            tf.keras.layers.Conv2D(32, 3, activation="relu"),
            tf.keras.layers.MaxPool2D(),
            tf.keras.layers.Conv2D(64, 3, activation="relu"),
            tf.keras.layers.MaxPool2D(),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dropout(0.4),
            tf.keras.layers.Dense(128, activation="relu"),
            tf.keras.layers.Dense(classes),
        ]
    )
    steps = max(1, epochs * (len(images) - held) // 128)
    network.compile(
        tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    scaled = images.astype(np.float32) / 255
    network.fit(scaled[:-held], labels[:-held], batch_size=128, epochs=epochs, verbose=0)
    logits = network.predict(scaled[-held:], batch_size=500, verbose=0)
    temperatures = np.exp(np.linspace(-1.5, 1.5, 61))
    losses = [
        float(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels[-held:], logits / t)))
        for t in temperatures
    ]
    judge = Judge(network, float(temperatures[int(np.argmin(losses))]), 0.0)
    right = judge(test_images).argmax(1) == test_labels
    return Judge(network, judge.temperature, float(right.mean()))
