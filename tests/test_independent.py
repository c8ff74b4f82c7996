"""What codec eval reports of JPEG, WebP and AVIF, computed a second time by other people's code.

The file is written to disk and decoded afresh: JPEG by TensorFlow's own decoder, the others by imageio. The
metrics are TensorFlow's and scikit-image's, PSNR is spelt out in float64, too.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from codec_cli.evaluation.others import others
from codec_cli.evaluation.runner import Evaluator, Subject

KODAK = ROOT.parent / "shared" / "data" / "kodak"
SETTINGS = {"jpeg": (10, 75), "webp": (20, 88), "avif": (35, 70)}

tf = pytest.importorskip("tensorflow", reason="TensorFlow (extra `train`) is the oracle here")


@pytest.fixture(params=["synthetic", "astronaut", "kodim04.png", "kodim20.png"])
def image(request, photo, tmp_path):
    """The path of a lossless image: one of Kodak's, upright or lying, or another one."""
    if request.param.startswith("kodim"):
        if not KODAK.is_dir():
            pytest.skip("needs the Kodak images in ../shared/data/kodak")
        return KODAK / request.param
    if request.param == "astronaut":
        data = pytest.importorskip("skimage.data", reason="scikit-image (extra `dev`) has the photograph")
        pixels = data.astronaut()
    else:
        pixels = photo(251, 197)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    return path


def decoded_afresh(path: Path, name: str) -> np.ndarray:
    if name == "jpeg":
        return tf.io.decode_jpeg(path.read_bytes(), channels=3, dct_method="INTEGER_ACCURATE").numpy()
    imageio = pytest.importorskip("imageio.v3", reason="imageio (with scikit-image) decodes here")
    return imageio.imread(path, mode="RGB")


@pytest.mark.parametrize("name", SETTINGS)
def test_figures_are_those_of_others(image, name, tmp_path):
    compare = pytest.importorskip("skimage.metrics", reason="scikit-image (extra `dev`) is an oracle here")
    (codec,) = others([name])
    if codec.available():
        pytest.skip(codec.available())
    original = np.array(Image.open(image))
    for point in Evaluator((Subject(name, SETTINGS[name]),))(image).points:
        file = tmp_path / f"file.{name}"
        file.write_bytes(codec.encode(original, point.setting))
        decoded = decoded_afresh(file, name)
        assert point.bytes == file.stat().st_size
        assert point.bpp == pytest.approx(8 * file.stat().st_size / original[..., 0].size)

        error = np.mean((original.astype(np.float64) - decoded) ** 2)
        luma = (original.astype(np.float64) - decoded) @ [0.299, 0.587, 0.114]
        for psnr in (
            10 * math.log10(255**2 / error),
            float(tf.image.psnr(original, decoded, 255)),
            compare.peak_signal_noise_ratio(original, decoded, data_range=255),
        ):
            assert point.psnr_rgb_db == pytest.approx(psnr, abs=0.01)
        assert point.psnr_luma_db == pytest.approx(10 * math.log10(255**2 / np.mean(luma**2)), abs=0.01)
        # Not against tf.image.ssim: its float32 is up to 3e-4 from this on smooth photographs.
        ssim = compare.structural_similarity(
            original,
            decoded,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=2,
        )
        assert point.ssim == pytest.approx(ssim, abs=1e-5)
        multiscale = float(tf.image.ssim_multiscale(original, decoded, 255))
        assert point.ms_ssim == pytest.approx(multiscale, abs=1e-4)
        assert point.ms_ssim_db == pytest.approx(-10 * math.log10(1 - point.ms_ssim))
