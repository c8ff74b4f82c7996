"""Model folders as one run of bytes, so that a fuzzer can change them: ``model.json`` and ``tables.npz``."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from helpers import CONTEXT, MODELS

from codec_cli.zoo import DESCRIPTION, SYNTHESIS, TABLES, fingerprint

# The networks of every fuzzed model: of them, only the check sum is looked at.
FILES = json.loads((MODELS / CONTEXT / DESCRIPTION).read_text())["files"]
SYNTHESIS_BYTES = (MODELS / CONTEXT / SYNTHESIS).read_bytes()

MAGIC = b"\xc0\xd0"  # Of nothing that is ever written.
# Numbers and shapes that someone could hope to get past a check with.
HOSTILE: tuple[Any, ...] = (
    *(None, True, "7", "", [7], {}, 7.5, -1, 0, 1, 2, 3, 16, 64, 255, 256, 1 << 16, 1 << 40, 10**30),
    *(float("inf"), float("nan"), "\0", "../x", [[[[]]]], "context", "factorized", [4, 20], [24], [1] * 24),
)


def is_model(data: bytes) -> bool:
    """Whether bytes are what :func:`joined` makes."""
    return data.startswith(MAGIC)


def joined(description: bytes, tables: bytes) -> bytes:
    """The two files as one."""
    return MAGIC + len(description).to_bytes(4, "little") + description + tables


def parted(data: bytes) -> tuple[bytes, bytes]:
    """The opposite of :func:`joined`, of any bytes."""
    end = 6 + int.from_bytes(data[2:6], "little")
    return data[6:end], data[end:]


def seed(folder: Path) -> bytes:
    """A model folder for the corpus, without what reading it does not look at."""
    facts = json.loads((folder / DESCRIPTION).read_text())
    for name in ("config", "training"):
        facts.pop(name, None)
    facts["files"] = dict(FILES)
    tables = (folder / TABLES).read_bytes()
    return joined(_refreshed(json.dumps(facts).encode(), tables), tables)


def mutate_model(data: bytes, rng: random.Random, mutate: Callable[[bytes, int], bytes], limit: int) -> bytes:
    """Changes a description or tables; check sum and fingerprint are made right, as their author could."""
    description, tables = parted(data)
    luck = rng.random()
    if luck < 0.05:
        description = mutate(description, limit)
    elif luck < 0.4:
        description = _changed_json(description, rng)
    elif luck < 0.5:
        tables = mutate(tables, limit)
    else:
        tables = _changed_tables(tables, rng, mutate, limit)
    if rng.random() < 0.95:
        description = _refreshed(description, tables)
    return joined(description, tables)[:limit]


def _changed_json(description: bytes, rng: random.Random) -> bytes:
    try:
        facts = json.loads(description)
        owner = facts
        while True:
            keys = list(owner) if isinstance(owner, dict) else list(range(len(owner)))
            key = rng.choice(keys)
            inner = owner[key]
            if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.3:
                break
            owner = inner
        if rng.random() < 0.1:
            del owner[key]
        else:
            owner[key] = rng.choice((*HOSTILE, facts))
        return json.dumps(facts).encode()
    except (ValueError, TypeError, IndexError, RecursionError):
        return description


def _changed_tables(
    tables: bytes, rng: random.Random, mutate: Callable[[bytes, int], bytes], limit: int
) -> bytes:
    """An npz with an array changed, resized, renamed or gone."""
    try:
        with zipfile.ZipFile(io.BytesIO(tables)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = rng.choice(list(members))
        content = members[name]
        what = rng.randrange(8)
        if what == 0:
            del members[name]
        elif what == 1:
            members[rng.choice(list(members))] = content
        elif what == 2:
            members[name] = mutate(content, limit)
        elif what == 3:  # The header: shape and type.
            head = mutate(content[10:128], 118).ljust(118)
            members[name] = content[:10] + head + content[128:]
        else:
            array = np.load(io.BytesIO(content), allow_pickle=False)
            members[name] = _saved(_changed_array(array, rng))
    except Exception:  # Whatever is wrong with it: it was changed before.
        return mutate(tables, limit)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=archive.compression)
    return out.getvalue()


def _changed_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    what = rng.randrange(6)
    if what == 0:
        return array[: rng.randrange(array.shape[0] + 1)] if array.ndim else array
    if what == 1:
        return array.astype(rng.choice(("i1", "<i4", ">i4", "<u2", "<f4", "<f8", ">f2", "?", "U3", "c8")))
    if what == 2:
        return array.reshape(rng.choice(((-1,), (1, -1), (-1, 1), (1, 1, -1))))
    changed = array.copy()
    flat = changed.reshape(-1)
    if len(flat):
        value = rng.choice((0, 1, -1, 2, 127, 32767, -32768, 65535, 1 << 24, np.inf, np.nan, -np.inf, 1e30))
        place = slice(None) if what == 3 else rng.randrange(len(flat))
        with (
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
            contextlib.suppress(OverflowError, ValueError),
        ):
            warnings.simplefilter("ignore")
            flat[place] = value
    return changed


def _saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _refreshed(description: bytes, tables: bytes) -> bytes:
    """The description with the tables' check sum, and with the fingerprint if one can be had."""
    try:
        facts = json.loads(description)
        facts["files"][TABLES] = hashlib.sha256(tables).hexdigest()
        with contextlib.suppress(Exception):  # Of whatever kind: then it stays wrong.
            with np.load(io.BytesIO(tables), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            facts["fingerprint"] = fingerprint(facts, arrays, SYNTHESIS_BYTES)
        return json.dumps(facts).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return description
