"""The cache of evaluations: found again when nothing changed, never when something did."""

import pytest
from helpers import copy_model

from codec_cli.errors import CodecError
from codec_cli.evaluation.cache import (
    Cache,
    default_dir,
    identity_of_model,
    identity_of_quality,
    pixels_digest,
)
from codec_cli.zoo import Zoo, read_info


def test_round_trip(tmp_path):
    cache = Cache(tmp_path / "new" / "cache")
    entry = cache.path("image", "codec", "5")
    assert cache.load(entry) is None
    assert not cache.folder.exists()
    cache.save(entry, {"bpp": 1 / 3})
    assert cache.load(entry) == {"bpp": 1 / 3}
    cache.save(entry, {"bpp": 2})
    assert cache.load(entry) == {"bpp": 2}


def test_every_part_counts(tmp_path):
    cache = Cache(tmp_path)
    paths = {cache.path(*parts) for parts in (("a", "b"), ("b", "a"), ("ab", ""), ("a", "b", ""), ("a", "c"))}
    assert len(paths) == 5


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_damaged_entries_do_not_count(tmp_path, content):
    cache = Cache(tmp_path)
    entry = cache.path("a")
    cache.save(entry, {})
    entry.write_bytes(content)
    assert cache.load(entry) is None


def test_a_directory_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    with pytest.raises(CodecError, match="--no-cache"):
        cache.save(cache.path("a"), {})


def test_default_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_dir().name == "eval"


def test_digest_of_pixels(photo):
    pixels = photo(20, 30)
    assert pixels_digest(pixels) == pixels_digest(pixels.copy(order="F"))
    assert pixels_digest(pixels) != pixels_digest(photo(20, 30) ^ 1)
    assert pixels_digest(pixels) != pixels_digest(pixels.reshape(20, 30, 3))


def test_identity_of_a_model(models_dir, tmp_path):
    frozen = Zoo(models_dir).info("tiny-1")
    copy = copy_model(tmp_path / "other")
    assert identity_of_model(read_info(copy)) == identity_of_model(frozen)
    description = copy / "model.json"
    description.write_text(description.read_text().replace('"level', ' "level', 1))
    assert identity_of_model(read_info(copy)) != identity_of_model(frozen)


def test_identity_of_quality(tmp_path):
    weights = tmp_path / "weights.npz"
    weights.write_bytes(b"1")
    assert identity_of_quality(weights) != identity_of_quality(None)
