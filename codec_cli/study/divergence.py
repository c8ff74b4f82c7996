"""How far reconstructions lie from originals as a set: t-SNE of both together, and a distance by digit.

References:
    L. van der Maaten, G. Hinton, "Visualizing data using t-SNE", JMLR 9, 2008.

    G. J. Székely, M. L. Rizzo, "Energy statistics: a class of statistics based on distances", Journal of
    Statistical Planning and Inference 143(8), 2013 (section 7: the coefficient of inhomogeneity).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["energy", "plane"]

Points = npt.NDArray[np.float64]


def plane(originals: Points, decoded: Points, seed: int) -> tuple[Points, Points]:
    """t-SNE of originals and reconstructions together.

    Args:
        originals: (n, pixels).
        decoded: The same shape.
        seed: Of the layout.

    Returns:
        Their places in the plane, each (n, 2).
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    both = np.concatenate([originals, decoded]).astype(np.float32)
    # Perplexity is about the number of neighbours; it must be less than a third of the points.
    layout = TSNE(perplexity=min(30.0, len(both) / 4), init="pca", random_state=seed)
    # OpenMP's threads wait for each other busily at each of a thousand steps: where other programs want the
    # cores too, two take many times as long as one.
    with threadpool_limits(1):
        places = np.asarray(layout.fit_transform(both), np.float64)
    return places[: len(originals)], places[len(originals) :]


def energy(a: Points, b: Points) -> float:
    """The energy coefficient of two samples: 0 where they are alike in distribution, at most 1.

    It is the energy distance ``2 E|a-b| - E|a-a'| - E|b-b'|`` over ``2 E|a-b|``.

    Args:
        a: (n, dimensions).
        b: (m, dimensions).
    """
    from scipy.spatial.distance import cdist

    between = 2 * float(cdist(a, b).mean())
    within = float(cdist(a, a).mean()) + float(cdist(b, b).mean())
    return max(0.0, between - within) / between if between else 0.0
