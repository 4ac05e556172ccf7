"""report.html in a real Chromium: it draws, its controls work, and it stays off the network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from figure import figure
from records import a_record
from test_report import jpeg

from stsp_model.drawing import SIDE_COLOURS
from stsp_model.replay.record import Record
from stsp_model.replay.report import write_report

pytest.importorskip("plotly", reason="plotly draws reports: pip install '.[report]'")
pytest.importorskip("selenium", reason="selenium drives the browser: pip install '.[test]'")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="there is no Chromium to open reports in: apt install chromium chromium-driver",
)

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1366,768",
)
WAIT = 60  # s for what takes a second where the machine is not busy
# Pixels of the 3D canvas that have about this colour.
PIXELS = """
const shown = document.querySelector("#solid canvas"), [r, g, b] = arguments[0];
const canvas = new OffscreenCanvas(shown.width, shown.height);
const copy = canvas.getContext("2d", {willReadFrequently: true});
copy.drawImage(shown, 0, 0);
const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
let count = 0, x = 0;
for (let i = 0; i < data.length; i += 4)
  if (data[i + 3] > 200 && Math.hypot(data[i] - r, data[i + 1] - g, data[i + 2] - b) < 30) {
    count += 1;
    x += (i / 4) % canvas.width;
  }
return [count, x / count];
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    driver.set_page_load_timeout(WAIT)
    driver.set_script_timeout(WAIT)
    driver.get("about:blank")  # away from its start page, which loads parts of its own
    yield driver
    driver.quit()


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the report of a record; at the end the browser must have had nothing to complain of."""
    urls = []

    def open_report(record: Record, images: dict[int, bytes] | None = None, end: str = "") -> Any:
        file = tmp_path / "report.html"
        write_report(file, record, images)
        urls.append(file.as_uri())
        chromium.get("about:blank")
        chromium.get(file.as_uri() + end)
        until(chromium, lambda: readout(chromium) != "")
        return chromium

    chromium.get_log("browser")
    chromium.get_log("performance")
    yield open_report
    assert chromium.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert urls[0] in asked  # so requests do show in this log
    inside = ("data:", "blob:", "about:", *urls)
    assert [url for url in asked if not url.startswith(inside)] == []


def until(driver: Any, condition: Callable[[], Any]) -> None:
    WebDriverWait(driver, WAIT, poll_frequency=0.05).until(lambda _: condition())


def readout(driver: Any) -> str:
    return driver.find_element(By.ID, "readout").text


def at(driver: Any, frame: int) -> Callable[[], bool]:
    return lambda: f"frame {frame} of" in readout(driver)


def picture(driver: Any, canvas: str = "#solid canvas") -> str:
    return driver.execute_script("return document.querySelector(arguments[0]).toDataURL()", canvas)


def test_the_slider_moves_the_skeleton(opened: Callable[..., Any]) -> None:
    page = opened(figure(120, drops=0.1))
    assert page.title == "Replay of made-up.mcap"
    for side in ("left", "right"):
        assert page.execute_script(PIXELS, SIDE_COLOURS[side])[0] > 100
    first = {canvas: picture(page, canvas) for canvas in ("#solid canvas", "#flat canvas")}
    slider = page.find_element(By.ID, "slider")
    assert slider.get_attribute("max") == "119"
    slider.send_keys(Keys.ARROW_RIGHT * 12)
    until(page, at(page, 12))
    for canvas, before in first.items():
        assert picture(page, canvas) != before
    slider.send_keys(Keys.HOME)
    until(page, at(page, 0))
    assert picture(page) == first["#solid canvas"]
    # Dragged to the middle with the mouse.
    ActionChains(page).move_to_element(slider).click().perform()
    until(page, lambda: 50 < int(slider.get_attribute("value")) < 70)


def test_a_moment_a_curve_and_an_address_lead_to_their_frames(opened: Callable[..., Any]) -> None:
    page = opened(figure(300), end="#frame=77")
    until(page, at(page, 77))
    link = page.find_element(By.CSS_SELECTOR, "#moments a")
    link.click()
    until(page, at(page, int(link.get_attribute("href").split("=")[1])))
    page.find_element(By.ID, "back").click()
    link.click()  # the address is that of the link already
    until(page, at(page, int(link.get_attribute("href").split("=")[1])))
    plot = page.find_element(By.CSS_SELECTOR, "#time-plot .nsewdrag")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    ActionChains(page).move_to_element(plot).pause(0.3).click().perform()
    until(page, lambda: "5.0" in readout(page)[:4] or "4.9" in readout(page)[:4])


def test_play_runs_to_the_end_and_pauses(opened: Callable[..., Any]) -> None:
    page = opened(figure(30))
    button = page.find_element(By.ID, "play")
    button.click()
    until(page, at(page, 29))
    until(page, lambda: "play" in button.text)
    button.click()  # from the beginning again
    until(page, lambda: "pause" in button.text or "play" in button.text)
    button.click()


def test_keys_move_the_skeleton_whatever_was_clicked_before(opened: Callable[..., Any]) -> None:
    page = opened(figure(300))
    for name, frame in (("on", 1), ("back", 0)):
        page.find_element(By.ID, name).click()
        until(page, at(page, frame))
    ActionChains(page).send_keys(Keys.ARROW_RIGHT * 3, Keys.ARROW_LEFT).perform()
    until(page, at(page, 2))
    # On a button the space bar presses that alone, elsewhere it plays and pauses.
    play, on = page.find_element(By.ID, "play"), page.find_element(By.ID, "on")
    ActionChains(page).click(on).send_keys(" ").perform()
    until(page, at(page, 4))
    assert "play" in play.text
    page.find_element(By.ID, "slider").send_keys(Keys.HOME, " ")
    until(page, lambda: "pause" in play.text)
    page.find_element(By.TAG_NAME, "h1").click()
    ActionChains(page).send_keys(" ").perform()
    until(page, lambda: "play" in play.text)
    # With Alt the arrows belong to the browser.
    slider = page.find_element(By.ID, "slider")
    before = slider.get_property("value")
    ActionChains(page).key_down(Keys.ALT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.ALT).perform()
    assert slider.get_property("value") == before


def test_play_does_not_wait_for_a_clock_that_was_set(opened: Callable[..., Any]) -> None:
    record = figure(12)
    stamps = record.stamps.copy()
    stamps[6:] += 50 * 365 * 86400 * 1_000_000_000
    page = opened(replace(record, stamps=stamps))
    page.find_element(By.ID, "play").click()
    until(page, at(page, 11))


def test_the_skeleton_turns_and_the_view_can_be_chosen(opened: Callable[..., Any]) -> None:
    page = opened(figure(60))
    Select(page.find_element(By.ID, "side")).select_by_visible_text("camera's view")
    until(page, lambda: page.execute_script(PIXELS, SIDE_COLOURS["left"])[0] > 100)
    # The child faces the camera, its left hip on the right of the image, as in the data.
    before = picture(page)
    left, right = (page.execute_script(PIXELS, SIDE_COLOURS[s])[1] for s in ("left", "right"))
    assert left > right
    pane = page.find_element(By.ID, "solid")
    ActionChains(page).drag_and_drop_by_offset(pane, 150, 0).perform()
    until(page, lambda: picture(page) != before)
    Select(page.find_element(By.ID, "place")).select_by_visible_text("in the room")
    until(page, lambda: picture(page) != before)


def test_one_of_several_tracks_can_be_chosen(opened: Callable[..., Any]) -> None:
    page = opened(figure(90, people=2))
    both = page.execute_script(PIXELS, SIDE_COLOURS["left"])[0]
    Select(page.find_element(By.ID, "view")).select_by_visible_text("p2")
    until(page, lambda: page.execute_script(PIXELS, SIDE_COLOURS["left"])[0] < 0.8 * both)


def test_pictures_stand_behind_the_skeleton_where_given(opened: Callable[..., Any]) -> None:
    page = opened(figure(30), {3: jpeg(), 20: jpeg(seed=1)})
    page.find_element(By.ID, "slider").send_keys(Keys.ARROW_RIGHT * 3)
    until(page, at(page, 3))
    image = page.find_element(By.ID, "picture")
    until(page, lambda: image.get_property("naturalWidth") == 640)
    note = page.find_element(By.ID, "flat-note")
    assert note.text == ""
    shown = image.get_attribute("src")
    page.find_element(By.ID, "slider").send_keys(Keys.END)
    until(page, lambda: "picture of frame 20" in note.text)
    assert image.get_attribute("src") != shown


def test_without_pictures_the_page_says_why(opened: Callable[..., Any]) -> None:
    page = opened(figure(10, truth=False))
    note = page.find_element(By.ID, "flat-note").text
    assert "children" in note
    assert "--images" in note


@pytest.mark.parametrize("record", [a_record(0, image_size=(0, 0)), a_record(1), a_record(40)])
def test_a_report_of_next_to_nothing_opens(opened: Callable[..., Any], record: Record) -> None:
    page = opened(record)
    assert len(page.find_elements(By.CSS_SELECTOR, "#time-plot .plot-container")) == 1


def test_the_page_is_dark_where_that_is_preferred(opened: Callable[..., Any]) -> None:
    page = opened(figure(10))
    lightness = (
        "const [r, g, b] = getComputedStyle(document.body)[arguments[0]].match(/\\d+/g);"
        "return (Number(r) + Number(g) + Number(b)) / 765;"
    )
    for theme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": theme}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        ink, paper = (page.execute_script(lightness, n) for n in ("color", "backgroundColor"))
        assert (ink > 0.8 and paper < 0.2) if theme == "dark" else (ink < 0.2 and paper > 0.8)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_names_from_a_bag_run_no_script(opened: Callable[..., Any]) -> None:
    evil = "<img src=x onerror=\"document.title='caught'\"></script><script>document.title='caught'"
    page = opened(figure(20, bag=evil, model=evil, settings={evil: evil}))
    assert page.title == f"Replay of {evil}"
    assert page.find_element(By.TAG_NAME, "h1").text == f"Replay of {evil}"


def test_the_browser_is_kept_from_the_network(opened: Callable[..., Any]) -> None:
    page = opened(figure(10))
    refused = page.execute_async_script(
        "const done = arguments[0];"
        "addEventListener('securitypolicyviolation', (e) => done(e.violatedDirective));"
        "fetch('https://example.org/').catch(() => {});"
    )
    assert refused == "connect-src"
    page.get_log("browser")  # which has the refusal now
