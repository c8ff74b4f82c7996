"""The report in headless Chromium, from the file system as its readers open it."""

import io
import os
import re
import shutil

import numpy as np
import page_helpers as helpers
import pytest
from PIL import Image

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

LOADED = "all => all.map(one => [one.complete, one.naturalWidth, one.naturalHeight])"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt install chromium)")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return helpers.make(tmp_path_factory.mktemp("browser") / "report")


@pytest.fixture(scope="module")
def browser():
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with playwright.sync_playwright() as driver:
        # Chromium's sandbox refuses to work for root.
        options = ["--no-sandbox"] if is_root else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, report):
    """A function that opens the report; at the end, nothing may have gone wrong in it."""
    pages, troubles = [], []

    def open_report(width=1280, height=900, hash="", folder=report, **options):
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("requestfailed", lambda request: troubles.append(f"failed: {request.url}"))
        page.on("dialog", lambda dialog: (troubles.append("a name ran as a script"), dialog.dismiss()))
        page.on(
            "request", lambda request: re.match("file:|data:", request.url) or troubles.append(request.url)
        )
        page.goto((folder / "index.html").as_uri() + hash)
        page.wait_for_load_state("networkidle")
        return page

    yield open_report
    for page in pages:
        page.close()
    assert troubles == []


def until(page, condition):
    """Waits; not with Playwright's own, which evaluates strings, which the page's policy forbids."""
    for _ in range(100):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("waited in vain")


def shown_pixels(page, report):
    """The pixels of the files that the panes show, decoded here."""
    sources = page.eval_on_selector_all(".pane img", "all => all.map(one => one.getAttribute('src'))")
    return [np.array(Image.open(report / source)) for source in sources]


def expected(image, rate, codec):
    comparison = list(helpers.comparisons())[image]
    if codec == "original":
        return np.broadcast_to(comparison.original, (64, 96, 3))
    return comparison.rates[rate][helpers.CODECS.index(codec)].pixels


def split(page):
    """Where the divider is and what is cut from the right picture, percent of the stage's width."""
    clip = page.eval_on_selector(".pane:nth-child(2)", "pane => pane.style.clipPath")
    cut = float(re.search(r"([\d.]+)%", clip)[1])
    stage, divider = page.locator("#stage").bounding_box(), page.locator("#divider").bounding_box()
    place = (divider["x"] + divider["width"] / 2 - stage["x"]) / stage["width"] * 100
    assert place == pytest.approx(cut, abs=0.2)
    assert float(page.get_attribute("#divider", "aria-valuenow")) == pytest.approx(cut, abs=0.51)
    return cut


def zoom(page):
    return page.eval_on_selector(
        ".pane img", "image => image.getBoundingClientRect().width / image.naturalWidth"
    )


def crop(page, x, y, width, height):
    """What is on the screen, a part of the stage from its upper left corner on."""
    stage = page.locator("#stage").bounding_box()
    clip = {"x": stage["x"] + x, "y": stage["y"] + y, "width": width, "height": height}
    with Image.open(io.BytesIO(page.screenshot(clip=clip))) as image:
        return np.array(image.convert("RGB"))


def test_pictures_shown_are_the_decoded_ones(open_page, report):
    page = open_page()
    for image in range(2):
        page.select_option("#image", str(image))
        for rate in range(2):
            page.locator("#rates button").nth(rate).click()
            for left, right in (("original", helpers.OURS), ("jpeg", "webp<b>")):
                page.select_option("#left", left)
                page.select_option("#right", right)
                until(page, lambda: all(one[0] for one in page.eval_on_selector_all(".pane img", LOADED)))
                assert page.eval_on_selector_all(".pane img", LOADED) == [[True, 96, 64]] * 2
                for pixels, codec in zip(shown_pixels(page, report), (left, right), strict=True):
                    assert np.array_equal(pixels, expected(image, rate, codec))


def test_pixels_on_the_screen_at_full_zoom(open_page):
    """At the most zoom, every pixel of the picture is a square of one colour, and the right one."""
    page = open_page(hash="#image=1&rate=1&left=original&right=jpeg&mode=slide&split=100")
    page.locator("#stage").scroll_into_view_if_needed()
    page.click("#zoom-most")
    assert zoom(page) == 32
    assert page.inner_text("#zoom") == "3200 %"
    left, top = page.evaluate(
        "() => { const box = (q) => document.querySelector(q).getBoundingClientRect();"
        "const [i, s] = [box('.pane img'), box('#stage')];"
        "return [i.left - s.left, i.top - s.top]; }"
    )
    column, row = int(-left // 32) + 6, int(-top // 32) + 5
    x, y = left + 32 * column, top + 32 * row
    square = crop(page, round(x) + 2, round(y) + 2, 28, 28)
    assert np.all(square == square[0, 0])
    assert np.abs(square[0, 0].astype(int) - expected(0, 0, "original")[row, column]).max() <= 1


def test_difference(open_page):
    page = open_page(hash="#image=1&rate=1&left=jpeg&right=jpeg&mode=difference")
    page.locator("#stage").scroll_into_view_if_needed()
    middle = page.locator("#stage").bounding_box()
    x, y = middle["width"] / 2 - 100, middle["height"] / 2 - 100
    assert not crop(page, x, y, 200, 200).any()
    page.select_option("#right", helpers.OURS)
    page.fill("#amplify", "1")
    page.click("#zoom-most")
    faint = crop(page, x, y, 200, 200).mean()
    truth = np.abs(expected(0, 0, "jpeg").astype(int) - expected(0, 0, helpers.OURS)).mean()
    assert faint == pytest.approx(truth, rel=0.3)
    page.fill("#amplify", "8")
    assert crop(page, x, y, 200, 200).mean() > 2 * faint
    assert page.inner_text("#difference-tag") == f"| jpeg − {helpers.OURS} | × 8"
    assert not page.is_visible("#divider")


def test_the_divider_is_dragged(open_page):
    page = open_page()
    page.locator("#stage").scroll_into_view_if_needed()
    assert split(page) == 50
    stage, handle = page.locator("#stage").bounding_box(), page.locator("#divider span").bounding_box()
    y = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] * 0.25, y, steps=4)
    page.mouse.up()
    assert split(page) == pytest.approx(25, abs=0.5)
    page.mouse.move(stage["x"] + stage["width"] * 0.9, y)
    assert split(page) == pytest.approx(25, abs=0.5)
    # Zoomed in, a drag beside the divider moves the picture and not the divider.
    page.click("#zoom-most")
    before = page.locator(".pane img").first.bounding_box()
    page.mouse.move(stage["x"] + stage["width"] * 0.6, y)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] * 0.6 + 64, y + 32, steps=3)
    page.mouse.up()
    after = page.locator(".pane img").first.bounding_box()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((64, 32), abs=0.1)
    assert split(page) == pytest.approx(25, abs=0.5)


def test_the_divider_follows_a_finger(open_page):
    page = open_page(375, 760, has_touch=True, is_mobile=True)
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2)
    assert split(page) == pytest.approx(70, abs=1)


def test_two_fingers_zoom(open_page):
    page = open_page(375, 760, has_touch=True, is_mobile=True)
    page.locator("#stage").scroll_into_view_if_needed()
    fit, box = zoom(page), page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind, *places):
        points = [{"x": x + place, "y": y, "id": i} for i, place in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -20)
    touch("touchStart", -20, 20)
    for apart in (30, 40, 60, 80):
        touch("touchMove", -apart, apart)
    touch("touchEnd")
    assert zoom(page) == pytest.approx(4 * fit, rel=0.05)
    assert page.evaluate("visualViewport.scale") == 1
    assert split(page) == pytest.approx(50, abs=10)


def test_the_divider_by_keyboard(open_page):
    page = open_page()
    page.focus("#divider")
    for key, at in (
        ("ArrowRight", 51),
        ("Shift+ArrowLeft", 41),
        ("PageUp", 51),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("End", 100),
    ):
        page.keyboard.press(key)
        assert split(page) == at
    assert page.get_attribute("#divider", "role") == "slider"


def test_zoom(open_page):
    page = open_page()
    page.locator("#stage").scroll_into_view_if_needed()
    fit = zoom(page)
    for _ in range(12):
        if page.is_enabled("#zoom-in"):
            page.click("#zoom-in")
    assert zoom(page) == 32
    rendering = "image => getComputedStyle(image).imageRendering"
    assert page.eval_on_selector(".pane img", rendering) == "pixelated"
    page.click("#zoom-one")
    page.click("#zoom-fit")
    assert zoom(page) == pytest.approx(fit)
    assert page.is_disabled("#zoom-out")
    # The wheel zooms at the pointer: the place under it stays.
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.45
    page.wait_for_timeout(300)  # a page that is being scrolled is not zoomed
    page.mouse.move(x, y)

    def place():
        image = page.locator(".pane img").first.bounding_box()
        return (x - image["x"]) / image["width"], (y - image["y"]) / image["height"]

    before = place()
    page.mouse.wheel(0, -400)
    until(page, lambda: zoom(page) > 1.5 * fit)
    assert place() == pytest.approx(before, abs=0.01)
    page.focus("#stage")
    page.keyboard.press("0")
    assert zoom(page) == pytest.approx(fit)
    page.keyboard.press("+")
    assert zoom(page) > fit
    page.dblclick("#stage", position={"x": 50, "y": 50})
    assert zoom(page) == pytest.approx(fit)


def test_side_by_side_and_all_show_the_same_place(open_page):
    page = open_page()
    for mode, count in (("beside", 2), ("all", 4)):
        page.click(f"[data-mode={mode}]")
        page.click("#zoom-most")
        panes = page.eval_on_selector_all(
            ".pane",
            "all => all.map(pane => { const box = (one) => one.getBoundingClientRect();"
            "const [p, i] = [box(pane), box(pane.firstChild)];"
            "return [i.left - p.left, i.top - p.top, i.width, p.width, p.height].map(Math.round); })",
        )
        assert len(panes) == count
        assert len({tuple(pane) for pane in panes}) == 1


def test_the_table_of_the_pictures(open_page):
    page = open_page()
    rows = page.eval_on_selector_all(
        "#shown tbody tr", "all => all.map(row => [...row.children].map(cell => cell.textContent))"
    )
    assert [row[0].removesuffix("left").removesuffix("right") for row in rows] == list(helpers.CODECS)
    assert rows[1][1:4] == ["1\u202f001", "+0.1 %", "0.500"]
    assert rows[1][-1] == "10"
    best = page.eval_on_selector_all("#shown .best", "all => all.map(cell => cell.textContent)")
    assert best == ["0.9000", "0.1000", "32.00"]  # the only MS-SSIM, the lowest LPIPS, the highest PSNR
    assert "not defined" in rows[1]
    assert "avif is left out: <too large>" in page.inner_text("#image-notes")


def test_names_are_shown_as_they_are(open_page):
    page = open_page()
    names = page.eval_on_selector_all("#image option", "all => all.map(one => one.textContent)")
    assert (
        names[0] == "photos/<script>alert(1)</script>.png".removeprefix("photos/") or "<script>" in names[0]
    )
    assert names[1].endswith('a&b "c".png')


def test_the_address_remembers(open_page, report):
    page = open_page()
    page.click("#next")
    page.locator("#rates button").nth(1).click()
    page.select_option("#left", "original")
    page.select_option("#right", "webp<b>")
    page.click("[data-mode=beside]")
    page.click("#zoom-most")
    until(page, lambda: "at=" in page.evaluate("location.hash"))
    again = open_page(hash=page.evaluate("location.hash"))
    assert again.input_value("#image") == "1"
    assert again.get_attribute("#rates button >> nth=1", "aria-pressed") == "true"
    assert (again.input_value("#left"), again.input_value("#right")) == ("original", "webp<b>")
    assert again.get_attribute("[data-mode=beside]", "aria-pressed") == "true"
    assert zoom(again) == 32
    assert np.array_equal(shown_pixels(again, report)[1], expected(1, 1, "webp<b>"))


@pytest.mark.parametrize(
    "hash",
    [
        "#image=99&rate=-1&left=%3Cb%3E&right=&mode=__proto__&at=1,2&split=x",
        "#image=1.7&rate=2.9&at=NaN,1,2",
        "#%",
    ],
)
def test_a_broken_address_does_no_harm(open_page, hash):
    page = open_page(hash=hash)
    assert page.is_visible("#stage")
    assert zoom(page) > 0


def test_the_curves(open_page):
    page = open_page()

    def drawn():
        return dict(
            page.eval_on_selector_all(
                ".curve", "all => all.map(g => [g.dataset.curve, g.firstChild.getAttribute('points')])"
            )
        )

    mean = drawn()
    assert set(mean) == {*helpers.CODECS, "VTM, published"}
    assert all(len(points.split()) == 3 for name, points in mean.items() if name in helpers.CODECS)
    page.select_option("#metric", "lpips")
    assert set(drawn()) == set(helpers.CODECS)
    assert drawn()[helpers.OURS] != mean[helpers.OURS]
    assert "lower is better" in page.text_content("#chart")
    page.select_option("#metric", "psnr_rgb_db")
    page.check("#log")
    assert drawn()[helpers.OURS] != mean[helpers.OURS]
    page.uncheck("#log")
    page.select_option("#scope", "1")
    assert set(drawn()) == set(helpers.CODECS)  # published ones are means
    page.select_option("#scope", "mean")
    page.uncheck("#published")
    assert set(drawn()) == set(helpers.CODECS)
    page.locator("#legend button").nth(1).click()
    assert set(drawn()) == {helpers.OURS, "webp<b>"}
    assert page.get_attribute("#legend button >> nth=1", "aria-pressed") == "false"
    page.locator("#legend button").nth(0).click()
    page.locator("#legend button").nth(2).click()
    assert page.text_content("#chart") == "No curve chosen"


def test_values_of_the_curves(open_page):
    page = open_page()
    page.locator("#chart").scroll_into_view_if_needed()
    point = page.locator(f'.curve[data-curve="{helpers.OURS}"] path').nth(1).bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    tip = page.inner_text("#tip")
    assert tip.splitlines() == [
        helpers.OURS,
        "PSNR RGB dB 35.00",
        "0.500 bits per pixel",
        "setting 50, 50\u202f000 bytes",
    ]
    page.mouse.move(5, 5)
    assert not page.is_visible("#tip")
    page.focus("#chart")
    page.keyboard.press("ArrowRight")
    assert helpers.OURS in page.inner_text("#tip")
    page.keyboard.press("ArrowDown")
    assert "jpeg" in page.inner_text("#tip")


@pytest.mark.parametrize("width", [360, 375, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_scrolls_sideways(open_page, width, scheme):
    page = open_page(width, 760, color_scheme=scheme)
    for mode in ("slide", "beside", "all", "difference"):
        page.click(f"[data-mode={mode}]")
        assert page.evaluate("document.documentElement.scrollWidth") == width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 24)"
    assert dark == (scheme == "dark")


def test_nothing_moves_while_pictures_change(open_page):
    page = open_page()

    def places():
        top = "all => all.map(one => Math.round(one.getBoundingClientRect().top + scrollY))"
        return page.eval_on_selector_all("#strip, #stage, #zoom-fit, #shown, .notes", top)

    before = places()
    page.click("#next")
    page.locator("#rates button").nth(1).click()
    page.wait_for_timeout(100)
    assert places() == before
    page.click("[data-mode=beside]")
    assert places() == before


def test_every_control_has_a_name(open_page):
    page = open_page()
    nameless = page.eval_on_selector_all(
        "button, select, input, [role=slider]",
        "all => all.filter(one => !(one.textContent.trim() || one.getAttribute('aria-label') || one.title"
        " || one.labels?.length)).map(one => one.outerHTML)",
    )
    assert nameless == []


def test_a_report_without_images_or_figures(open_page, tmp_path):
    nothing = {"schema": 1, "results": [], "means": [], "bd_rate": [], "skipped": []}
    folder = helpers.make(tmp_path / "empty", figures=nothing, comparisons=[], published=None)
    page = open_page(folder=folder)
    assert page.is_hidden("#curves")
    assert page.is_hidden("#pictures")
