"""docs/FORMAT.md is right: a decoder written from it gives what the tool gives, and refuses the same."""

import ast
import dataclasses
import io
import itertools
import json
import re
import sys
import zlib
from pathlib import Path

import constriction
import independent_decoder as other
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from helpers import (
    CONTEXT,
    FACTORIZED,
    GOLDEN,
    KINDS,
    MODELS,
    checksum,
    codec_of,
    copy_model,
    entropy_of,
    info_of,
    random_symbols,
    resealed,
    rewrite,
    texture,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_golden import GOLDEN_ARCHIVES, file_of_image
from PIL import Image

from codec_cli import codec as codec_module
from codec_cli import transforms, zoo
from codec_cli.bitstream import archive, container, context, entropy, wire
from codec_cli.codec import Codec
from codec_cli.errors import CodecError, FormatError
from codec_cli.loading import load_entropy_model
from codec_cli.packing import Unpacker, pack_arrays
from codec_cli.pictures.images import Picture
from codec_cli.tiles import Grid
from codec_cli.zoo import read_info

DOCUMENT = (Path(__file__).parents[1] / "docs" / "FORMAT.md").read_text(encoding="utf-8")
GOLDEN_FILES = sorted(path.stem for path in GOLDEN.glob("*.bin"))
ARCHIVES = json.loads((GOLDEN_ARCHIVES / "golden.json").read_text())


def between(start, end):
    """The lines of the document between two of its comments."""
    return DOCUMENT.split(f"<!-- {start} -->")[1].split(f"<!-- {end} -->")[0].strip().splitlines()


def rows(lines):
    """The cells of a table, without its two head lines."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return cells[2:]


def equal(tiles, expected):
    return len(tiles) == len(expected) and all(map(np.array_equal, tiles, expected))


def cut(plane):
    """The tiles of a latent plane (rows, columns, channels)."""
    return [plane[top:bottom, left:right] for top, left, bottom, right in Grid(plane.shape[:2]).tiles()]


def file_of(name, level, plane):
    """A file of a latent plane int16 (rows, columns, channels), put together with the tool's own parts."""
    info = info_of(name)
    height, width = plane.shape[0] * info.stride, plane.shape[1] * info.stride
    tiles = tuple(entropy_of(name).encode(tile, level) for tile in cut(plane))
    header = container.Header(info.fingerprint, level, False, False, width, height)
    return container.serialize(container.Container(header, container.Metadata(), tiles), info.tile_pixels)


# The document against the code.


def written(value):
    """A constant in the way in which the document writes it."""
    if isinstance(value, bytes):
        return value.hex(" ")
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def test_the_constants_are_those_of_the_code():
    modules = (container, wire, entropy, context, transforms, zoo, codec_module)
    stated = {
        name.strip("`"): value.strip("`") for name, value, _ in rows(between("constants", "end of constants"))
    }
    assert len(stated) == 30
    for name, value in stated.items():
        assert {written(getattr(module, name)) for module in modules if hasattr(module, name)} == {value}, (
            name
        )
    assert 1 << int(stated["PRECISION"]) == entropy.TOTAL


def test_the_constants_of_archives_are_those_of_the_code():
    stated = rows(between("archive constants", "end of archive constants"))
    assert len(stated) == 7
    for name, value, _ in stated:
        assert written(getattr(archive, name.strip("`"))) == value.strip("`"), name


def test_the_independent_decoder_uses_nothing_of_ours():
    tree = ast.parse(Path(other.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {*sys.stdlib_module_names, "numpy"}
    assert other.FINGERPRINT_FIELDS == zoo.DECODING_FIELDS


@pytest.mark.parametrize("name", KINDS)
def test_the_fingerprint_is_computed_as_documented(name):
    folder = MODELS / name
    assert other.fingerprint(folder) == bytes.fromhex(info_of(name).fingerprint_full)
    facts = json.loads((folder / "model.json").read_text())
    fields = json.dumps([facts[field] for field in other.FINGERPRINT_FIELDS], separators=(",", ":"))
    assert name != CONTEXT or f"`{fields}`" in DOCUMENT


@pytest.mark.parametrize("name", KINDS)
def test_the_arrays_of_a_model_are_as_documented(name):
    facts = info_of(name).facts
    tables = DOCUMENT.split("### 3.2")[1].split("### 3.3")[0].splitlines()
    types = {part: kind for names, kind, *_ in rows(tables) for part in re.findall("`(.*?)`", names)}
    for array_name, array in info_of(name).tables.items():
        general = re.sub(r"pass-\d+-\d+/layer\d", "pass-G-H/layerI", array_name)
        assert array.dtype == np.dtype(types[general]), array_name
        if array_name.endswith("/shift"):
            assert array.min() >= 0
    if name == CONTEXT:
        assert sum(facts["groups"]) == facts["latent_channels"]
        for g, size in enumerate(facts["groups"]):
            for h in (0, 1):
                if (g, h) != (0, 0):
                    inputs = 18 * sum(facts["groups"][:g]) + 8 * size * h
                    assert info_of(name).tables[f"pass-{g}-{h}/layer0/kernel"].shape[0] == inputs
                    assert info_of(name).tables[f"pass-{g}-{h}/layer2/kernel"].shape[1] == 2 * size


# Symbols.


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("level", [0, 3, 6])
@pytest.mark.parametrize("size", [(1, 1), (9, 17), (17, 9), (40, 33), (16, 1040), (1030, 20)])
def test_pictures_give_the_same_symbols(name, level, size):
    data = codec_of(name).encode_picture(Picture(texture(*size)), level=level)
    expected = codec_of(name).symbols(data)
    assert len(expected) == (2 if max(size) > 1024 else 1)
    assert equal(other.decode(data, MODELS / name), expected)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (5, 7), (66, 3), (2, 65)])
@pytest.mark.parametrize("what", ["laplace", "extreme", "large", "zero"])
def test_any_symbols_come_out_the_same(name, shape, what):
    rng = np.random.default_rng(shape)
    plane = {
        "laplace": random_symbols(*shape),
        "extreme": rng.choice([-32768, -32767, -256, -255, -1, 0, 1, 255, 256, 32767], (*shape, 24)),
        "large": np.rint(rng.normal(0, 400, (*shape, 24))),
        "zero": np.zeros((*shape, 24)),
    }[what].astype(np.int16)
    data = file_of(name, 4, plane)
    tiles = other.decode(data, MODELS / name)
    assert equal(tiles, codec_of(name).symbols(data))
    assert equal(tiles, cut(plane))


@pytest.mark.parametrize("file", GOLDEN_FILES)
def test_golden_files_give_their_symbols(file):
    facts = json.loads((GOLDEN / "golden.json").read_text())[file]
    tiles = other.decode((GOLDEN / f"{file}.bin").read_bytes(), info_of(facts["model"]).path)
    assert checksum([tile.astype(np.int16) for tile in tiles]) == facts["symbols"]


def test_sections_are_read_alike():
    icc, exif = b"a profile" * 9, b"II*\0 and so on"
    alpha = texture(20, 30, 1)[:, :, 0]
    data = codec_of(CONTEXT).encode_picture(Picture(texture(20, 30), alpha, icc, exif), level=1)
    header, sections, segments, parts = other.read_container(data, 16)
    parsed = container.parse(data, 1024, 1 << 28)
    assert header == (parsed.header.fingerprint, 1, 6, 30, 20)
    assert sections == {1: icc, 2: exif, 3: parsed.metadata.alpha_png}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sections[3]))), alpha)
    assert tuple(segments) == parsed.tiles
    assert b"".join(data[part.start : part.stop] for part in parts) == data


# Pixels, from the symbols as section 7 says: the whole plane in one pass.


def pixels_by_the_document(tiles, header, folder):
    facts = json.loads((folder / "model.json").read_text())
    arrays = other.load_arrays(folder)
    stride = facts["stride"]
    plane = np.zeros(
        (-(-header.height // stride), -(-header.width // stride), facts["latent_channels"]), np.float32
    )
    for (top, left, bottom, right), tile in zip(
        other.tile_grid(header.width, header.height, stride), tiles, strict=True
    ):
        plane[top:bottom, left:right] = tile.astype(np.float32) * arrays["inverse_gain"][header.level]
    network = Interpreter(model_path=str(folder / "synthesis.tflite"))
    inputs = {len(item["shape"]): item["index"] for item in network.get_input_details()}
    network.resize_tensor_input(inputs[4], (1, *plane.shape))
    network.allocate_tensors()
    network.set_tensor(inputs[4], plane[None])
    network.set_tensor(inputs[2], arrays["level_weights"][header.level][None])
    network.invoke()
    image = network.get_tensor(network.get_output_details()[0]["index"])[0]
    image = np.floor(np.clip(image * np.float32(255) + np.float32(0.5), 0, 255)).astype(int)
    image = image[: header.height, : header.width]
    return (2 * image.sum(2, keepdims=True) + 3) // 6 if header.flags & other.GRAY else image


@pytest.mark.parametrize(("size", "channels"), [((37, 50), 3), ((21, 44), 1), ((40, 1100), 3), ((1, 1), 3)])
def test_pixels_are_those_of_the_document(size, channels):
    data = codec_of(CONTEXT).encode_picture(Picture(texture(*size, channels)), level=5)
    header, *_ = other.read_container(data, 16)
    pixels = pixels_by_the_document(other.decode(data, MODELS / CONTEXT), header, MODELS / CONTEXT)
    decoded = codec_of(CONTEXT).decode(data).astype(int)
    assert pixels.shape == decoded.shape == (*size, channels)
    assert np.abs(pixels - decoded).max() <= 1


# The range coder against the library.

TOTAL = 1 << 16


@st.composite
def tables(draw):
    """The counts of a table: a few large shares, or many of the smallest."""
    size = draw(st.integers(2, 40))
    cuts = draw(st.sets(st.integers(1, TOTAL - 1), min_size=size - 1, max_size=size - 1))
    if draw(st.booleans()):
        cuts = {TOTAL - i if draw(st.booleans()) else i for i in range(1, size)}
    edges = [0, *sorted(cuts), TOTAL]
    return [high - low for low, high in itertools.pairwise(edges)]


def library_model(counts):
    return constriction.stream.model.Categorical(np.array(counts, np.float64) / TOTAL, perfect=False)


def library_segment(counts_and_entries):
    coder = constriction.stream.queue.RangeEncoder()
    for counts, entry in counts_and_entries:
        coder.encode(np.array([entry], np.int32), library_model(counts))
    return coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


@pytest.mark.parametrize("name", KINDS)
def test_every_frequency_is_that_of_the_library(name):
    arrays = other.load_arrays(MODELS / name)
    scale = (2**64 - 1) >> 24
    for prefix in ("first", "bank") if name == CONTEXT else ("first",):
        starts = np.concatenate([[0], np.cumsum(arrays[f"{prefix}/lengths"])])
        for i, table in enumerate(other.tables(arrays, prefix)):
            model = library_model(arrays[f"{prefix}/counts"][starts[i] : starts[i + 1]])
            assert table.lefts[0] == 0
            for entry in range(0, len(table.lefts) - 1, 1 + len(table.lefts) // 50):
                coder = constriction.stream.queue.RangeEncoder()
                coder.encode(np.array([entry], np.int32), model)
                lower, size = (
                    scale * table.lefts[entry],
                    scale * (table.lefts[entry + 1] - table.lefts[entry]),
                )
                words, state = coder.pos()
                assert state == (lower << 32 * words & (1 << 64) - 1, size << 32 * words)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_range_coder_is_that_of_the_library(data):
    choices = data.draw(st.lists(tables(), min_size=1, max_size=3))
    used = data.draw(st.lists(st.sampled_from(choices), min_size=1, max_size=60))
    coded = [(counts, data.draw(st.integers(0, len(counts) - 1))) for counts in used]
    segment = library_segment(coded)
    encoder, decoder = other.RangeEncoder(), other.RangeDecoder(segment)
    for counts, entry in coded:
        lefts = other.left_edges(counts)
        encoder.put(lefts, entry)
        assert decoder.get(lefts) == entry
    decoder.finish()
    assert encoder.finish() == segment


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    counts=tables(),
    words=st.lists(st.sampled_from([0, 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1), max_size=8),
    length=st.integers(1, 60),
)
def test_any_bytes_decode_as_in_the_library(counts, words, length):
    """Words of zeros bring long runs of carries, which coded symbols hardly ever do."""
    lefts, model = other.left_edges(counts), library_model(counts)
    segment = b"".join(word.to_bytes(4, "little") for word in words).rstrip(b"\0")
    decoder, encoder = other.RangeDecoder(segment), other.RangeEncoder()
    library = constriction.stream.queue.RangeDecoder(np.array(words, np.uint32))
    entries = []
    for _ in range(length):
        try:
            entry = decoder.get(lefts)
        except other.RefusedError:
            with pytest.raises(AssertionError, match="invalid"):
                library.decode(model, 1)
            return
        assert library.decode(model, 1)[0] == entry
        encoder.put(lefts, entry)
        entries.append((counts, entry))
    recoded = encoder.finish()
    assert recoded == library_segment(entries)
    # The two ways to check the end agree.
    try:
        decoder.finish()
    except other.RefusedError:
        assert recoded != segment
    else:
        assert recoded == segment


def test_the_test_vectors():
    for counts, entries, segment in rows(between("vectors", "end of vectors")):
        counts = [256] * 256 if "times" in counts else list(map(int, counts.split()))
        entries = [] if entries == "none" else list(map(int, entries.split()))
        segment = b"" if segment == "empty" else bytes.fromhex(segment.strip("`"))
        encoder, decoder, lefts = other.RangeEncoder(), other.RangeDecoder(segment), other.left_edges(counts)
        for entry in entries:
            encoder.put(lefts, entry)
        assert encoder.finish() == segment == library_segment([(counts, entry) for entry in entries])
        assert [decoder.get(lefts) for _ in entries] == entries
        decoder.finish()
    for text in ("0, 10239998, 15359998, 16776959, 16777216", "0x9ad0c808"):
        assert text in DOCUMENT
    assert other.left_edges([40000, 20000, 5535, 1]) == [0, 10239998, 15359998, 16776959, 16777216]
    assert [65536 * i for i in range(257)] == other.ONE_BYTE


# What is refused.


def outcome(decode):
    try:
        return decode()
    except (other.RefusedError, CodecError):
        return None


def varint(value, excess=0):
    """A varint, with ``excess`` more bytes than it needs."""
    encoded = []
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value | 128, *[128] * (excess - 1), 0] if excess else [*encoded, value])


EXCESS = st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2])
SIDES = st.sampled_from([1, 7, 1024, 1025]) | st.sampled_from([0, 2**14, 2**24, 2**24 + 1, 2**32, 2**35 - 1])
BODIES = st.sampled_from(
    [zlib.compress(b"a section"), b"", zlib.compress(b"cut")[:-1], zlib.compress(b"more") + b"\0", b"plain"]
)


@st.composite
def containers(draw):
    """A file with a correct CRC-32, in which every rule of section 2 may be broken."""
    width, height = draw(SIDES), draw(SIDES)
    kinds = draw(st.lists(st.integers(1, 4), max_size=3))
    kinds = sorted(set(kinds)) if draw(st.booleans()) else kinds
    flags = draw(st.sampled_from([4 * bool(kinds), 4 * bool(kinds) + 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 128]))
    body = b"\xc0\xdc\x01abcd" + bytes([draw(st.sampled_from([0, 3, 255])), flags])
    body += varint(width, draw(EXCESS)) + varint(height, draw(EXCESS))
    for kind in kinds:
        content = draw(BODIES)
        body += bytes([kind]) + varint(len(content), draw(EXCESS)) + content
    body += b"\0" * (bool(kinds) or draw(st.booleans()))
    tiles = min(-(-width // 1024) * -(-height // 1024), 6) + draw(st.sampled_from([0, 0, 0, 0, -1, 1]))
    contents = [draw(st.binary(max_size=3)) for _ in range(tiles)]
    lengths = [
        varint(len(content) + draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1])), draw(EXCESS))
        for content in contents
    ]
    if draw(st.booleans()):
        body += b"".join(length + content for length, content in zip(lengths, contents, strict=True))
        return resealed(body + bytes(4))
    body = body[:2] + b"\x02" + body[3:]
    wrong = draw(st.sampled_from([None] * 8 + list(range(tiles + 1))))
    for number, (length, content) in enumerate(zip(lengths, contents, strict=True)):
        body += length + (bytes(4) if number == wrong else zlib.crc32(content).to_bytes(4, "little"))
    body += bytes(4) if wrong == tiles else (zlib.crc32(body) ^ 0xFFFFFFFF).to_bytes(4, "little")
    return resealed(body + b"".join(contents) + bytes(4))


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(containers())
def test_what_one_reads_or_refuses_the_other_does(data):
    ours = outcome(lambda: container.parse(data, 1024, 1 << 28))
    theirs = outcome(lambda: other.read_container(data, 16))
    assert (ours is None) == (theirs is None)
    if ours is not None:
        header, sections, segments, _ = theirs
        assert (header.width, header.height) == (ours.header.width, ours.header.height)
        flags = ours.header.gray + 2 * ours.header.alpha + 4 * (ours.metadata != container.Metadata())
        assert (header.fingerprint, header.level, header.flags) == (b"abcd", ours.header.level, flags)
        metadata = ours.metadata.icc, ours.metadata.exif, ours.metadata.alpha_png
        assert tuple(map(sections.get, (1, 2, 3))) == metadata
        assert tuple(segments) == ours.tiles


def described(flags, width, height, tail):
    return resealed(
        b"\xc0\xdc\x01abcd" + bytes([0, flags]) + varint(width) + varint(height) + tail + bytes(4)
    )


def section(kind, stream):
    return bytes([kind]) + varint(len(stream)) + stream


ICC, LARGEST = zlib.compress(b"icc"), bytes(2**24)


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (described(0, 1, 2**24, bytes(2**14)), True),
        (described(0, 1, 2**24 + 1, bytes(2**14 + 1)), False),
        (described(0, 2**24, 1, bytes(2**14)), True),
        (described(0, 2**24 + 1, 1, bytes(2**14 + 1)), False),
        (described(0, 2**14, 2**14, bytes(256)), True),
        (described(0, 2**14 + 1, 2**14, bytes(272)), False),
        (described(4, 0, 1, section(1, ICC) + b"\0"), False),
        (described(4, 1, 0, section(1, ICC) + b"\0"), False),
        (described(4, 1, 1, section(1, ICC) + section(2, ICC) + b"\0\0"), True),
        (described(4, 1, 1, section(1, ICC) + section(1, ICC) + b"\0\0"), False),
        (described(4, 1, 1, section(2, ICC) + section(1, ICC) + b"\0\0"), False),
        (described(4, 1, 1, section(2, ICC + b"\0") + b"\0\0"), False),
        (described(4, 1, 1, section(2, ICC + ICC) + b"\0\0"), False),
        (described(4, 1, 1, section(2, ICC[:-1]) + b"\0\0"), False),
        (described(4, 1, 1, section(2, b"") + b"\0\0"), False),
        (described(6, 1, 1, section(3, b"") + b"\0\0"), True),
        (described(4, 1, 1, section(3, b"") + b"\0\0"), False),
        (described(4, 1, 1, section(4, ICC) + b"\0\0"), False),
        *[(described(1 << bit, 1, 1, b"\0"), bit < 2) for bit in range(8)],
        (described(4, 1, 1, section(1, zlib.compress(LARGEST)) + b"\0\0"), True),
        (described(4, 1, 1, section(1, zlib.compress(LARGEST + b"\0")) + b"\0\0"), False),
    ],
)
def test_the_limits_are_the_same(data, read):
    assert (outcome(lambda: other.read_container(data, 16)) is not None) == read
    assert (outcome(lambda: container.parse(data, 1024, codec_module.DEFAULT_MAX_PIXELS)) is not None) == read


@pytest.fixture(scope="module")
def small_files():
    pixels = texture(18, 30)
    alpha = texture(18, 30, 1)[:, :, 0]
    wide = file_of(FACTORIZED, 2, random_symbols(1, 66))
    return [
        (CONTEXT, codec_of(CONTEXT).encode_picture(Picture(pixels), level=3)),
        (FACTORIZED, codec_of(FACTORIZED).encode_picture(Picture(pixels), level=2)),
        (
            FACTORIZED,
            codec_of(FACTORIZED).encode_picture(Picture(pixels, alpha, b"icc" * 9, b"II*\0 exif"), level=0),
        ),
        (FACTORIZED, wide),
    ]


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_one_refuses_the_other_refuses(small_files, data):
    """Files that were changed by someone who then made the CRC-32 right again."""
    name, file = data.draw(st.sampled_from(small_files))
    changed = bytearray(file[:-4])
    for _ in range(data.draw(st.integers(1, 2))):
        # Most places are payload, so prefer the others.
        place = data.draw(st.integers(7, min(40, len(changed) - 1)) | st.integers(0, len(changed) - 1))
        kind = data.draw(st.sampled_from(["change", "change", "insert", "delete", "cut", "append"]))
        value = data.draw(st.sampled_from([0, 1, 2, 4, 127, 128, 255]) | st.integers(0, 255))
        if kind == "change":
            changed[place] = value
        elif kind == "insert":
            changed.insert(place, value)
        elif kind == "delete":
            del changed[place]
        elif kind == "cut":
            del changed[max(place, 12) :]
        else:
            changed.append(value)
    bad = resealed(bytes(changed) + bytes(4))
    ours = outcome(lambda: codec_of(name).symbols(bad))
    theirs = outcome(lambda: other.decode(bad, MODELS / name))
    assert (ours is None) == (theirs is None)
    assert ours is None or equal(theirs, ours)


def test_every_changed_byte_and_every_cut_is_refused(small_files):
    name, file = small_files[2]
    for i in range(len(file)):
        flipped = file[:i] + bytes([file[i] ^ 1 << i % 8]) + file[i + 1 :]
        for bad in (flipped, file[:i], file + file[:i] if i else file[1:]):
            with pytest.raises(other.RefusedError):
                other.decode(bad, MODELS / name)


@pytest.mark.parametrize("name", KINDS)
def test_a_segment_has_one_form_only(name):
    plane = random_symbols(3, 4)
    file = file_of(name, 6, plane)
    _, _, (segment,), _ = other.read_container(file, 16)
    parsed = container.parse(file, 1024, 1 << 28)
    last = int.from_bytes(segment[-4:], "little")
    ends = [b"", b"\0", b"\0\0\0\0", b"\1", b"\0\0\0\0\1"]
    variants = [segment + end for end in ends] + [segment[:-cut] for cut in (1, 2, 4, 5)]
    variants += [segment[:-4] + (last + step).to_bytes(4, "little") for step in (-1, 1)]
    accepted = []
    for variant in variants:
        data = container.serialize(dataclasses.replace(parsed, tiles=(variant,)), 1024)
        theirs = outcome(lambda data=data: other.decode(data, MODELS / name))
        assert (outcome(lambda data=data: codec_of(name).symbols(data)) is None) == (theirs is None)
        accepted += [variant] if theirs is not None else []
    assert accepted == [segment]


# Networks and tables that no training gives.


@pytest.fixture
def odd_model(tmp_path):
    """A function that makes a model of the kind `context` with some arrays replaced."""

    def make(arrays):
        folder = copy_model(tmp_path / "odd-1")
        rewrite(folder, tables=arrays)
        return folder, read_info(folder)

    return make


def odd_file(info, level, plane):
    header = container.Header(info.fingerprint, level, False, False, plane.shape[1] * 16, plane.shape[0] * 16)
    segment = load_entropy_model(info).encode(plane, level)
    return container.serialize(container.Container(header, container.Metadata(), (segment,)), 1024)


@pytest.mark.parametrize("seed", range(4))
def test_any_network_is_evaluated_alike(odd_model, seed):
    """Means and scales at both clips, sums below zero, every shift."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, array in info_of(CONTEXT).tables.items():
        if name.startswith("pass"):
            limit = {"kernel": 600 // (1 + array.shape[0] // 60), "bias": 200_000}.get(name.split("/")[2])
            values = (
                rng.integers(-limit, limit + 1, array.shape) if limit else rng.integers(0, 13, array.shape)
            )
            arrays[name] = values.astype(array.dtype)
    folder, info = odd_model(arrays)
    load_entropy_model(info).check_bounds()
    plane = np.rint(rng.laplace(0, 40, (6, 5, 24))).astype(np.int16)
    data = odd_file(info, seed, plane)
    assert equal(other.decode(data, folder), [plane])
    assert equal(Codec(info).symbols(data), [plane])


def test_a_symbol_beyond_16_bits_is_refused(odd_model):
    """A file that holds no such symbol decodes; one that does is refused."""
    minus_one = np.concatenate([np.full(4, -8), np.zeros(4, int)])  # Means of -1, scales of 0.
    arrays = {
        "pass-0-1/layer2/kernel": np.zeros((16, 8), np.int16),
        "pass-0-1/layer2/bias": np.tile(minus_one, (7, 1)).astype(np.int32),
        "pass-0-1/layer2/shift": np.zeros(8, np.int8),
        "bank/offsets": np.full(8, -32768, np.int32),
        "bank/lengths": np.full(8, 3, np.int32),
        "bank/counts": np.tile([30000, 30000, 5536], 8).astype(np.uint16),
    }
    folder, info = odd_model(arrays)
    plane = np.zeros((1, 2, 24), np.int16)
    plane[0, 1, :4] = -32768
    good = odd_file(info, 0, plane)
    assert equal(other.decode(good, folder), [plane])

    model = other.ContextModel(info.facts, other.load_arrays(folder), 0)
    encoder = other.RangeEncoder()
    for table in model.first:
        encoder.put(table.lefts, -table.offset)
    for entry in (0, 1, 1, 1):  # Of table 0 for all four: -32768 - 1 + entry.
        encoder.put(model.bank[0].lefts, entry)
    parsed = container.parse(good, 1024, 1 << 28)
    bad = container.serialize(dataclasses.replace(parsed, tiles=(encoder.finish(),)), 1024)
    with pytest.raises(other.RefusedError, match="a symbol is out of range"):
        other.decode(bad, folder)
    with pytest.raises(FormatError, match="a symbol is out of range"):
        Codec(info).symbols(bad)


# Archives.


@pytest.mark.parametrize("name", ARCHIVES)
def test_golden_archives_give_their_symbols(name):
    facts, data = ARCHIVES[name], (GOLDEN_ARCHIVES / f"{name}.pack").read_bytes()
    folder = MODELS / facts["model"]
    images = other.decode_archive(data, folder)
    assert [checksum([tile.astype(np.int16) for tile in image]) for image in images] == facts["symbols"]
    (last,) = other.decode_archive(data, folder, [len(images) - 1])
    assert equal(last, images[-1])
    header, names, segments, parts = other.read_archive(data, 16)
    unpacker = Unpacker(data, codec_of(facts["model"]))
    assert (header.level, [header.count, header.height, header.width]) == (facts["level"], facts["shape"][:3])
    assert tuple(names) == unpacker.names
    assert tuple(map(tuple, segments)) == unpacker.archive.images
    assert b"".join(data[part.start : part.stop] for part in parts) == data


@pytest.mark.parametrize("name", KINDS)
def test_an_image_of_an_archive_is_what_its_file_is(name):
    images = np.stack([texture(21, 1030, seed=seed) for seed in range(3)])
    data = pack_arrays(codec_of(name), images, 4)
    parsed = archive.parse(data, 1024, 1 << 28)
    for index, tiles in enumerate(other.decode_archive(data, MODELS / name)):
        file = codec_of(name).encode_picture(Picture(images[index]), level=4)
        assert file == file_of_image(name, parsed, index)
        assert equal(tiles, codec_of(name).symbols(file))


GOOD_NAMES = [
    b"a\0b", b"a\0...", b"a\0 ", b"a\0\xc2\x80", b"a\0" + b"x" * 255, b"a\0" + "\u20ac".encode() * 85,
    b"a\0a:b", b"A\0a",
]  # fmt: skip
BAD_NAMES = [
    b"a", b"a\0a", b"a\0", b"\0b", b"a\0b\0", b"a\0b\0c", b"a\0..", b"a\0.", b"a\0b/c", b"a\0b\\c",
    b"a\0\x1f", b"a\0\x7f", b"a\0\x80", b"a\0\xc0\xaf", b"a\0\xed\xa0\x80", b"", b"a\0" + b"x" * 256,
    b"a\0" + "\u20ac".encode() * 86, b"a\0a\r",
]  # fmt: skip


@st.composite
def archives(draw):
    """An archive with a correct CRC-32, in which every rule of section 11 may be broken."""
    width, height = draw(SIDES), draw(SIDES)
    count = draw(st.sampled_from([2, 2, 2, 2, 0, 1, 3, 2**24, 2**24 + 1, 2**32]))
    flags = draw(st.sampled_from([0, 0, 1, 2, 2, 2, 3, 3, 4, 8, 130]))
    body = b"\xc0\xda\x01abcd" + bytes([draw(st.sampled_from([0, 3, 255])), flags])
    body += varint(width, draw(EXCESS)) + varint(height, draw(EXCESS)) + varint(count, draw(EXCESS))
    if flags & 2:
        stream = zlib.compress(draw(st.sampled_from(GOOD_NAMES + BAD_NAMES)))
        stream = draw(st.sampled_from([stream] * 8 + [stream[:-1], stream + b"\0", b"", b"plain"]))
        length = max(0, len(stream) + draw(st.sampled_from([0] * 8 + [1, -1])))
        body += varint(length, draw(EXCESS)) + stream
    number = min(-(-width // 1024) * -(-height // 1024) * count, 8) + draw(st.sampled_from([0] * 5 + [-1, 1]))
    segments = [draw(st.binary(max_size=3)) for _ in range(number)]
    for segment in segments:
        body += varint(len(segment), draw(EXCESS))
    body += b"".join(segments) + draw(st.sampled_from([b""] * 8 + [b"\0", b"1234"]))
    return resealed(body + bytes(4))


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(archives())
def test_archives_that_one_reads_or_refuses_the_other_does(data):
    same_archive(data)


def same_archive(data):
    """Both read an archive alike, or both refuse it; whether they read it."""
    ours = outcome(lambda: archive.parse(data, 1024, 1 << 28))
    theirs = outcome(lambda: other.read_archive(data, 16))
    assert (ours is None) == (theirs is None)
    if ours is not None:
        header, names, images, _ = theirs
        assert header[:2] == (ours.header.fingerprint, ours.header.level)
        assert (header.flags & 1, header.flags >> 1) == (ours.header.gray, ours.names is not None)
        assert header[3:] == (ours.header.width, ours.header.height, len(ours.images))
        assert tuple(names) == (ours.names or archive.numbered(len(images)))
        assert tuple(map(tuple, images)) == ours.images
    return ours is not None


def archived(flags, width, height, count, tail):
    start = b"\xc0\xda\x01abcd" + bytes([0, flags])
    return resealed(start + b"".join(map(varint, (width, height, count))) + tail + bytes(4))


def named(stream, tail=b"\0\0"):
    return archived(2, 1, 1, 2, varint(len(stream)) + stream + tail)


LARGE_NAMES = b"\0".join(str(i).zfill(15).encode() for i in range(2**20))


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (archived(0, 1, 1, 1, b"\0"), True),
        (archived(0, 1, 1, 2, b"\0"), False),
        (archived(0, 1, 1, 1, b"\0\0"), False),
        (archived(0, 1, 1, 0, b"\0"), False),
        (archived(0, 1, 2**24, 1, bytes(2**14)), True),
        (archived(0, 1, 2**24 + 1, 1, bytes(2**14 + 1)), False),
        (archived(0, 2**24, 1, 16, bytes(2**18)), True),
        (archived(0, 2**24, 1, 17, bytes(17 * 2**14)), False),
        (archived(0, 1, 1, 10**5, bytes(10**5)), True),
        (archived(0, 1, 1, 2**24 + 1, bytes(2**24 + 1)), False),
        *[(archived(1 << bit, 1, 1, 1, b"\0"), bit == 0) for bit in range(8)],
        (archived(0, 1, 1, 2, b"\1\2abc"), True),
        (archived(0, 1, 1, 2, b"\1\2abcd"), False),
        (archived(0, 1, 1, 2, b"\1\2ab"), False),
        (archived(0, 1, 1, 2, b"\0\x80\0"), False),
        (named(zlib.compress(b"a\0b")), True),
        (named(zlib.compress(b"a\0b")[:-1]), False),
        (named(zlib.compress(b"a\0b") + b"\0"), False),
        *[(named(zlib.compress(names)), True) for names in GOOD_NAMES],
        *[(named(zlib.compress(names)), False) for names in BAD_NAMES],
        (archived(2, 1, 1, 2**20, varint(len(zlib.compress(LARGE_NAMES))) + zlib.compress(LARGE_NAMES)
                  + bytes(2**20)), True),
        (named(zlib.compress(b"a\0b" + bytes(2**24))), False),
    ],
)  # fmt: skip
def test_the_limits_of_archives_are_the_same(data, read):
    assert same_archive(data) == read


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_one_refuses_of_an_archive_the_other_refuses(data):
    """Archives that were changed by someone who then made the CRC-32 right again."""
    name = data.draw(st.sampled_from(["context-rgb", "context-gray", "factorized-one"]))
    file = (GOLDEN_ARCHIVES / f"{name}.pack").read_bytes()
    changed = bytearray(file[:-4])
    place = data.draw(st.integers(7, min(60, len(changed) - 1)) | st.integers(7, len(changed) - 1))
    changed[place : place + data.draw(st.sampled_from([0, 1, 1, 1]))] = data.draw(st.binary(max_size=1))
    changed = resealed(bytes(changed) + bytes(4))
    if not same_archive(changed):
        return
    folder, model = MODELS / ARCHIVES[name]["model"], ARCHIVES[name]["model"]
    theirs = outcome(lambda: other.decode_archive(changed, folder))
    parsed = archive.parse(changed, 1024, 1 << 28)
    ours = outcome(
        lambda: [codec_of(model).symbols(file_of_image(model, parsed, i)) for i in range(len(parsed.images))]
    )
    assert (ours is None) == (theirs is None)
    assert ours is None or all(map(equal, theirs, ours))


def test_the_worked_example_of_archives():
    listing = "\n".join(between("archive example", "end of archive example")).split("```")[1].strip()
    lines = listing.splitlines()
    data = bytes.fromhex("".join(line[6:].split("  ")[0] for line in lines if line[4:6] == "  "))
    assert other.describe(data, MODELS / CONTEXT) == lines
    text = DOCUMENT.split("### 11.4")[1]
    assert f"{len(data)} bytes" in text
    unpacker = Unpacker(data, codec_of(CONTEXT))
    assert unpacker.names == ("sky", "sea")
    assert all(f"`{name}`" in text for name in unpacker.names)
    assert f"`{archive.SEPARATOR.join(unpacker.names).encode().hex(' ')}`" in text
    files = [file_of_image(CONTEXT, unpacker.archive, index) for index in (0, 1)]
    assert f"{len(files[0])} and {len(files[1])} bytes" in text
    second = other.decode_archive(data, MODELS / CONTEXT, [1])[0]
    assert equal(second, codec_of(CONTEXT).symbols(files[1]))
    assert f"archive without names would have {len(data) - 16}." in text
    assert data.index(unpacker.archive.images[0][0]) == 0x1E
    assert "at 1e." in text


# The worked example.


class Tracing(other.RangeDecoder):
    """Writes down every decoded entry."""

    def __init__(self, segment):
        super().__init__(segment)
        self.trace = []

    def get(self, lefts):
        quantile = (self.point - self.lower) % other.STATE // (self.range >> 24)
        entry = super().get(lefts)
        self.trace.append((len(lefts) - 1, quantile, entry, lefts[entry], lefts[entry + 1] - lefts[entry]))
        return entry


def test_the_worked_example(monkeypatch):
    text = between("example", "end of example")
    prose = " ".join("\n".join(text).split())
    listing = "\n".join(text).split("```")[1].strip().splitlines()
    data = bytes.fromhex("".join(line[6:].split("  ")[0] for line in listing if line[4:6] == "  "))
    folder = MODELS / CONTEXT
    assert other.describe(data, folder) == listing, (
        "the example changed, or the frozen model did (it never may)"
    )
    assert equal(other.decode(data, folder), codec_of(CONTEXT).symbols(data))
    assert f"{len(data)} bytes" in DOCUMENT

    _, _, (segment,), _ = other.read_container(data, 16)
    model = other.ContextModel(info_of(CONTEXT).facts, other.load_arrays(folder), 0)
    decoder = Tracing(segment)
    words = [f"0x{word:08x}" for word in decoder.words]
    first = other.decode_pass(decoder, model.first, [0, 1, 2, 3], [0] * 4)
    state = decoder.lower, decoder.range
    inputs = np.array([[0] * 8 + first + model.arrays["magnitude"][np.abs(first)].tolist() + [0] * 16])
    index, centre = model.predict(0, 1, inputs)
    second = other.decode_pass(decoder, model.bank, index, centre)
    lines = [[c, model.first[c].offset, *decoder.trace[c], first[c]] for c in range(4)] + [
        [c, index[c], model.bank[index[c]].offset, *decoder.trace[4 + i], centre[c], second[c]]
        for i, c in enumerate((2, 3, 1, 0))
    ]
    for line in lines:
        assert f"| {' | '.join(map(str, line))} |" in text
    for statement in (
        f"are {', '.join(words)}.",
        f"lower = 0x{state[0]:016x} and range = 0x{state[1]:016x};",
        f"`{' '.join(map(str, inputs[0, 8:16]))}`",
        f"the tables are {', '.join(map(str, index))} of the bank",
        f"the centres are {', '.join(map(str, centre))} ",
    ):
        assert statement in prose
    for i, letter in enumerate("abo"):
        arrays = [
            model.arrays[f"pass-0-1/layer{i}/{part}"].astype(int) for part in ("kernel", "bias", "shift")
        ]
        inputs = (inputs @ arrays[0] + arrays[1][0]) >> arrays[2]
        inputs = np.clip(inputs, 0, 255) if i < 2 else inputs
        assert f"    {letter} = {' '.join(map(str, inputs[0]))}" in text

    made = []
    monkeypatch.setattr(other, "RangeDecoder", lambda segment: made.append(Tracing(segment)) or made[0])
    model.decode(segment, 1, 2)
    lower, point = made[0].lower, made[0].point
    assert f"lower = 0x{lower:016x} and point = 0x{point:016x}" in prose
    assert f"`point - lower` = 0x{point - lower:08x}" in prose
