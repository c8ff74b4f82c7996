"""docs/INPUTS.md names the tests of real-world images, and what they say."""

import re
from pathlib import Path

import test_inputs_jpeg
import test_inputs_modern
import test_inputs_other
import test_inputs_png
import test_inputs_tiff

MODULES = (test_inputs_jpeg, test_inputs_modern, test_inputs_other, test_inputs_png, test_inputs_tiff)
DOCUMENT = Path(__file__).parents[1] / "docs" / "INPUTS.md"


def _documented():
    """Names of rows to what the document says that they say."""
    rows = []
    for line in DOCUMENT.read_text().splitlines():
        cells = line.strip("|").split("|")
        if line.startswith("| `") and len(cells) == 4:
            says = tuple(re.findall("`([^`]+)`", cells[3]))
            rows += [(name, says, cells[2]) for name in re.findall("`([^`]+)`", cells[0])]
    return rows


def _tested():
    rows = {row.name: row for module in MODULES for row in module.ROWS}
    refusals = [getattr(module, name, []) for module in MODULES for name in ("REFUSALS", "WITHOUT")]
    return rows, {row.name: row for group in refusals for row in group}


def test_every_row_is_a_test_and_every_test_a_row():
    rows, refusals = _tested()
    names = [name for name, _, _ in _documented()]
    assert len(names) == len(set(names))
    assert set(names) == {*rows, *refusals}
    assert len(names) == sum(
        len(getattr(module, group, [])) for module in MODULES for group in ("ROWS", "REFUSALS", "WITHOUT")
    )


def test_messages_and_pixels_are_as_documented():
    rows, refusals = _tested()
    for name, says, pixels in _documented():
        if name in refusals:
            assert says == (refusals[name].message,), name
            assert pixels.strip() == "refused", name
            continue
        row = rows[name]
        assert says == row.warnings, name
        if row.tolerance:
            assert re.search(rf"(?<![\d.]){row.tolerance}(?![\d.])", pixels), name
        else:
            assert "exact" in pixels, name
        assert ("profile is made" in pixels or "libjxl's profile" in pixels) == (row.profile == "made"), name
