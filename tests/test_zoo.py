"""Models directories: names, aliases, fingerprints, and model folders that somebody else made."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import CONTEXT, FACTORIZED, KINDS, MODELS, codec_of, copy_model, info_of, rewrite, texture

from codec_cli import zoo
from codec_cli.codec import Codec
from codec_cli.errors import CodecError, ModelError
from codec_cli.zoo import Zoo, fingerprint, read_info

DESCRIPTION = json.loads((MODELS / CONTEXT / "model.json").read_text())


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Empty models directories of every kind; no other is looked at."""
    found = {name: tmp_path / name for name in ("given", "variable", "user", "installed")}
    for path in found.values():
        path.mkdir()
    monkeypatch.setenv("CODEC_MODELS_DIR", str(found["variable"]))
    monkeypatch.setattr(zoo, "user_models_dir", lambda: found["user"])
    monkeypatch.setattr(zoo, "installed_models_dir", lambda: found["installed"])
    return found


def describe(folder, mark=None, **facts):
    """A folder with a description and nothing else; ``mark`` starts its fingerprint."""
    folder.mkdir(parents=True)
    described = {**DESCRIPTION, **facts}
    if mark:
        described["fingerprint"] = mark + described["fingerprint"][len(mark) :]
    (folder / "model.json").write_text(json.dumps(described))
    return folder


def one_line(error):
    """The text of an error, which has to be one line."""
    assert isinstance(error.value, CodecError)
    assert str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestNames:
    def test_alias_is_the_highest_number(self, places):
        for name in ("photo-9", "photo-10", "photo-2", "photograph-11", "other-99"):
            describe(places["user"] / name)
        assert Zoo().info("photo").name == "photo-10"
        assert Zoo().info("photo-2").name == "photo-2"
        assert Zoo().info("other").name == "other-99"

    def test_alias_over_all_directories(self, places):
        """The newest counts, wherever it is."""
        describe(places["given"] / "photo-2")
        describe(places["user"] / "photo-3")
        describe(places["installed"] / "photo-12")
        assert Zoo(places["given"]).info("photo").path == places["installed"] / "photo-12"

    def test_names_in_order(self, places):
        for name in ("b-10", "b-9", "a-10", "a", "a-2", "b"):
            describe(places["user"] / name)
        assert Zoo().names() == ["a", "a-2", "a-10", "b", "b-9", "b-10"]

    def test_a_full_name_goes_before_an_alias(self, places):
        for name in ("photo", "photo-7"):
            describe(places["user"] / name)
        assert Zoo().info("photo").name == "photo"

    @pytest.mark.parametrize(
        "name", ["photo-x", "-1", "photo--3", "photo-²", "photo-٣", "photo-1e3", "ü-1", "a b"]
    )
    def test_odd_names(self, places, name):
        """Whatever a folder is called, it and the others are found."""
        describe(places["user"] / name)
        describe(places["user"] / "photo-1")
        assert sorted(Zoo().names()) == sorted([name, "photo-1"])
        assert Zoo().info(name).name == name
        assert Zoo().info("photo-1").name == "photo-1"

    def test_what_is_no_model(self, places):
        """Files, empty folders and folders that are being written do not count."""
        (places["user"] / "README.md").write_text("models")
        (places["user"] / "photo-5").mkdir()
        describe(places["user"] / ".photo-6.partial")
        describe(places["user"] / "photo-4")
        assert Zoo().names() == ["photo-4"]
        assert Zoo().info("photo").name == "photo-4"

    def test_by_path(self, places, tmp_path):
        folder = describe(tmp_path / "elsewhere" / "mine")
        assert Zoo().info(str(folder)).path == folder

    @pytest.mark.parametrize("name", ["none", "photo-3", "", "../user/photo-4", "a/b", "\0", "x" * 5000])
    def test_unknown(self, places, name):
        describe(places["user"] / "photo-4")
        with pytest.raises(ModelError) as caught:
            Zoo().info(name)
        one_line(caught)

    def test_unknown_says_what_there_is(self, places):
        with pytest.raises(ModelError, match="none"):
            Zoo().info("photo")
        describe(places["user"] / "photo-4")
        with pytest.raises(ModelError, match="photo-4"):
            Zoo().info("foto")


class TestDirectories:
    def test_order(self, places):
        """Of equal names the first directory's counts: the given one or the variable's, user, installed."""
        for name in ("installed", "user", "variable", "given"):
            describe(places[name] / "photo-1")
            expected = places[name if name != "given" else "variable"]
            assert Zoo().info("photo").path == expected / "photo-1"
            assert (
                Zoo(places["given"]).info("photo").path.parent
                == places[name if name != "variable" else "user"]
            )

    def test_given_replaces_the_variable(self, places):
        describe(places["variable"] / "only-1")
        assert Zoo().names() == ["only-1"]
        assert Zoo(places["given"]).names() == []

    def test_without_the_variable(self, places, monkeypatch):
        describe(places["variable"] / "only-1")
        describe(places["user"] / "mine-1")
        for value in (None, ""):
            if value is None:
                monkeypatch.delenv("CODEC_MODELS_DIR")
            else:
                monkeypatch.setenv("CODEC_MODELS_DIR", value)
            assert Zoo().names() == ["mine-1"]

    def test_missing_directories(self, places, monkeypatch, tmp_path):
        """One that is named must be there; the others need not."""
        places["user"].rmdir()
        places["installed"].rmdir()
        assert Zoo().names() == []
        with pytest.raises(ModelError, match="nowhere"):
            Zoo(tmp_path / "nowhere")
        monkeypatch.setenv("CODEC_MODELS_DIR", str(tmp_path / "nowhere"))
        with pytest.raises(ModelError, match="nowhere"):
            Zoo()
        file = tmp_path / "file"
        file.write_bytes(b"")
        with pytest.raises(ModelError, match="file"):
            Zoo(file)

    def test_installed(self):
        """A source checkout has ``models/``, an installed package ``_models``."""
        directory = zoo.installed_models_dir()
        assert directory.name in ("models", "_models")
        assert directory.is_absolute()

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="XDG directories are Linux's")
    def test_user_directory(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
        assert zoo.user_models_dir() == tmp_path / "codec" / "models"

    def test_models_that_appear_later(self, places):
        """A new Zoo sees them; one that added a model itself, too."""
        models = Zoo()
        assert models.names() == []
        models.add(copy_model(places["given"] / "mine-3"))
        assert models.names() == Zoo().names() == ["mine-3"]


class TestFingerprint:
    def test_found_in_any_directory(self, places):
        for number, name in enumerate(("given", "user", "installed")):
            describe(places[name] / f"{name}-1", mark=f"0{number}aabbcc")
        for number, name in enumerate(("given", "user", "installed")):
            info = Zoo(places["given"]).by_fingerprint(bytes.fromhex(f"0{number}aabbcc"))
            assert info.name == f"{name}-1"
            assert info.fingerprint == bytes.fromhex(f"0{number}aabbcc")

    def test_old_versions_stay(self, places):
        """The alias moves on, files do not."""
        for number in range(1, 12):
            describe(places["installed"] / f"photo-{number}", mark=f"{number:08x}")
        for number in range(1, 12):
            assert Zoo().by_fingerprint(number.to_bytes(4, "big")).name == f"photo-{number}"

    def test_unknown(self, places):
        describe(places["user"] / "photo-1")
        with pytest.raises(ModelError, match=r"0badcafe.*codec models add") as caught:
            Zoo().by_fingerprint(bytes.fromhex("0badcafe"))
        one_line(caught)

    @pytest.mark.parametrize("content", ["{", "[]", "", "{}", "\0\0", "[" * 100_000], ids=len)
    def test_broken_neighbours(self, places, content):
        """They must not keep other files from being read."""
        (describe(places["user"] / "a-1") / "model.json").write_text(content)
        describe(places["user"] / "b-1", mark="12345678")
        assert Zoo().by_fingerprint(bytes.fromhex("12345678")).name == "b-1"

    def test_a_model_of_the_same_name_hides_no_file(self, places):
        """A user's own (or broken) ``photo-1`` must not make files of the released one unreadable."""
        describe(places["installed"] / "photo-1", mark="11111111")
        describe(places["user"] / "photo-1", mark="22222222")
        (describe(places["given"] / "photo-1") / "model.json").write_text("{")
        models = Zoo(places["given"])
        assert models.by_fingerprint(bytes.fromhex("22222222")).path == places["user"] / "photo-1"
        assert models.by_fingerprint(bytes.fromhex("11111111")).path == places["installed"] / "photo-1"

    def test_what_counts(self):
        """All that decoding depends on, and nothing else."""
        facts, tables = dict(DESCRIPTION), dict(info_of(CONTEXT).tables)
        synthesis = (MODELS / CONTEXT / "synthesis.tflite").read_bytes()
        expected = fingerprint(facts, tables, synthesis)
        assert expected == DESCRIPTION["fingerprint"]
        for name in ("name", "training", "validation", "default_level", "analysis_halo", "config", "files"):
            assert fingerprint({**facts, name: None}, tables, synthesis) == expected
        for name in zoo.DECODING_FIELDS:
            assert fingerprint({**facts, name: None}, tables, synthesis) != expected
        for name, value in tables.items():
            changed = value.copy()
            changed.reshape(-1).view(np.uint8)[0] ^= 1
            assert fingerprint(facts, {**tables, name: changed}, synthesis) != expected
            assert fingerprint(facts, {**tables, name: value[:-1]}, synthesis) != expected
        assert fingerprint(facts, tables, synthesis + b"\0") != expected
        backwards = dict(reversed(tables.items()))
        assert fingerprint(facts, backwards, synthesis) == expected


class TestInfo:
    @pytest.mark.parametrize("name", KINDS)
    def test_facts(self, name):
        info = read_info(MODELS / name)
        assert (info.name, info.path) == (name, MODELS / name)
        assert (info.levels, info.stride, info.channels, info.tile_pixels) == (7, 16, 3, 1024)
        assert info.kind == ("context" if name == CONTEXT else "factorized")
        assert info.fingerprint == bytes.fromhex(info.fingerprint_full)[:4]
        assert info.size_bytes() == sum(path.stat().st_size for path in (MODELS / name).iterdir())

    @pytest.mark.parametrize("levels", [1, 2, 7, 32, 100, 256])
    def test_qualities_and_levels(self, levels):
        """Quality 1 is the first level, 100 the last; in between they rise, and every level has a quality."""
        facts = {**DESCRIPTION, "levels": levels, "default_level": levels - 1}
        info = dataclasses.replace(read_info(MODELS / CONTEXT), facts=facts)
        found = [info.level_of_quality(quality) for quality in range(1, 101)]
        assert found == sorted(found)
        assert (found[0], found[-1]) == (0, levels - 1)
        if levels <= 100:
            assert set(found) == set(range(levels))
            for level in range(levels):
                assert info.level_of_quality(info.quality_of_level(level)) == level
        assert all(1 <= info.quality_of_level(level) <= 100 for level in range(levels))
        assert 1 <= info.default_quality <= 100


class TestDamage:
    @pytest.mark.parametrize("name", KINDS)
    def test_verify(self, name, tmp_path):
        read_info(MODELS / name).verify()
        for file in DESCRIPTION["files"]:
            folder = copy_model(tmp_path / f"{file}-1", name)
            content = bytearray((folder / file).read_bytes())
            content[len(content) // 2] ^= 1
            (folder / file).write_bytes(content)
            with pytest.raises(ModelError, match=file) as caught:
                read_info(folder).verify()
            assert str(folder) in one_line(caught)
            (folder / file).unlink()
            if file == "weights.npz":
                continue
            with pytest.raises(ModelError, match=file) as caught:
                read_info(folder).verify()
            one_line(caught)

    def test_weights_that_a_package_left_out(self, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        (folder / "weights.npz").unlink()
        read_info(folder).verify()
        with pytest.raises(ModelError, match="packages leave those of older models out") as caught:
            read_info(folder).arrays("weights.npz")
        assert str(folder / "weights.npz") in one_line(caught)

    def test_verify_notices_a_changed_description(self, tmp_path):
        """Check sums alone would not."""
        for number, facts in enumerate(({"stride": 8}, {"synthesis_halo": 2}, {"fingerprint": "0" * 64})):
            folder = copy_model(tmp_path / f"model-{number}")
            rewrite(folder, facts=facts, refresh=False)
            with pytest.raises(ModelError, match="fingerprint"):
                read_info(folder).verify()

    def test_verify_notices_exchanged_tables(self, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, tables={"magnitude": info_of(CONTEXT).tables["magnitude"] + 1})
        read_info(folder).verify()
        rewrite(folder, facts={"fingerprint": DESCRIPTION["fingerprint"]})
        with pytest.raises(ModelError, match="fingerprint"):
            read_info(folder).verify()

    @pytest.mark.parametrize("file", ["tables.npz", "analysis.tflite", "synthesis.tflite"])
    def test_use(self, file, tmp_path):
        """Using a damaged model names the file; what does not need the file still works."""
        folder = copy_model(tmp_path / "model-1")
        content = bytearray((folder / file).read_bytes())
        content[1000] ^= 1
        (folder / file).write_bytes(content)
        data = codec_of(CONTEXT).encode(texture(20, 20))
        for needed, use in (
            (file != "synthesis.tflite", lambda: Codec(read_info(folder)).encode(texture(20, 20))),
            (file != "analysis.tflite", lambda: Codec(read_info(folder)).decode(data)),
        ):
            if needed:
                with pytest.raises(ModelError, match=f"{file}: damaged") as caught:
                    use()
                one_line(caught)
            else:
                use()


def archive(compression=zipfile.ZIP_STORED, **members):
    """A zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def saved(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def misstated(content, claimed):
    """A zip file of a member that inflates to another size than its directory gives."""
    data = archive(zipfile.ZIP_DEFLATED, gain=content)
    return data.replace(len(content).to_bytes(4, "little"), claimed.to_bytes(4, "little"))


def huge_array(count=1 << 60):
    """An array that claims many numbers, and ends."""
    content = saved(np.zeros(7, np.int32))
    header = content.replace(b"(7,)", b"(%d,)" % count)
    grown = len(header) - len(content)
    return header.replace(b" " * grown + b"\n", b"\n", 1)


class TestHostileTables:
    """``tables.npz`` whose check sum is right, because whoever made the folder made it so."""

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"PK\3\4" + bytes(50), id="start of a zip"),
            pytest.param(archive(), id="no members"),
            pytest.param(archive(gain=b""), id="empty member"),
            pytest.param(archive(gain=b"\x93NUMPY\1\0"), id="cut header"),
            pytest.param(archive(gain=b"\x93NUMPY\1\0\x10\0{'descr': [(((((("), id="no header"),
            pytest.param(archive(gain=b"\x93NUMPY\1\0\x0a\0\xff\xfe\x00((((((("), id="odd header"),
            pytest.param(archive(gain=saved(np.zeros(3))[:-5]), id="cut member"),
            pytest.param(archive(gain=huge_array()), id="huge member"),
            pytest.param(archive(gain=saved(np.array([{}], object), allow_pickle=True)), id="pickle"),
            pytest.param(archive(gain="text"), id="text member"),
            pytest.param(saved(np.zeros(3)), id="an array, not an archive"),
            pytest.param(b"\x80\4N.", id="a pickle"),
            pytest.param((MODELS / CONTEXT / "tables.npz").read_bytes()[:-30], id="cut"),
            pytest.param(
                (MODELS / CONTEXT / "tables.npz").read_bytes().replace(b"PK\1\2", b"PK\1\3", 1),
                id="no directory",
            ),
        ],
    )
    def test_refused(self, content, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, tables=content)
        with contextlib.suppress(ModelError):
            read_info(folder).tables  # noqa: B018 - an archive without our arrays is still an archive
        for use in (
            lambda: read_info(folder).verify(),
            lambda: Codec(read_info(folder)).encode(texture(9, 9)),
        ):
            with pytest.raises(ModelError) as caught:
                use()
            one_line(caught)

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param(misstated(bytes(1000), zoo.MAX_ARRAYS + 1), id="too large"),
            pytest.param(archive(zipfile.ZIP_BZIP2, gain=bytes(100 << 20)), id="bzip2 bomb"),
            pytest.param(archive(zipfile.ZIP_LZMA, gain=bytes(100 << 20)), id="LZMA bomb"),
            pytest.param(misstated(bytes(100 << 20), 100), id="more than the directory says"),
            pytest.param(archive(gain=huge_array(1 << 28)), id="claimed array"),
            pytest.param(archive(gain=huge_array(1 << 60)), id="claimed huge array"),
            pytest.param(archive(gain=huge_array(-1)), id="negative array"),
        ],
    )
    def test_bombs(self, content, tmp_path):
        """Neither inflated nor allocated."""
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, tables=content)
        info = read_info(folder)
        tracemalloc.start()
        try:
            with pytest.raises(ModelError, match=r"tables\.npz") as caught:
                info.tables  # noqa: B018
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        one_line(caught)
        assert peak < (8 << 20) + 4 * len(content)

    def test_any_byte(self, tmp_path):
        """Damage that the zip library itself finds, all over the file."""
        folder = copy_model(tmp_path / "model-1", FACTORIZED)
        content = (folder / "tables.npz").read_bytes()
        for place in [*range(0, 120), *range(120, len(content), 97)]:
            changed = bytearray(content)
            changed[place] ^= 0xFF
            rewrite(folder, tables=bytes(changed))
            try:
                tables = read_info(folder).tables
            except ModelError:
                continue
            assert all(isinstance(value, np.ndarray) for value in tables.values())

    @pytest.mark.parametrize("name", ["gain", "inverse_gain", "level_weights"])
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda a: a[:-1], id="levels"),
            pytest.param(lambda a: a[:, :-1], id="channels"),
            pytest.param(lambda a: a[:, None], id="dimensions"),
            pytest.param(lambda a: a.reshape(-1), id="flat"),
            pytest.param(lambda a: a.astype(str), id="text"),
            pytest.param(lambda a: a.astype(np.complex128), id="complex"),
            pytest.param(lambda a: np.zeros((0, 0), np.float32), id="empty"),
        ],
    )
    def test_gains(self, name, change, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, tables={name: change(info_of(CONTEXT).tables[name])})
        with pytest.raises(ModelError):
            round_trip(folder)

    @pytest.mark.parametrize("name", ["gain", "inverse_gain", "level_weights"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
    def test_gains_that_are_no_numbers(self, name, value, tmp_path):
        """Neither an image of NaN nor numpy's warnings."""
        folder = copy_model(tmp_path / "model-1")
        changed = info_of(CONTEXT).tables[name].copy()
        changed[-1, 0] = value
        rewrite(folder, tables={name: changed})
        with pytest.raises(ModelError, match="gain"):
            round_trip(folder)

    @pytest.mark.parametrize("part", ["kernel", "bias", "shift"])
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda a: a.astype(np.float32), id="no integers"),
            pytest.param(lambda a: a.astype(np.float64) * np.nan, id="NaN"),
            pytest.param(lambda a: a[..., :-1], id="outputs"),
        ],
    )
    def test_layers(self, part, change, tmp_path):
        name = f"pass-1-0/layer1/{part}"
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, tables={name: change(info_of(CONTEXT).tables[name])})
        with pytest.raises(ModelError):
            round_trip(folder)

    @pytest.mark.parametrize("value", [-1, -128, 128, 1 << 30])
    def test_shifts(self, value, tmp_path):
        """To the left, or by so much that float32 has no factor for it."""
        name = "pass-1-0/layer1/shift"
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, tables={name: np.full_like(info_of(CONTEXT).tables[name], value, np.int32)})
        with pytest.raises(ModelError):
            round_trip(folder)

    @pytest.mark.parametrize("name", ["gain", "inverse_gain", "level_weights"])
    def test_gains_in_double_precision(self, name, tmp_path):
        """Refused or used: both are well."""
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, tables={name: info_of(CONTEXT).tables[name].astype(np.float64)})
        try:
            decoded = round_trip(folder)
        except ModelError:
            return
        expected = codec_of(CONTEXT).decode(codec_of(CONTEXT).encode(texture(20, 30), 100))
        assert np.abs(decoded.astype(int) - expected).max() <= 1


def round_trip(folder):
    codec = Codec(read_info(folder), models_dir=MODELS)
    return codec.decode(codec.encode(texture(20, 30), 100))


HOSTILE = [None, True, "7", "", [7], {}, 7.5, -1, 0, 1 << 16, 1 << 40, 10**30, 1e400, float("nan")]
MAY_BE_ZERO = ("synthesis_halo", "analysis_halo", "default_level")
NUMBERS = ("levels", "trained_levels", "stride", "channels", "latent_channels", *MAY_BE_ZERO)
HOSTILE_NUMBERS = [
    pytest.param(field, value, id=f"{field}={value!r}")
    for field in NUMBERS
    for value in HOSTILE
    if not (value == 0 and field in MAY_BE_ZERO)
]


class TestHostileDescriptions:
    """``model.json`` as nobody should write it."""

    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b"{", b"null", b"[]", b"{}", b"7", b"NaN", b'"text"', b"\xff\xfe", b"\0"),
            *(b"7" * 5000, b"[" * 100_000, b'{"a":' * 100_000),
        ],
        ids=lambda content: f"{content[:6]!r}-{len(content)}",
    )
    def test_no_description(self, content, tmp_path):
        folder = describe(tmp_path / "model-1")
        (folder / "model.json").write_bytes(content)
        with pytest.raises(ModelError) as caught:
            read_info(folder)
        assert str(folder) in one_line(caught)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), [[float("nan")]]], ids=str)
    def test_what_json_does_not_have(self, value, tmp_path):
        """Wherever it is: it would come out again in `codec models --json`."""
        with pytest.raises(ModelError, match="damaged") as caught:
            read_info(describe(tmp_path / "model-1", validation=value))
        one_line(caught)

    def test_no_folder(self, tmp_path):
        for path in (tmp_path, tmp_path / "none", Path(__file__)):
            with pytest.raises(ModelError, match="not a model folder"):
                read_info(path)
        (tmp_path / "model.json").mkdir()
        with pytest.raises(ModelError):
            read_info(tmp_path)

    @pytest.mark.parametrize(
        "field", [*zoo.DECODING_FIELDS, "format", "fingerprint", "files", "analysis_halo"]
    )
    def test_missing_field(self, field, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, facts={field: ...})
        with pytest.raises(ModelError, match=field) as caught:
            read_info(folder)
        one_line(caught)

    @pytest.mark.parametrize("value", [2, 0, -1, "1", "a\nb", None, [1], 1.5])
    def test_format(self, value, tmp_path):
        folder = describe(tmp_path / "model-1", format=value)
        with pytest.raises(ModelError) as caught:
            read_info(folder)
        one_line(caught)

    @pytest.mark.parametrize(("field", "value"), HOSTILE_NUMBERS)
    def test_numbers(self, field, value, tmp_path):
        """Whoever wrote the number into the description also made the fingerprint right."""
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, facts={field: value})
        with pytest.raises(ModelError) as caught:
            read_info(folder) if (field, value) == ("stride", 1 << 16) else round_trip(folder)
        one_line(caught)

    @pytest.mark.parametrize("stride", [1, 8, 15, 17, 32])
    def test_stride_of_another_model(self, stride, tmp_path):
        """The transforms do not fit it."""
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, facts={"stride": stride})
        with pytest.raises(ModelError) as caught:
            round_trip(folder)
        one_line(caught)

    @pytest.mark.parametrize("field", ["analysis_halo", "synthesis_halo"])
    def test_halos(self, field, tmp_path):
        """No more than a tile: a decoder keeps the tiles next to one, and no others."""
        for number, halo in enumerate((0, 1, 63, 64)):
            folder = copy_model(tmp_path / f"model-{number}")
            rewrite(folder, facts={field: halo})
            assert round_trip(folder).shape == (20, 30, 3)
        for number, halo in enumerate((65, 128, 1000)):
            folder = copy_model(tmp_path / f"far-{number}")
            rewrite(folder, facts={field: halo})
            with pytest.raises(ModelError):
                read_info(folder)

    def test_default_level(self, tmp_path):
        """It has to be one of the levels, or compressing with defaults fails."""
        for level in range(7):
            info = read_info(describe(tmp_path / f"good-{level}", default_level=level))
            assert info.level_of_quality(info.default_quality) == level
        for level in (7, 8, 100):
            with pytest.raises(ModelError):
                read_info(describe(tmp_path / f"bad-{level}", default_level=level))

    def test_gray_description_of_a_colour_model(self, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, facts={"channels": 1})
        with pytest.raises(ModelError) as caught:
            Codec(read_info(folder)).encode(texture(20, 30, 1))
        one_line(caught)

    @pytest.mark.parametrize("value", [None, 7, "", "other", ["context"], {}, "factorized"])
    def test_kind(self, value, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, facts={"kind": value})
        with pytest.raises(ModelError):
            round_trip(folder)

    @pytest.mark.parametrize("kind", [0, None, {}, "groups"])
    def test_groups_of_a_factorized_model(self, kind, tmp_path):
        """It has none, so they do not matter; they still have to be a list."""
        folder = copy_model(tmp_path / "model-1", FACTORIZED)
        rewrite(folder, facts={"groups": kind})
        with contextlib.suppress(ModelError):
            assert round_trip(folder).shape == (20, 30, 3)

    @pytest.mark.parametrize(
        "value",
        [None, 7, "", "xyz", "0" * 63, "0" * 65, "g" * 64, "A" * 64, ["0"] * 64, {"0": 1}, "\u0660" * 64],
        ids=lambda value: repr(value)[:12],
    )
    def test_fingerprint(self, value, tmp_path):
        with pytest.raises(ModelError):
            read_info(describe(tmp_path / "model-1", fingerprint=value))

    @pytest.mark.parametrize(
        "value",
        [
            None,
            [],
            {},
            "tables.npz",
            ["tables.npz", "analysis.tflite", "synthesis.tflite"],
            {"tables.npz": "0"},
        ],
        ids=str,
    )
    def test_files(self, value, tmp_path):
        with pytest.raises(ModelError):
            read_info(describe(tmp_path / "model-1", files=value))

    @pytest.mark.parametrize(
        "name",
        ["../model-2/tables.npz", "/etc/passwd", "a/b", "..", ".", "", "a\0b", "x" * 5000, "C:\\x", "a\\b"],
        ids=lambda name: repr(name)[:20],
    )
    def test_no_way_out_of_the_folder(self, name, tmp_path):
        """Neither read nor checked nor copied: names with a path are refused, at the latest on use."""
        copy_model(tmp_path / "model-2")
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, facts={"files": {**DESCRIPTION["files"], name: "0" * 64}})
        with pytest.raises(ModelError) as caught:
            read_info(folder).verify()
        one_line(caught)

    @pytest.mark.parametrize("value", [None, 7, [], {}, "", "0" * 64, "\n"])
    def test_check_sums(self, value, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, facts={"files": {**DESCRIPTION["files"], "analysis.tflite": value}})
        with pytest.raises(ModelError, match=r"analysis\.tflite") as caught:
            read_info(folder).verify()
        one_line(caught)
        with pytest.raises(ModelError):
            Codec(read_info(folder)).encode(texture(9, 9))

    def test_names_that_end_lines(self, tmp_path):
        """Messages stay one line, whatever a folder is called."""
        folder = copy_model(tmp_path / "model-1")
        rewrite(folder, facts={"files": {**DESCRIPTION["files"], "a\nb": "0" * 64}})
        with pytest.raises(ModelError) as caught:
            read_info(folder).verify()
        one_line(caught)

    @pytest.mark.parametrize("name", KINDS)
    def test_transforms_of_another_shape(self, name, tmp_path):
        """The analysis in place of the synthesis, and the other way round."""
        for number, (target, source) in enumerate((("analysis", "synthesis"), ("synthesis", "analysis"))):
            folder = copy_model(tmp_path / f"model-{number}", name)
            content = (folder / f"{source}.tflite").read_bytes()
            (folder / f"{target}.tflite").write_bytes(content)
            files = {
                **info_of(name).facts["files"],
                f"{target}.tflite": info_of(name).facts["files"][f"{source}.tflite"],
            }
            rewrite(folder, facts={"files": files})
            with pytest.raises(ModelError) as caught:
                round_trip(folder)
            one_line(caught)


class TestOddFiles:
    """What lies in a model folder need not be a file."""

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
    @pytest.mark.parametrize("file", ["model.json", "tables.npz", "synthesis.tflite"])
    def test_pipes(self, file, tmp_path):
        """Nobody ever writes to it: whoever waits for that waits for ever."""
        folder = copy_model(tmp_path / "model-1")
        (folder / file).unlink()
        os.mkfifo(folder / file)
        with pytest.raises(ModelError, match=file) as caught:
            read_info(folder).verify()
        one_line(caught)

    @pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero here")
    @pytest.mark.parametrize("file", ["model.json", "tables.npz", "synthesis.tflite"])
    def test_devices(self, file, tmp_path):
        folder = copy_model(tmp_path / "model-1")
        (folder / file).unlink()
        (folder / file).symlink_to("/dev/zero")
        with pytest.raises(ModelError, match=file) as caught:
            read_info(folder).verify()
        one_line(caught)

    @pytest.mark.parametrize(
        ("file", "limit"), [("model.json", "MAX_DESCRIPTION"), ("analysis.tflite", "MAX_FILE")]
    )
    def test_too_large(self, file, limit, tmp_path):
        """A sparse file: it takes no room here, and would in memory."""
        folder = copy_model(tmp_path / "model-1")
        os.truncate(folder / file, getattr(zoo, limit) + 1)
        with pytest.raises(ModelError, match="larger") as caught:
            read_info(folder).verify()
        assert file in one_line(caught)

    def test_synthesis_of_another_fingerprint(self, tmp_path):
        """Check sums are right, the fingerprint is another model's: it never gets to the interpreter."""
        folder = copy_model(tmp_path / "model-1")
        content = (folder / "synthesis.tflite").read_bytes() + b"\0"
        (folder / "synthesis.tflite").write_bytes(content)
        files = {**DESCRIPTION["files"], "synthesis.tflite": hashlib.sha256(content).hexdigest()}
        rewrite(folder, facts={"files": files})
        data = codec_of(CONTEXT).encode(texture(20, 20))
        with pytest.raises(ModelError, match="fingerprint") as caught:
            Codec(read_info(folder)).decode(data)
        assert str(folder) in one_line(caught)


class TestAdd:
    def test_links_are_not_followed(self, places):
        """Only to what the description lists, whose contents were checked."""
        folder = copy_model(places["given"] / "mine-1")
        secret = places["given"] / "secret"
        secret.write_text("secret")
        (folder / "NOTES").symlink_to(secret)
        (folder / "LICENSE").write_text("licence")
        tables = (folder / "tables.npz").rename(places["given"] / "tables.npz")
        (folder / "tables.npz").symlink_to(tables)
        added = {path.name: path for path in Zoo().add(folder).path.iterdir()}
        assert set(added) == {path.name for path in folder.iterdir()} - {"NOTES"}
        assert not any(path.is_symlink() for path in added.values())

    def test_hidden_folder(self, places):
        """It could never be found again."""
        with pytest.raises(ModelError, match="rename") as caught:
            Zoo().add(copy_model(places["given"] / ".mine-1"))
        one_line(caught)
        assert list(places["user"].iterdir()) == []

    def test_add(self, places):
        folder = copy_model(places["given"] / "mine-1")
        info = Zoo().add(folder)
        assert info.path == places["user"] / "mine-1"
        info.verify()
        assert Zoo().info("mine").path == info.path
        assert {path.name for path in info.path.iterdir()} == {path.name for path in folder.iterdir()}
        assert [path.name for path in places["user"].iterdir()] == ["mine-1"]

    def test_makes_the_directory(self, places):
        places["user"].rmdir()
        assert Zoo().add(copy_model(places["given"] / "mine-1")).path.parent == places["user"]

    def test_exists(self, places):
        folder = copy_model(places["given"] / "mine-1")
        models = Zoo()
        models.add(folder)
        other = copy_model(places["variable"] / "mine-1", FACTORIZED)
        with pytest.raises(ModelError, match="--force"):
            models.add(other)
        assert models.info("mine-1").kind == "factorized"  # As the variable's directory comes first.
        assert read_info(places["user"] / "mine-1").kind == "context"
        assert models.add(other, force=True).kind == "factorized"
        assert [path.name for path in places["user"].iterdir()] == ["mine-1"]

    def test_itself(self, places):
        """Adding what has been added already loses nothing."""
        info = Zoo().add(copy_model(places["given"] / "mine-1"))
        with pytest.raises(ModelError):
            Zoo().add(info.path)
        Zoo().add(info.path, force=True).verify()

    def test_relative(self, places, monkeypatch):
        folder = copy_model(places["given"] / "mine-1")
        monkeypatch.chdir(folder)
        assert Zoo().add(Path()).name == "mine-1"

    @pytest.mark.parametrize("file", sorted(DESCRIPTION["files"]))
    def test_damaged(self, places, file):
        folder = copy_model(places["given"] / "mine-1")
        (folder / file).write_bytes(b"?")
        with pytest.raises(ModelError, match=file):
            Zoo().add(folder, force=True)
        assert list(places["user"].iterdir()) == []

    def test_of_a_wrong_fingerprint(self, places):
        """Otherwise a model could claim the files of another."""
        folder = copy_model(places["given"] / "mine-1")
        rewrite(folder, facts={"fingerprint": info_of(FACTORIZED).fingerprint_full})
        with pytest.raises(ModelError, match="fingerprint"):
            Zoo().add(folder)
        assert list(places["user"].iterdir()) == []

    def test_a_failure_keeps_the_old_one(self, places, monkeypatch):
        folder = copy_model(places["given"] / "mine-1")
        Zoo().add(folder)
        rewrite(folder, facts={"name": "newer"})
        for function in ("copy2",):
            with monkeypatch.context() as patch:
                patch.setattr(zoo.shutil, function, full_disk)
                with pytest.raises(ModelError, match="No space") as caught:
                    Zoo().add(folder, force=True)
                one_line(caught)
            assert "name" not in read_info(places["user"] / "mine-1").facts
            read_info(places["user"] / "mine-1").verify()
            assert [path.name for path in places["user"].iterdir()] == ["mine-1"]

    def test_unwritable(self, places, monkeypatch):
        folder = copy_model(places["given"] / "mine-1")
        places["user"].rmdir()
        places["user"].write_bytes(b"a file where a directory should be")
        with pytest.raises(ModelError) as caught:
            Zoo().add(folder)
        one_line(caught)

    def test_leftovers_of_an_interrupted_one(self, places):
        describe(places["user"] / ".mine-1.partial")
        Zoo().add(copy_model(places["given"] / "mine-1"))
        assert [path.name for path in places["user"].iterdir()] == ["mine-1"]

    def test_works_afterwards(self, places):
        """From the user's directory, by name and by fingerprint."""
        Zoo().add(copy_model(places["given"] / "mine-1"))
        data = Codec("mine").encode(texture(20, 30))
        describe(places["installed"] / "photo-1")
        assert Codec().decode(data).shape == (20, 30, 3)


def full_disk(*_, **__):
    raise OSError(28, "No space left on device")
