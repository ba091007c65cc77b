"""app.py in a real browser without a network: painting, samples, transfer, a run, two people, a phone."""

import base64
import io
import shutil
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from PIL import Image
from run_helpers import SIZE, make_run, save, train_on_images

from streets.config.app import Config
from streets.data.drawn import StreetScenes
from streets.data.label_sets import CITYSCAPES
from streets.data.reading import read_label_map
from streets.demo import handlers, scenes, serving, shelf

pytest.importorskip("gradio", reason="gradio is missing: pip install 'condflows[demo]'")
api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install 'condflows[test]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to test with: apt-get install chromium")

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
CAR, SKY, ROAD = 26, 23, 7


class Training:
    """A training of the first model that is as far as the test says."""

    finished, text = False, "it is at step 5 of 60"

    def __str__(self):
        return self.text


@pytest.fixture(scope="module")
def training():
    return Training()


@pytest.fixture(scope="module")
def page_url(training, tmp_path_factory):
    """Serve the page for two runs: one with guidance, and one of pix2pix, which has neither that nor a likelihood."""
    folder = tmp_path_factory.mktemp("runs")
    runs = (make_run(folder / "small", "encoded_glow", label_dropout=0.1, guidance=1.0, temperature=0.9),
            make_run(folder / "pix2pix", "pix2pix"))
    for epoch in (1, 3):
        save(runs[0] / "samples" / f"epoch_{epoch:04d}.png", np.full((8, 8, 3), epoch, np.uint8))
    serving.find_gradio()
    page = handlers.Handlers(shelf.Shelf(runs, "best", torch.device("cpu")), scenes.Scenes(None, "val"))
    blocks, url = serving.launched(page, training, Config())
    yield url
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    """Start a browser that finds no other machine."""
    with api.sync_playwright() as play:
        options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, page_url):
    """Open the page in a window of its own; in the end nothing was asked of another machine, and nothing failed."""
    asked, failed = [], []
    with ExitStack() as ending:

        def visit(viewport=WIDE, **options):
            context = browser.new_context(viewport=viewport, **options)
            ending.callback(context.close)
            page = context.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: failed.append(str(error)))
            page.on("console", lambda message: failed.append(message.text) if message.type == "error" else None)
            page.goto(page_url)
            # The first scene is there, not the empty canvas.
            page.wait_for_function("document.querySelector('#canvas canvas')?.getContext('2d')"
                                   ".getImageData(0, 0, 1, 1).data[3] == 255")
            return page

        yield visit
    assert asked
    assert all(url.startswith((page_url, "data:", "blob:")) for url in asked), asked
    assert not failed, failed


@pytest.fixture(scope="module")
def images_url(tmp_path_factory):
    """Serve the page for a run of pairs of images."""
    place = train_on_images(tmp_path_factory.mktemp("images"))
    config = Config(runs=(place / "run",))
    runs = shelf.Shelf(config.runs, "best", torch.device("cpu"))
    serving.find_gradio()
    blocks, url = serving.launched(handlers.Handlers(runs, serving.scenes_of(runs, config)), None, config)
    yield url, place
    blocks.close(verbose=False)


def painted(page):
    """Read the label ids on the canvas."""
    url = page.evaluate("document.querySelector('#canvas canvas').toDataURL()")
    return CITYSCAPES.ids_from_colors(decoded(url)[..., :3])


def decoded(url):
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def drag(page, start, end):
    """Draw a line on the canvas, between places in parts of its width and height."""
    box = page.locator("#canvas canvas").bounding_box()
    (x0, y0), (x1, y1) = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end))
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move(x1, y1, steps=4)
    page.mouse.up()


def choose(page, name):
    page.locator("#canvas").get_by_role("button", name=name, exact=True).click()


def images(page, gallery="#samples"):
    return page.eval_on_selector_all(f"{gallery} img", "all => all.map(image => image.src)")


def run_and_wait(page, button, status, text):
    page.locator(button).click()
    api.expect(page.locator(status)).to_contain_text(text, timeout=120_000)


def sample(page, text="4 samples of small"):
    """Sample, and return the pictures: the label map that was read, then the samples."""
    run_and_wait(page, "#sample", "#status", text)
    return images(page)


def fill_in(page, place, value):
    """Type a value into a number or the number of a slider."""
    field = page.locator(f"{place} input[type=number]")
    field.fill(str(value))
    field.press("Enter")


def test_paint_and_sample(visit, tmp_path):
    """Paint, fill, erase and undo; then sample, at other temperatures and seeds."""
    page = visit()
    begin = painted(page)
    assert np.array_equal(begin[2::4, 2::4], StreetScenes("val", SIZE)[0]["label"])
    choose(page, "car")
    drag(page, (0.1, 0.5), (0.9, 0.5))
    line = painted(page)
    assert (line[64, 32:224] == CAR).all()
    assert np.array_equal(line[:50], begin[:50])
    choose(page, "Eraser")
    drag(page, (0.1, 0.5), (0.9, 0.5))
    assert np.array_equal(painted(page), begin)
    choose(page, "Undo")
    assert np.array_equal(painted(page), line)
    choose(page, "sky")
    choose(page, "Fill")
    drag(page, (0.5, 0.5), (0.5, 0.5))
    filled = painted(page)
    assert (filled[64, 32:224] == SKY).all()
    assert np.array_equal(filled != line, (line == CAR) & (filled == SKY))

    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    download.value.save_as(tmp_path / "painted.png")
    assert np.array_equal(read_label_map(tmp_path / "painted.png")["label"], filled)  # as sample.py reads it
    first = sample(page)
    assert np.array_equal(decoded(first[0]), CITYSCAPES.colorize(filled[2::4, 2::4]))
    assert len({*first}) == 5
    captions = page.locator("#samples figcaption").all_inner_texts()
    assert all("bits/dim, log p -" in caption for caption in captions[1:])
    fill_in(page, "#temperature", 0)
    assert len({*sample(page, "temperature 0,")[1:]}) == 1
    fill_in(page, "#temperature", 0.9)
    fill_in(page, "#seed", 7)
    assert not {*sample(page, "seed 7, temperature 0.9, guidance 1")[1:]} & {*first[1:]}


def test_pictures_that_were_painted_elsewhere(visit, tmp_path):
    """Open a file with a colour of no class, which is marked; then begin with another scene."""
    page = visit()
    colors = np.zeros((128, 256, 3), np.uint8) + np.uint8(CITYSCAPES.colorize(np.uint8(ROAD)))
    colors[:64] = (255, 128, 255)
    save(tmp_path / "painted.png", colors)
    page.locator("#canvas input[type=file]").set_input_files(tmp_path / "painted.png")
    page.wait_for_function("document.querySelector('#canvas canvas').getContext('2d')"
                           ".getImageData(0, 0, 1, 1).data[0] == 255")
    marked = decoded(sample(page)[0])
    assert "first at 0 from the left and 0 from the top, where it is #ff80ff" in page.locator("#status").inner_text()
    assert {*map(tuple, marked[:14].reshape(-1, 3).tolist())} == {(255, 0, 255), (255, 255, 255)}
    assert (marked[16:] == colors[-1, -1]).all()
    fill_in(page, "#scene-number", 3)
    scene = StreetScenes("val", SIZE)[3]["condition"].permute(1, 2, 0).numpy()
    page.wait_for_function("color => [...document.querySelector('#canvas canvas').getContext('2d')"
                           ".getImageData(0, 0, 1, 1).data].slice(0, 3).join() == color",
                           arg=",".join(map(str, scene[0, 0])))
    assert np.array_equal(painted(page)[2::4, 2::4], CITYSCAPES.ids_from_colors(scene))


def test_other_tabs_and_another_run(visit):
    page = visit()
    page.get_by_role("tab", name="Transfer").click()
    run_and_wait(page, "#transfer", "#transfer-status", "On its own label map the content is the photo again")
    assert len({*images(page, "#transferred")}) == 5
    page.get_by_label("what I painted").check()
    run_and_wait(page, "#transfer", "#transfer-status", "on the structure of painted")
    assert len({*images(page, "#transferred")}) == 4
    page.get_by_role("tab", name="Run").click()
    run_and_wait(page, "#look", "#look-text", "encoded_glow for images of 32 x 64")
    assert page.locator("#epochs figcaption").all_inner_texts() == ["epoch 3", "epoch 1"]
    api.expect(page.locator("#curves img")).to_be_visible()
    page.get_by_role("tab", name="Paint").click()
    api.expect(page.locator("#guidance")).to_be_visible()
    page.locator("#run input").click()
    page.get_by_role("option", name="pix2pix").click()
    api.expect(page.locator("#guidance")).to_be_hidden()
    api.expect(page.locator("#temperature")).to_be_hidden()
    sample(page, "4 samples of pix2pix, seed 0.")
    assert "no likelihood" in page.locator("#samples figcaption").all_inner_texts()[1:]


def test_the_page_says_how_far_the_first_model_is(visit, training):
    page = visit()
    banner = page.locator("#training")
    api.expect(banner).to_contain_text("it is at step 5 of 60")
    training.text = "it is at step 6 of 60"
    api.expect(banner).to_contain_text("it is at step 6 of 60", timeout=20_000)
    training.finished = True
    api.expect(banner).to_contain_text("is trained", timeout=20_000)


def test_two_people_click_at_once_and_a_mistake_is_said(visit):
    pages = visit(), visit()
    fill_in(pages[1], "#seed", 3)
    for page in pages:
        page.locator("#sample").click()
    for page, seed in zip(pages, (0, 3), strict=True):
        api.expect(page.locator("#status")).to_contain_text(f"4 samples of small, seed {seed}", timeout=120_000)
    first, second = map(images, pages)
    assert first[0] == second[0]
    assert not {*first[1:]} & {*second[1:]}
    pages[0].evaluate("document.querySelector('#canvas canvas').toDataURL = () => 'nothing'")
    choose(pages[0], "Undo")
    drag(pages[0], (0.1, 0.5), (0.9, 0.5))
    run_and_wait(pages[0], "#sample", "#status", "This is not possible: expected a painted label map")


def test_a_phone(visit):
    """Paint with a finger; nothing is wider than the phone, and two samples are beside each other."""
    page = visit(PHONE, is_mobile=True, has_touch=True)
    begin = painted(page)
    choose(page, "car")
    page.locator("#canvas canvas").tap()
    assert (painted(page) != begin).any()
    sample(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    tops = page.eval_on_selector_all("#samples img", "all => all.map(image => image.getBoundingClientRect().top)")
    assert tops[0] == tops[1] < tops[2] == tops[3]
    assert page.get_by_role("tab", name="Run").is_visible()


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_page_of_images(browser, images_url, viewport):
    """Sample for a pair of the data, then for a file."""
    url, place = images_url
    with browser.new_context(viewport=viewport) as context:
        page = context.new_page()
        page.goto(url)
        page.locator("#scene-number input").fill("3")
        page.locator("#scene-number input").press("Enter")
        first = sample(page, "4 samples of run")
        assert len({*first}) == 5
        assert (decoded(first[0]) == 120).all()
        page.locator("#given input[type=file]").set_input_files(place / "data" / "A" / "val" / "1.png")
        api.expect(page.locator("#given a[href$='/1.png']")).to_be_visible()
        fill_in(page, "#seed", 4)
        of_file = sample(page, "4 samples of run, seed 4")
        assert (decoded(of_file[0]) == 40).all()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.get_by_role("tab", name="Run").click()
        page.locator("#look").click()
        api.expect(page.locator("#look-text")).to_contain_text("encoded_glow")
        assert page.get_by_role("tab").all_inner_texts() == ["Sample", "Run"]
