"""Directory runs: many files in, each written whole, each accounted for."""

import pytest

from codec_cli.commands._batch import Converted
from codec_cli.commands._verbs import Compress


@pytest.fixture
def streaming(monkeypatch):
    """Makes ``compress`` hand over a function that writes instead of bytes."""
    convert = Compress.convert

    def deferred(self, *args):
        done = convert(self, *args)
        return Converted(lambda path: path.write_bytes(done.data), done.width, done.height)

    monkeypatch.setattr(Compress, "convert", deferred)


# Outputs that are written by a function


def test_function_writes_the_output(run, streaming, write_photo, tmp_path):
    source, path = write_photo(tmp_path / "a.png"), tmp_path / "a.bin"
    result = run("compress", source, "--model", "tiny", "--json")
    assert result.exit_code == 0
    assert f'"bytes": {path.stat().st_size},' in result.stdout
    assert path.stat().st_size > 16
    assert run("decompress", path, tmp_path / "b.png").exit_code == 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.bin", "a.png", "b.png"]


def test_function_writes_standard_output(run, streaming, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    piped = run("compress", source, "-", "--model", "tiny")
    assert piped.exit_code == 0
    assert run("compress", source, tmp_path / "a.bin", "--model", "tiny").exit_code == 0
    assert piped.stdout_bytes == (tmp_path / "a.bin").read_bytes()
