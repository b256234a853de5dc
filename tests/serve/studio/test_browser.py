"""The page in headless Chromium, over drawn people: what a user does, from the photo to the downloaded file."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from deocclude.inference.runtime import find_model
from drawn_editing import LEFT_BOX, SIZE_HW, TROUSERS_RGB, drawn_png

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
ANSWERED = "n => Number(document.querySelector('#canvas').dataset.answers ?? 0) > n"
IS_REQUIRED = os.environ.get("DEOCCLUDE_BROWSER_TESTS") == "required"  # set by `make test-browser`

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not IS_REQUIRED, reason="no Chromium on this machine: `make test-browser` installs it"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Studio:
    """The page, with photo pixels as coordinates. Its requests and faults are recorded."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url, self.size_hw = page, url, SIZE_HW
        self.hosts: set[str] = set()
        self.faults: list[str] = []
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self.faults.append(message.text) if message.type == "error" else None)
        page.goto(url)
        page.wait_for_selector("#samples button")

    def upload(self, data: bytes | None = None, name: str = "drawn.png") -> None:
        file = {"name": name, "mimeType": "image/png", "buffer": drawn_png() if data is None else data}
        self.page.set_input_files("#file", files=[file])

    def open(self) -> None:
        self.upload()
        self.page.wait_for_selector("#people button")
        self.page.wait_for_selector("#veil", state="hidden")  # until then a click meets the veil

    def steer(self, tool: str) -> None:
        """Take a tool for person 1."""
        self.page.click('#people button[data-number="1"]')
        self.page.click("#tab-steer")
        self.page.click(f"#tool-{tool}")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Page pixels of a photo pixel, with the photo fitted."""
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        margin = min(28, 0.04 * min(box["width"], box["height"]))
        height, width = self.size_hw
        scale = min((box["width"] - 2 * margin) / width, (box["height"] - 2 * margin) / height)
        left = box["x"] + (box["width"] - scale * width) / 2
        return left + scale * x, box["y"] + (box["height"] - scale * height) / 2 + scale * y

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.at(x, y))

    def drag(self, *places: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(*places[0]))
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*self.at(*place), steps=4)
        self.page.mouse.up()

    @property
    def answers(self) -> int:
        return int(self.page.get_attribute("#canvas", "data-answers") or 0)

    def after_answer(self, act: Callable[[], object]) -> None:
        """Do something, and wait until the server's answer is drawn."""
        before = self.answers
        act()
        self.page.wait_for_function(ANSWERED, arg=before)

    def hidden(self, number: int) -> str:
        return self.page.inner_text(f'#people button[data-number="{number}"] span:last-child')

    def prompt(self, act: Callable[[], object]) -> dict:
        """The JSON of the request that an action sends, once its answer is drawn."""
        before = self.answers
        with self.page.expect_request(lambda request: request.method in ("PUT", "POST", "DELETE")) as sent:
            act()
        self.page.wait_for_function(ANSWERED, arg=before)
        return json.loads(sent.value.post_data or "{}")

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        """Colour of the screen at a photo pixel."""
        shot = Image.open(io.BytesIO(self.page.screenshot()))
        return shot.convert("RGB").getpixel(tuple(round(value) for value in self.at(x, y)))


def opened(browser: Browser, url: str, timeout_ms: int) -> Iterator[Studio]:
    """The studio in a new page; nothing went elsewhere, and nothing failed, when it is closed."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(timeout_ms)
    studio = Studio(page, url)
    yield studio
    page.close()
    assert studio.hosts == {urlsplit(url).netloc}, "a request left the server"
    assert not studio.faults


@pytest.fixture
def studio(browser: Browser, studio_url: str) -> Iterator[Studio]:
    yield from opened(browser, studio_url, 15_000)


def is_near(colour: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 14) -> bool:
    return max(abs(a - b) for a, b in zip(colour, expected, strict=True)) <= tolerance


def saved(studio: Studio, button: str) -> tuple[str, bytes]:
    with studio.page.expect_download() as download:
        studio.page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_find_select_and_compare(studio: Studio) -> None:
    studio.open()
    page = studio.page
    assert "2 people found" in page.inner_text("#status")
    assert page.locator("#people button").all_inner_texts() == ["1\n24 % hidden", "2\n27 % hidden", "Everyone"]
    studio.click(85, 100)
    expect(page.locator('#people button[data-number="1"]')).to_have_attribute("aria-pressed", "true")
    assert is_near(studio.pixel(85, 170), TROUSERS_RGB), "the hidden legs are shown"
    page.locator("#compare").fill("0")
    assert is_near(studio.pixel(85, 170), (60, 120, 60)), "the photo is shown"
    page.locator("#compare").fill("50")
    studio.drag((160, 200), (20, 200))
    assert float(page.input_value("#compare")) < 10, "the divider follows the pointer"
    page.check("#show-parsing")
    assert page.locator("#legend li").count() == 11
    assert "Hidden share" in page.inner_text("#facts")
    assert "Complete masks" in page.inner_text("#timings")


def test_steer_undo_and_redo(studio: Studio) -> None:
    studio.open()
    page = studio.page
    studio.steer("extent")
    sent = studio.prompt(lambda: studio.drag((85, LEFT_BOX[3]), (85, 235)))
    assert sent["extent_xyxy"] == pytest.approx([60, 50, 110, 235], abs=1)
    assert studio.hidden(1) == "30 % hidden"
    assert int(page.get_attribute("#canvas", "data-answer-ms")) > 0
    studio.after_answer(lambda: page.click("#undo"))
    assert studio.hidden(1) == "24 % hidden"
    studio.after_answer(lambda: page.keyboard.press("Control+Shift+Z"))
    assert studio.hidden(1) == "30 % hidden"
    studio.after_answer(lambda: page.click("#clear-prompts"))
    assert studio.hidden(1) == "24 % hidden"


def test_points_joints_and_pose(studio: Studio) -> None:
    studio.open()
    page = studio.page
    studio.steer("point")
    assert studio.prompt(lambda: studio.click(130, 170))["points"] == [pytest.approx([130, 170], abs=1)]
    assert studio.prompt(lambda: studio.click(130, 170))["points"] == [], "a second click takes it away"
    page.click("#tool-notpoint")
    assert studio.prompt(lambda: studio.click(80, 170))["not_points"] == [pytest.approx([80, 170], abs=1)]
    page.click("#tool-joints")
    ankle = (60 + 0.62 * 50, 50 + 0.95 * 170)
    sent = studio.prompt(lambda: studio.drag(ankle, (100, 225)))
    assert sent["joints"] == {"left_ankle": pytest.approx([100, 225], abs=1)}
    assert len(sent["not_points"]) == 1, "other prompts stay"
    page.click("#tool-pose")
    page.wait_for_selector("#poses button")
    assert page.locator("#poses button").count() == 64
    assert studio.prompt(lambda: page.click('#poses button[data-pose="3"]'))["pose"] == 3
    expect(page.locator('#poses button[data-pose="3"]')).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("kind", ["front", "keep", "background"])
def test_brushes_send_masks(studio: Studio, kind: str) -> None:
    studio.open()
    page = studio.page
    page.click('#people button[data-number="1"]')
    page.click("#tab-steer")
    page.click(f"#tool-{kind}")
    sent = studio.prompt(lambda: studio.drag((70, 170), (100, 170)))
    mask = np.asarray(page_mask(sent[kind]))[..., 3] > 127
    assert mask.shape == SIZE_HW
    assert mask[165:175, 70:100].all()
    assert 300 < mask.sum() < 900
    assert not mask[:140].any()
    page.check("#brush-erase")
    studio.after_answer(lambda: studio.drag((60, 170), (110, 170)))
    assert studio.hidden(1) == "24 % hidden", "nothing is left of the mask"


def person_maps(page: Page, number: int = 1) -> str:
    """A person as the page has it: masks, parsing and probability of each pixel, and prompts."""
    return page.evaluate(
        """async (number) => {
          const { state } = await import("/studio/static/state.js");
          const { maps, prompts, box } = state.people.get(number);
          return JSON.stringify([Array.from(maps), prompts, box]);
        }""",
        number,
    )


def test_undo_of_a_painted_mask_and_of_a_removal_is_exact(studio: Studio) -> None:
    studio.open()
    page = studio.page
    first = person_maps(page)
    studio.steer("visible")
    studio.after_answer(lambda: studio.drag((70, 170), (100, 170)))
    painted = person_maps(page)
    assert painted != first
    page.click("#tool-point")
    studio.after_answer(lambda: studio.click(130, 170))
    studio.after_answer(lambda: page.click("#remove-person"))
    for _ in range(2):
        studio.after_answer(lambda: page.click("#undo"))
    assert person_maps(page) == painted
    studio.after_answer(lambda: page.click("#undo"))
    assert person_maps(page) == first
    studio.after_answer(lambda: page.click("#redo"))
    assert person_maps(page) == painted


def test_undo_of_a_state_that_the_server_keeps_no_longer_does_the_step_again(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deocclude.serve.studio.sessions.MAX_FORMER_STATES", 1)
    studio.open()
    page = studio.page
    found = person_maps(page)
    studio.steer("extent")
    studio.after_answer(lambda: studio.drag((85, LEFT_BOX[3]), (85, 235)))
    steered = person_maps(page)
    assert steered != found
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if "/state" in answer.url else None)
    studio.after_answer(lambda: page.click("#undo"))
    assert person_maps(page) == found
    studio.after_answer(lambda: page.click("#redo"))
    assert person_maps(page) == steered
    assert statuses == [410, 410]
    assert page.locator("#error").is_hidden()
    assert studio.faults == ["Failed to load resource: the server responded with a status of 410 (Gone)"] * 2
    studio.faults.clear()  # Chromium's own lines for these answers


def page_mask(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_people_are_added_corrected_and_removed(studio: Studio) -> None:
    studio.open()
    page = studio.page
    page.click("#tab-steer")
    page.click("#tool-box")
    assert studio.prompt(lambda: studio.drag((130, 30), (170, 100)))["box_xyxy"] == pytest.approx(
        [130, 30, 170, 100], abs=1
    )
    expect(page.locator('#people button[data-number="3"]')).to_have_attribute("aria-pressed", "true")
    page.click("#tool-visible")
    studio.prompt(lambda: studio.drag((150, 60), (150, 120)))
    studio.after_answer(lambda: page.click("#undo"))
    studio.after_answer(lambda: page.click("#remove-person"))
    assert page.locator("#people button[data-number='3']").count() == 0
    studio.after_answer(lambda: page.click("#undo"))
    assert page.locator("#people button").count() == 4, "the person is back"


def test_other_completions(studio: Studio) -> None:
    studio.open()
    page = studio.page
    page.click('#people button[data-number="1"]')
    page.click("#tab-steer")
    page.click("#other")
    page.wait_for_selector("#hypotheses button")
    assert page.locator("#hypotheses button").all_inner_texts() == ["50 %", "30 %", "20 %"]
    studio.after_answer(lambda: page.click("#hypotheses button >> nth=2"))
    assert studio.hidden(1) == "42 % hidden"
    page.click("#tool-notpoint")
    studio.after_answer(lambda: studio.click(80, 170))
    assert page.locator("#hypotheses").is_hidden(), "they were computed without that point"
    page.click("#tab-view")
    before = studio.pixel(LEFT_BOX[0] + 20, 180)
    page.check("#show-uncertainty")
    assert studio.pixel(LEFT_BOX[0] + 20, 180) != before


def test_layers_are_moved_and_downloads_open(studio: Studio) -> None:
    studio.open()
    page = studio.page
    page.click("#tab-layers")
    page.wait_for_selector("#layer-list li[data-number]")
    page.wait_for_function("() => document.querySelector('#status').textContent.startsWith('Drag')")
    studio.drag((85, 100), (145, 100))
    assert int(page.input_value("#layer-x")) == pytest.approx(56 + 60, abs=1)
    page.click("#background-colour")
    page.locator("#background-colour").evaluate("e => { e.value = '#102030'; e.dispatchEvent(new Event('input')) }")
    name, data = saved(studio, "#download-composed")
    composed = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert name == "drawn.composed.png"
    assert composed.shape == (*SIZE_HW, 3)
    assert tuple(composed[100, 85]) == (16, 32, 48), "the person has moved away"
    assert is_near(tuple(composed[100, 145]), (200, 60, 50))
    name, data = saved(studio, "#download-ora")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert name == "drawn.layers.ora"
        merged = np.asarray(Image.open(archive.open("mergedimage.png")).convert("RGB"))
    assert np.abs(merged.astype(int) - composed).max() <= 2, "the file shows what the page shows"
    order = page.locator("#layer-list li[data-number]").evaluate_all("rows => rows.map(r => r.dataset.number)")
    page.click(f'#layer-list [aria-label="Person {order[0]} backward"]')
    assert page.locator("#layer-list li[data-number] >> nth=0").get_attribute("data-number") == order[1]
    page.click('#layer-list [aria-label="Hide person 1"]')
    assert page.locator('#layer-list [aria-label="Show person 1"]').count() == 1
    for _ in range(3):
        page.click("#undo")
    page.wait_for_function("() => document.querySelector('#layer-x').value === '56'")
    for button, ending in (("rgba", "person1.rgba.png"), ("hidden", "person1.hidden.png")):
        name, data = saved(studio, f"#download-{button}")
        assert name == f"drawn.{ending}"
        assert Image.open(io.BytesIO(data)).mode == "RGBA"
    assert json.loads(saved(studio, "#download-json")[1])["images"][0]["file_name"] == "drawn.png"
    assert zipfile.ZipFile(io.BytesIO(saved(studio, "#download-masks")[1])).testzip() is None


def test_keyboard_reaches_the_canvas(studio: Studio) -> None:
    studio.open()
    page = studio.page
    page.click('#people button[data-number="1"]')
    page.focus("#tab-view")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-steer")).to_have_attribute("aria-selected", "true")
    page.focus("#tool-select")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector('#tool-pose[aria-checked="true"]')  # the last tool
    page.click("#tool-point")
    page.focus("#canvas")
    page.keyboard.press("Enter")  # the pointer appears in the middle, (160, 120)
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert studio.prompt(lambda: page.keyboard.press("Enter"))["points"] == [[140, 131]]


def test_bad_files_and_closed_photos_have_messages(studio: Studio) -> None:
    studio.upload(b"this is no photo", "notes.png")
    studio.page.wait_for_selector("#error:not([hidden])")
    assert "not an image in a known format" in studio.page.inner_text("#error")
    studio.page.click("#error-close")
    assert studio.page.locator("#error").is_hidden()
    studio.open()
    assert studio.faults == [
        "Failed to load resource: the server responded with a status of 422 (Unprocessable Entity)"
    ]
    studio.faults.clear()  # Chromium's own line for the answer above


def test_photo_that_the_server_closed_is_asked_for_again(studio: Studio) -> None:
    studio.open()
    page = studio.page
    closed = page.evaluate(
        """async () => {
          const loaded = performance.getEntriesByType("resource").map((one) => one.name);
          const [photo] = loaded.find((name) => name.includes("/photo.jpg")).split("/photo.jpg");
          return (await fetch(photo, { method: "DELETE" })).status;
        }"""
    )
    assert closed == 204
    page.click("#tab-steer")
    page.click("#tool-point")
    studio.click(85, 170)
    page.wait_for_selector("#start:not([hidden])")
    assert "choose it again" in page.inner_text("#error")
    assert len(studio.faults) >= 1
    studio.faults.clear()


def test_place_in_the_queue_is_shown(studio: Studio) -> None:
    page = studio.page

    held: list[Route] = []
    page.route("**/studio/api/queue/*", lambda route: route.fulfill(json={"position": 3}))
    page.route("**/studio/api/photos?*", lambda route: held.append(route))
    studio.upload()
    page.wait_for_function("() => document.querySelector('#veil-text').textContent.includes('number 3')")
    held[0].continue_()
    page.wait_for_selector("#people button")
    assert "2 people found" in page.inner_text("#status")


def test_token_is_asked_for_once(studio: Studio) -> None:
    page = studio.page
    asked = []

    def gate(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            return route.continue_()
        asked.append(route.request.url)
        return route.fulfill(status=401, json={"error": {"code": "unauthorized", "message": "a token is needed"}})

    page.route("**/studio/api/**", gate)
    studio.upload()
    page.wait_for_selector("#token[open]")
    page.fill("#token-text", "secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#people button")
    page.click("#tab-layers")
    page.wait_for_selector("#layer-list li[data-number]")
    assert len([url for url in asked if "/queue/" not in url]) == 1
    studio.faults.clear()  # Chromium's own line for the refused request


def test_layers_are_reordered_by_dragging(studio: Studio) -> None:
    studio.open()
    page = studio.page
    page.click("#tab-layers")
    rows = page.locator("#layer-list li[data-number]")
    rows.first.wait_for()
    order = rows.evaluate_all("rows => rows.map((row) => row.dataset.number)")
    rows.nth(1).drag_to(rows.nth(0))
    page.wait_for_function("first => document.querySelector('#layer-list li').dataset.number === first", arg=order[1])
    page.click("#undo")
    page.wait_for_function("first => document.querySelector('#layer-list li').dataset.number === first", arg=order[0])


def violations(page: Page) -> list[str]:
    """Faults of accessibility that axe finds serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 800, "light"), (390, 844, "dark")])
def test_accessible_and_within_the_screen(
    browser: Browser, studio_url: str, width: int, height: int, scheme: Literal["light", "dark"]
) -> None:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    try:
        studio = Studio(page, studio_url)
        assert violations(page) == []
        studio.open()
        for tab in ("view", "steer", "layers"):
            page.click(f"#tab-{tab}")
            if tab == "steer":
                page.click("#tool-front")
            if tab == "layers":
                page.wait_for_selector("#layer-list li[data-number]")
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{tab} is wider than the screen"
    finally:
        page.close()


@pytest.fixture
def model_studio(browser: Browser, model_studio_url: str) -> Iterator[Studio]:
    yield from opened(browser, model_studio_url, 120_000)


def test_model_of_the_package_is_steered_and_everything_undone(model_studio: Studio) -> None:
    studio, page = model_studio, model_studio.page
    with page.expect_response("**/studio/api/samples*") as answer:
        page.click("#samples button >> nth=0")
    photo = answer.value.json()
    studio.size_hw = (photo["height"], photo["width"])
    page.wait_for_selector("#veil", state="hidden")
    number = max(photo["changed"], key=lambda one: one["hidden_fraction"])["number"]
    first = person_maps(page, number)
    x0, y0, x1, y1 = json.loads(first)[2]
    page.click("#tab-steer")
    page.click("#tool-extent")
    sent = studio.prompt(lambda: studio.drag(((x0 + x1) / 2, y1), ((x0 + x1) / 2, y1 - (y1 - y0) / 4)))
    assert sent["extent_xyxy"][3] == pytest.approx(y1 - (y1 - y0) / 4, abs=2)
    states = [first, person_maps(page, number)]
    assert json.loads(states[1])[0] != json.loads(first)[0], "the mask follows the extent"
    if find_model("base").hypotheses:
        page.click("#other")
        page.wait_for_selector("#hypotheses button")
        studio.after_answer(lambda: page.click("#hypotheses button >> nth=1"))
        states.append(person_maps(page, number))
        assert states[2] != states[1]
    for former in reversed(states[:-1]):
        studio.after_answer(lambda: page.click("#undo"))
        assert person_maps(page, number) == former
