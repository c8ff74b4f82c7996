"""Parameters as flat dictionaries by name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Params = dict[str, tf.Tensor]
Arrays = dict[str, npt.NDArray[np.float32]]
