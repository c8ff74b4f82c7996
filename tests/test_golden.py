"""Golden files, and files of other machines: the same symbols always, the same pixels within 1 of 255."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import (
    CONTEXT,
    FACTORIZED,
    GOLDEN,
    MODELS,
    ROOT,
    checksum,
    codec_of,
    entropy_of,
    golden_file,
    golden_index,
    golden_symbols,
    info_of,
)
from PIL import Image
from threadpoolctl import threadpool_limits

from codec_cli.bitstream import container

INDEX = golden_index()
EXPECTED = {name: [entry["symbols"], True] for name, entry in INDEX.items()}
NO_LIMIT = 1 << 40

# Decoding depends on nothing else of a model. These never change, or golden files lose their meaning.
FINGERPRINTS = {
    CONTEXT: "735a88b052e45f69e4e91317eb3c838c30d6562b903e0b62b10cae4234e6f81b",
    FACTORIZED: "aacca74cc4f46757183cb26ebff86f7b1435b09f7834c2fc57d3a209c7d1b6b4",
}

PROGRAM = """
import json, numpy
from helpers import golden_symbols
facts = golden_symbols()
try:
    from threadpoolctl import threadpool_info
    blas = [[item.get("architecture"), item["num_threads"]] for item in threadpool_info()
            if item["user_api"] == "blas"]
except ImportError:
    blas = []
print(json.dumps({"symbols": facts, "numpy": numpy.__version__, "blas": blas}))
"""


def read_elsewhere(python, **environment):
    """Reads the golden files in another process: (what it found, or None, and the whole process)."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.run(
        [python, "-W", "error::RuntimeWarning", "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return (json.loads(process.stdout) if process.returncode == 0 else None), process


class TestFrozen:
    def test_models_are_the_ones_of_the_files(self):
        for name, expected in FINGERPRINTS.items():
            assert info_of(name).fingerprint_full == expected
            info_of(name).verify()

    def test_complete(self):
        """No file without an entry, no entry without a file: nothing went missing, nothing was replaced."""
        files = {path.name for path in GOLDEN.iterdir()}
        pixels = {entry["pixels"] for entry in INDEX.values() if "pixels" in entry}
        assert files == {f"{name}.bin" for name in INDEX} | pixels | {"golden.json"}
        assert all(len(golden_file(name)) == entry["bytes"] for name, entry in INDEX.items())

    def test_what_they_cover(self):
        headers = [container.peek(golden_file(name)) for name in INDEX]
        assert {(entry["model"], entry["level"]) for entry in INDEX.values()} >= {
            (CONTEXT, level) for level in range(7)
        }
        assert {(h.gray, h.alpha) for h in headers} == {(g, a) for g in (False, True) for a in (False, True)}
        assert {(1, 1), (1, 17), (17, 1), (1040, 40)} <= {(h.width, h.height) for h in headers}
        assert {container.version_of(golden_file(name)) for name in INDEX} == {1, 2}
        assert sum(path.stat().st_size for path in GOLDEN.iterdir()) < 450_000


@pytest.mark.parametrize("name", INDEX)
class TestFiles:
    def test_symbols(self, name):
        entry = INDEX[name]
        tiles = codec_of(entry["model"]).symbols(golden_file(name))
        stride = info_of(entry["model"]).stride
        height, width, _ = entry["shape"]
        assert sum(tile.shape[0] * tile.shape[1] for tile in tiles) == -(-height // stride) * -(
            -width // stride
        )
        assert checksum(tiles) == entry["symbols"]

    def test_symbols_give_the_same_file(self, name):
        entry, data = INDEX[name], golden_file(name)
        tile_pixels = info_of(entry["model"]).tile_pixels
        parsed = container.parse(data, tile_pixels, NO_LIMIT)
        assert parsed.header.level == entry["level"]
        tiles = codec_of(entry["model"]).symbols(data)
        again = tuple(entropy_of(entry["model"]).encode(tile, entry["level"]) for tile in tiles)
        assert again == parsed.tiles
        whole = container.Container(parsed.header, parsed.metadata, again)
        written = container.serialize(whole, tile_pixels, container.version_of(data))
        if parsed.metadata.icc is None and parsed.metadata.exif is None:
            assert written == data
        else:  # Not every build of zlib makes the same bytes of them.
            assert container.parse(written, tile_pixels, NO_LIMIT) == parsed

    def test_pixels(self, name):
        entry = INDEX[name]
        decoded = codec_of(entry["model"]).decode(golden_file(name))
        assert (decoded.dtype, list(decoded.shape)) == (np.uint8, entry["shape"])
        if "pixels" not in entry:
            return
        with Image.open(io.BytesIO((GOLDEN / entry["pixels"]).read_bytes())) as image:
            expected = np.asarray(image)
        step = entry["step"]
        decoded = decoded[::step, ::step]
        expected = expected.reshape(decoded.shape)
        assert np.abs(decoded.astype(int) - expected.astype(int)).max() <= 1
        if decoded.shape[2] in (2, 4):
            assert (decoded[:, :, -1] == expected[:, :, -1]).all()


@pytest.mark.parametrize("name", [name for name, entry in INDEX.items() if "pixels" in entry])
def test_metadata(name):
    entry = INDEX[name]
    picture = codec_of(entry["model"]).decode_picture(golden_file(name))
    for kept, expected in ((picture.icc, entry["icc"]), (picture.exif, entry["exif"])):
        assert (None if kept is None else hashlib.sha256(kept).hexdigest()) == expected


def test_found_by_fingerprint(monkeypatch):
    """As a user does: nothing is known but the file and where models are."""
    monkeypatch.setenv("CODEC_MODELS_DIR", str(MODELS))
    from codec_cli import Codec

    codec = Codec()
    for name in ("context-rgba-metadata", "factorized-rgba-metadata"):
        assert checksum(codec.symbols(golden_file(name))) == INDEX[name]["symbols"]


class TestPortability:
    @pytest.mark.parametrize("threads", [1, 2])
    def test_threads(self, threads):
        with threadpool_limits(threads):
            assert golden_symbols() == EXPECTED

    @pytest.mark.parametrize("threads", ["1", "2"])
    def test_threads_of_a_process(self, threads):
        found, process = read_elsewhere(sys.executable, OPENBLAS_NUM_THREADS=threads, OMP_NUM_THREADS=threads)
        assert found is not None, process.stderr
        assert found["symbols"] == EXPECTED

    @pytest.mark.parametrize("core", ["Prescott", "Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX"])
    def test_kernels_of_other_processors(self, core):
        """Other OpenBLAS kernels add in another order, with or without fused multiply-add."""
        found, process = read_elsewhere(sys.executable, OPENBLAS_CORETYPE=core)
        if process.returncode < 0:
            pytest.skip(f"this processor cannot run OpenBLAS's {core} kernels (signal {-process.returncode})")
        assert found is not None, process.stderr
        assert found["symbols"] == EXPECTED
        if all(architecture != core for architecture, _ in found["blas"]):
            pytest.skip(f"the same symbols, but numpy's BLAS did not take {core}: {found['blas']}")


def candidates():
    """Interpreters to build a second environment with, and the numpy release line that each gets."""
    other = "numpy<2" if int(np.__version__.split(".")[0]) >= 2 and sys.version_info < (3, 13) else "numpy>=2"
    pairs = [pytest.param(sys.executable, other, id=f"this-{other}")]
    for minor in range(10, 14):
        python = shutil.which(f"python3.{minor}")
        if python and minor != sys.version_info.minor:
            oldest = {10: "numpy==1.24.*", 11: "numpy==1.26.*", 12: "numpy==2.0.*", 13: "numpy>=2"}[minor]
            pairs.append(pytest.param(python, oldest, id=f"3.{minor}-{oldest}"))
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize(("python", "release"), candidates())
def test_other_numpy(python, release, tmp_path):
    """The same symbols with another numpy (another OpenBLAS with it), and with other Pythons."""
    if subprocess.run([python, "-c", "import venv"], capture_output=True).returncode:
        pytest.skip(f"{python} does not start")
    subprocess.run([python, "-m", "venv", tmp_path / "env"], check=True, capture_output=True, timeout=300)
    inside = str(tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python")
    packages = [release, "constriction>=0.5,<0.6", "pillow>=10.1", "platformdirs>=4", "threadpoolctl>=3.2"]
    installed = subprocess.run(
        [inside, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if installed.returncode:
        pytest.skip(f"pip cannot install {release}: {installed.stderr.strip().splitlines()[-1:]}")
    found, process = read_elsewhere(inside)
    assert found is not None, process.stderr
    assert found["numpy"] != np.__version__ or python != sys.executable
    assert found["symbols"] == EXPECTED
