"""Equal sizes: the setting at which another codec's file comes nearest to a given number of bytes.

Pictures of two codecs say something about the codecs only if their files are equally large. Settings are
whole numbers, so sizes are matched as nearly as the scale allows; the reader is to be told what is left over.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["SizeSearch"]


class SizeSearch:
    """Looks for sizes on one codec's scale, for one image. What was encoded once is not encoded again.

    Args:
        encode: Gives the file at a setting.
        scale: Every setting, rising in rate. Sizes may wiggle or stand still between neighbours.

    Raises:
        ValueError: The scale is empty.
    """

    def __init__(self, encode: Callable[[int], bytes], scale: range) -> None:
        if not scale:
            raise ValueError("a codec without settings")
        self._encode = encode
        self._scale = scale
        self._files: dict[int, bytes] = {}

    @property
    def encodes(self) -> int:
        """How many files have been made."""
        return len(self._files)

    def nearest(self, size: int) -> tuple[int, bytes]:
        """Finds the setting whose file is nearest in size.

        Closes in from both sides until two neighbours are left, one at most as large as wanted and one
        larger: by interpolating the logarithm of the size, which is nearly straight over most scales, and by
        halving where that gets on too slowly. The nearest of all files made so far is taken, which can be
        another one than either neighbour where sizes wiggle. At equal distance the larger wins: a doubt is
        the other codec's gain.

        Args:
            size: Wanted, in bytes.

        Returns:
            The setting and its file.
        """
        low, high = self._between(size)
        is_slow = False
        while high - low > 1:
            place = (low + high) // 2 if is_slow else self._guess(low, high, size)
            before = high - low
            if len(self._file(place)) <= size:
                low = place
            else:
                high = place
            is_slow = not is_slow and high - low > before / 2
        place = min(self._files, key=lambda at: (abs(len(self._files[at]) - size), -len(self._files[at]), at))
        return self._scale[place], self._files[place]

    def _between(self, size: int) -> tuple[int, int]:
        """The nearest places known, at most as large as wanted and larger; just outside where none is."""
        low = max((place for place, file in self._files.items() if len(file) <= size), default=-1)
        larger = (place for place, file in self._files.items() if place > low and len(file) > size)
        return low, min(larger, default=len(self._scale))

    def _guess(self, low: int, high: int, size: int) -> int:
        """A place strictly between two, where the wanted size may be."""
        if low not in self._files or high not in self._files:
            return (low + high) // 2
        lower, upper, wanted = (
            math.log(max(1, count)) for count in (len(self._files[low]), len(self._files[high]), size)
        )
        part = (wanted - lower) / (upper - lower) if upper > lower else 0.5
        return min(max(low + round(part * (high - low)), low + 1), high - 1)

    def _file(self, place: int) -> bytes:
        if place not in self._files:
            self._files[place] = self._encode(self._scale[place])
        return self._files[place]
