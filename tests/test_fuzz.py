"""A short fuzzing run with fixed seeds; docs/FUZZING.md tells of the long ones."""

import random
import sys
import time
import warnings
import zlib

import numpy as np
import pytest
from fuzz import corpus, folders
from fuzz import harness as harness_module
from fuzz.harness import MAX_PIXELS, Bounds, FindingError, Harness, claimed_pixels
from fuzz.mutation import DICTIONARY, Mutator, put_together, random_bytes, taken_apart
from helpers import CONTEXT, KINDS, MODELS, codec_of, golden_file, golden_index, info_of, texture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codec_cli import codec
from codec_cli.bitstream import archive, container, entropy
from codec_cli.errors import CodecError

pytestmark = pytest.mark.skipif(not hasattr(__import__("signal"), "SIGPROF"), reason="needs POSIX timers")

SEEDS = corpus.files()
GOLDEN = [name for name, entry in golden_index().items() if entry["bytes"] < 4000]


@pytest.fixture(scope="module")
def harness():
    """One for all tests, in which everything has been loaded."""
    with Harness() as made:
        made.warm_up([*SEEDS.values(), *corpus.models().values()])
        yield made


def changes(harness, seeds, seed, count):
    """Changed seeds, always the same ones."""
    known, rng = list(seeds.values()), random.Random(seed)
    mutator = Mutator(rng, None, harness.marks, known)
    for _ in range(count):
        data = rng.choice(known)
        for _ in range(rng.choice((1, 1, 2))):
            data = mutator(data, 1 << 18)
        yield data


class TestShortRun:
    def test_files(self, harness):
        """At least half of the executions get to the range decoder, and all kinds of ends occur."""
        outcomes = [harness.execute(data) for data in changes(harness, SEEDS, 1, 2500)]
        assert sum(outcome.reached for outcome in outcomes) > len(outcomes) / 2
        assert {outcome.target for outcome in outcomes} == {"file", "archive"}
        results = {outcome.result for outcome in outcomes}
        assert results == {"image", "FormatError", "LimitError", "ModelError", "VersionError"}
        assert any(outcome.synthesis for outcome in outcomes)
        assert any(outcome.traced for outcome in outcomes)

    def test_everything(self, harness):
        """Networks, `codec info`, salvage, regions and memory, every time."""
        for data in changes(harness, SEEDS, 2, 150):
            harness.execute(data, everything=True)

    def test_models(self, harness):
        outcomes = [harness.execute(data) for data in changes(harness, corpus.models(), 3, 150)]
        assert {outcome.result for outcome in outcomes} == {"image", "FormatError", "ModelError"}

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_hypothesis(self, harness, data):
        """Parts that hypothesis draws: it makes small what it finds."""
        parts = taken_apart(data.draw(st.sampled_from(sorted(SEEDS.values()))))
        assert parts is not None
        parts.segments = [data.draw(st.just(segment) | st.binary(max_size=40)) for segment in parts.segments]
        parts.sections = [
            (data.draw(st.just(kind) | st.integers(0, 4)), data.draw(st.just(body) | st.binary(max_size=40)))
            for kind, body in parts.sections
        ]
        parts.head[3] = data.draw(st.integers(0, 7))
        harness.execute(put_together(parts))

    @pytest.mark.parametrize("data", [b"", b"\xc0", b"\xc0\xdc", b"\xc0\xda\x01", *DICTIONARY], ids=bytes.hex)
    def test_scraps(self, harness, data):
        harness.execute(data, everything=True)


class TestHarness:
    """It must notice what it is there to notice."""

    def data(self):
        return codec_of(CONTEXT).encode(texture(9, 9))

    @pytest.mark.parametrize("error", [ValueError, MemoryError, AssertionError, RecursionError])
    def test_errors(self, harness, monkeypatch, error):
        def fail(*_):
            raise error("unexpected")

        monkeypatch.setattr(codec.Codec, "picture", fail)
        with pytest.raises(FindingError, match=error.__name__):
            harness.execute(self.data())

    def test_warnings(self, harness, monkeypatch):
        monkeypatch.setattr(codec.Codec, "picture", lambda *_: warnings.warn("something", stacklevel=1))
        with pytest.raises(FindingError, match="UserWarning"):
            harness.execute(self.data())

    def test_messages_of_several_lines(self, harness, monkeypatch):
        def fail(*_):
            raise CodecError("one\ntwo")

        monkeypatch.setattr(codec.Codec, "picture", fail)
        with pytest.raises(FindingError, match="line"):
            harness.execute(self.data())

    def test_images_of_another_size(self, harness, monkeypatch):
        picture = codec_of(CONTEXT).decode_picture(codec_of(CONTEXT).encode(texture(9, 10)))
        monkeypatch.setattr(codec.Codec, "picture", lambda *_: picture)
        with pytest.raises(FindingError, match="header"):
            harness.execute(self.data())

    def test_files_elsewhere(self, harness, monkeypatch, tmp_path):
        (tmp_path / "secret").write_text("secret")

        def peep(*_):
            (tmp_path / "secret").read_text()
            raise CodecError("hides it")

        monkeypatch.setattr(codec.Codec, "picture", peep)
        with pytest.raises(FindingError, match="secret"):
            harness.execute(self.data())

    def test_processes(self, harness, monkeypatch):
        def start(*_):
            sys.audit("subprocess.Popen", "/bin/true", ["true"], None, None)
            raise CodecError("hides it")

        monkeypatch.setattr(codec.Codec, "picture", start)
        with pytest.raises(FindingError, match="Popen"):
            harness.execute(self.data())

    def test_loops(self, harness, monkeypatch):
        """The bound is of processor time."""

        def loop(*_):
            end = time.process_time() + 30
            while time.process_time() < end:
                pass

        monkeypatch.setattr(codec.Codec, "picture", loop)
        monkeypatch.setattr(harness_module, "SECONDS", 0.2)
        with pytest.raises(FindingError, match="longer"):
            harness.execute(self.data())

    def test_memory(self, harness, monkeypatch):
        real = codec.Codec.picture

        def waste(*args):
            np.ones(20 << 20, np.uint8)
            return real(*args)

        monkeypatch.setattr(codec.Codec, "picture", waste)
        with pytest.raises(FindingError, match="bytes of memory"):
            harness.execute(self.data(), everything=True)

    def test_counts_the_range_decoder(self, harness):
        data = self.data()
        assert harness.execute(data).reached
        assert not harness.execute(data[:-1] + b"?").reached
        real = entropy.Decoder.get
        assert real.__qualname__.startswith("Harness")

    def test_repeats(self, harness):
        """A finding is one again: what runs depends on the bytes alone."""
        for data in list(changes(harness, SEEDS, 4, 40)):
            assert harness.execute(data) == harness.execute(data)


class TestBounds:
    def test_grow(self):
        assert Bounds.of(0, 100).memory < Bounds.of(256, 100).memory < Bounds.of(256, 200).memory
        assert Bounds.of(0, 0).seconds < Bounds.of(1 << 20, 0).seconds

    @pytest.mark.parametrize("name", ["context-four-tiles", "context-tiles-six", "factorized-two-tiles"])
    def test_hold_for_large_files(self, harness, monkeypatch, name):
        """Millions of pixels take no more than what holds for few of them."""
        monkeypatch.setattr(harness_module, "MAX_PIXELS", 1 << 23)
        assert harness.execute(golden_file(name), everything=True).result == "image"

    def test_metadata_is_limited(self):
        """However large a file is, sections inflate to no more than 16 MiB."""
        more = Bounds.of(0, 2 << 20).memory - Bounds.of(0, 1 << 20).memory
        assert more <= 16 << 20

    @pytest.mark.parametrize(
        ("size", "pixels"), [((1, 1), 256), ((17, 16), 512), ((64, 128), 8192), ((8192, 2), 0)]
    )
    def test_pixels(self, size, pixels):
        header = container.Header(info_of(CONTEXT).fingerprint, 0, False, False, *size)
        tiles = (b"",) * container.tile_count(*size, 1024)
        data = container.serialize(container.Container(header, container.Metadata(), tiles), 1024)
        assert claimed_pixels(data) == pixels
        assert (size[0] * size[1] > MAX_PIXELS) == (pixels == 0)


class TestRepair:
    @pytest.mark.parametrize("name", GOLDEN)
    def test_files_come_back(self, name):
        """Taken apart and put together, a file is the same."""
        data = golden_file(name)
        assert put_together(taken_apart(data)) == data

    @pytest.mark.parametrize("name", [name for name in SEEDS if name.endswith(".pack")])
    def test_archives_come_back(self, name):
        assert put_together(taken_apart(SEEDS[name])) == SEEDS[name]

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_changed_tile_gets_to_the_decoder(self, harness, version):
        data = codec_of(CONTEXT).encode(texture(2, 1040))
        parts = taken_apart(container.serialize(container.parse(data, 1024, MAX_PIXELS), 1024, version))
        parts.segments[1] = b"changed"
        outcome = harness.execute(put_together(parts))
        assert (outcome.result, outcome.reached) == ("FormatError", True)

    def test_models_come_back(self):
        for kind, data in corpus.models().items():
            description, tables = folders.parted(data)
            assert tables == (MODELS / kind / "tables.npz").read_bytes()
            assert folders.joined(description, tables) == data
            assert folders.is_model(data)

    def test_same_seed_same_changes(self, harness):
        first, second = (list(changes(harness, SEEDS, 5, 50)) for _ in range(2))
        assert first == second

    def test_limit(self):
        rng = random.Random(6)
        assert all(len(random_bytes(rng)(bytes(100), 50)) <= 50 for _ in range(200))

    def test_checksums_of_png_chunks(self, harness):
        """Of changed planes, most are wrong in what they hold and not in their checksums."""
        data = codec_of(CONTEXT).encode(texture(16, 16, 4))
        mutator, right, planes = Mutator(random.Random(7), None, harness.marks), 0, 0
        whole = taken_apart(data).sections
        for _ in range(600):
            parts = taken_apart(mutator(data, 1 << 13))
            for _, body in parts.sections if parts else ():
                if body.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR") and (3, body) not in whole:
                    planes += 1
                    right += zlib.crc32(body[12:29]).to_bytes(4, "big") == body[29:33]
        assert right > planes / 2 > 5


class TestCorpus:
    def test_all_decode(self, harness):
        for name, data in SEEDS.items():
            assert harness.execute(data, everything=True).result == "image", name

    def test_what_it_covers(self):
        files = [data for data in SEEDS.values() if not archive.is_archive(data)]
        assert {container.version_of(data) for data in files} == {1, 2}
        headers = [container.peek(data) for data in files]
        assert {header.fingerprint for header in headers} == {info_of(kind).fingerprint for kind in KINDS}
        assert {(h.gray, h.alpha) for h in headers} == {(g, a) for g in (False, True) for a in (False, True)}
        assert len(files) < len(SEEDS)

    def test_dictionary(self, tmp_path):
        corpus.write_dictionary(tmp_path / "dictionary")
        lines = (tmp_path / "dictionary").read_text().splitlines()
        assert len(lines) == len(DICTIONARY)
        assert lines[0] == r'"\xc0\xdc\x01"'
