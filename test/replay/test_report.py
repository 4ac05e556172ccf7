"""What stands in report.html: figures, moments, pictures; and that nothing is to be fetched."""

from __future__ import annotations

import base64
import json
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from figure import figure
from records import a_record, a_track

from stsp_model.replay.charts import PlotlyError
from stsp_model.replay.curves import LONGEST_PAUSE
from stsp_model.replay.record import Record, Track
from stsp_model.replay.report import write_report
from stsp_model.replay.scores import scores
from stsp_model.skeleton import JOINTS

pytest.importorskip("plotly", reason="plotly draws reports: pip install '.[report]'")


def written(path: Path, record: Record, images: dict[int, bytes] | None = None) -> str:
    write_report(path / "report.html", record, images)
    assert [file.name for file in path.iterdir()] == ["report.html"]
    return (path / "report.html").read_text(encoding="utf-8")


def data(page: str) -> dict[str, Any]:
    """What the page's player draws."""
    found = re.search('<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def own(page: str) -> str:
    """The page without plotly.js, in which many an address stands."""
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def jpeg(width: int = 640, height: int = 480, seed: int = 0) -> bytes:
    """Noise, which compresses badly, over large patches."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 255, (12, 16, 3), np.uint8)
    image = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.integers(0, 30, image.shape, np.uint8)
    return cv2.imencode(".jpg", cv2.add(image, grain))[1].tobytes()


def unpacked(packed: dict[str, Any]) -> np.ndarray:
    kind = {"i2": "<i2", "i4": "<i4", "i8": "<i8", "f8": "<f8", "u1": "u1"}[packed["dtype"]]
    values = np.frombuffer(base64.b64decode(packed["bdata"]), kind)
    if "step" not in packed:
        return values
    return np.where(values == -(2**15), np.nan, values * packed["step"])


def plotted(values: Any) -> list[float]:
    """Numbers of a figure, which plotly packs where they came as an array."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    return list(values)


def test_poses_arrive_within_a_tenth_of_a_millimetre(tmp_path: Path) -> None:
    record = figure(60, drops=0.2)
    track, drawn = record.tracks[0], data(written(tmp_path, record))["tracks"][0]
    assert unpacked(drawn["frames"]).tolist() == track.frames.tolist()
    joints = unpacked(drawn["joints"]).reshape(track.joints.shape)
    assert np.abs(joints - track.joints).max() < 1e-4
    assert np.abs(unpacked(drawn["root"]).reshape(-1, 3) - track.root).max() < 1e-4
    assert np.abs(unpacked(drawn["flat"]).reshape(-1, 17, 2) - track.joints_2d).max() < 0.02
    assert set(unpacked(drawn["match"])) == {0}


def test_the_unknown_stays_unknown(tmp_path: Path) -> None:
    track = a_track(root=np.full((3, 3), np.nan, np.float32))
    track.joints[1, 4] = np.nan
    page = data(written(tmp_path, a_record(tracks=(track,))))
    assert np.isnan(unpacked(page["tracks"][0]["root"])).all()
    joints = unpacked(page["tracks"][0]["joints"]).reshape(3, 17, 3)
    assert np.isnan(joints).sum() == 3
    assert page["rooted"] is False


def test_the_head_says_what_was_replayed_and_how_good_it_is(tmp_path: Path) -> None:
    record = figure(60)
    page = own(written(tmp_path, record))
    for fact in ("made-up.mcap", "/camera/image", "camera_optical_frame", "640×480", "edge"):
        assert fact in page
    assert "subject height 1.2" in page
    mpjpe = scores(record)["truth"]["3d"]["average"]["mpjpe"]
    assert f"<dt>MPJPE</dt><dd>{mpjpe:.1f} <small>mm" in page
    assert "not a safety function, not a diagnosis and not an identification" in " ".join(
        page.split()
    )
    assert "not trained" not in page


def test_untrained_weights_and_a_stopped_replay_are_said_loudly(tmp_path: Path) -> None:
    page = own(written(tmp_path, figure(10, trained=False, complete=False)))
    banners = re.findall("<div class='banner' role='alert'>(.*?)</div>", page)
    assert len(banners) == 2
    assert "not trained: the skeletons mean nothing" in banners[0]
    assert "stopped before the bag's end" in banners[1]


def test_notes_are_there_to_be_read(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", figure(10), notes=["3 images are <bad>", "so there"])
    page = own((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "<ul class='notes'><li>3 images are &lt;bad&gt;</li><li>so there</li></ul>" in page
    assert "<ul" not in own(written(tmp_path, figure(10)))


def test_the_rate_of_a_last_second_that_is_cut_off_is_that_of_its_part(tmp_path: Path) -> None:
    """At 30 Hz: 45 images are a second and a half, of which no image was dropped."""
    page = data(written(tmp_path, figure(45, drops=0)))
    (bars,) = [t for t in page["views"][0]["figure"]["data"] if t["type"] == "bar"]
    assert plotted(bars["y"]) == pytest.approx([30, 30], rel=1e-3)
    assert plotted(bars["x"]) == pytest.approx([0.5, 1.25], rel=1e-3)


def test_somebody_seen_in_one_image_can_be_seen_in_the_plot(tmp_path: Path) -> None:
    record = figure(60, truth=False)
    (whole,) = record.tracks
    once = Track("p2", *(getattr(whole, f.name)[30:31] for f in fields(Track)[1:]))
    page = data(written(tmp_path, replace(record, tracks=(whole, once))))
    spans = {
        t["name"]: t["x"] for t in page["views"][0]["figure"]["data"] if t["name"] in ("p1", "p2")
    }
    assert plotted(spans["p1"])[:2] == pytest.approx([0, 2], abs=1e-3)
    assert plotted(spans["p2"])[:2] == pytest.approx([1, 31 / 30], abs=1e-3)


@pytest.mark.parametrize("jump", [LONGEST_PAUSE + 1, 50 * 365 * 86400])
def test_a_jump_of_the_clock_is_drawn_as_a_pause(tmp_path: Path, jump: int) -> None:
    """As where a clock is set in the midst of a recording."""
    record = figure(90, drops=0)
    stamps = record.stamps + np.where(np.arange(90) >= 45, jump * 10**9, 0)
    text = written(tmp_path, replace(record, stamps=stamps))
    page = data(text)
    shown = page["views"][0]["figure"]
    after = 44 / 30 + LONGEST_PAUSE  # s, where the first image after the jump is drawn
    assert unpacked(page["time"])[45] == pytest.approx(after, abs=1e-3)
    assert shown["layout"]["xaxis"]["range"][1] == pytest.approx(after + 44 / 30, abs=1e-3)
    (bars,) = [t for t in shown["data"] if t["type"] == "bar"]
    images = np.array(plotted(bars["y"])) * plotted(bars["width"])
    assert images.sum() == pytest.approx(90)
    assert unpacked(page["stamps"]).tolist() == stamps.tolist()  # which the player tells
    assert f"1 pause of more than {LONGEST_PAUSE} s" in own(text)


def test_without_truth_the_page_shows_what_can_be_known(tmp_path: Path) -> None:
    page = written(tmp_path, figure(90, truth=False, gap=(30, 59)))
    assert "<dd>unknown" in page
    assert "MPJPE" not in own(page)
    titles = {note["text"] for note in data(page)["views"][0]["figure"]["layout"]["annotations"]}
    assert "Confidence by joint" in titles
    assert "Bone lengths off their median, %" in titles
    assert not any("rror" in title or "truth" in title for title in titles)
    assert "for 1.00 s" in own(page)  # the gap


def test_worst_moments_lead_to_their_frames(tmp_path: Path) -> None:
    record = figure(200, error=0.005)
    joints = record.tracks[0].joints.copy()
    joints[123, JOINTS.index("left_knee"), 0] += 0.8
    record = replace(record, tracks=(replace(record.tracks[0], joints=joints),))
    page = own(written(tmp_path, record))
    worst = re.search("<h3>largest error</h3><ol><li[^>]*><a href='#frame=(\\d+)'>(.*?)</li>", page)
    assert worst
    assert worst[1] == "123"
    assert "4.10 s" in worst[2]
    assert re.search(r"left knee (79|80)\d$", worst[2])


def test_of_several_tracks_one_can_be_chosen(tmp_path: Path) -> None:
    page = data(written(tmp_path, figure(90, people=2, gap=(30, 40))))
    assert [view["label"] for view in page["views"]] == ["all", "p1", "p2", "p3"]
    assert [view["tracks"] for view in page["views"]] == [[0, 1, 2], [0], [1], [2]]
    # p1 and p2 are one after the other and share a spot; p3 is there with them.
    assert [track["slot"] for track in page["tracks"]] == [0, 0, 1]
    assert [person["slot"] for person in page["truth"]] == [0, 1]


def test_pictures_are_stored_only_where_given(tmp_path: Path) -> None:
    record = figure(30)
    assert data(written(tmp_path, record))["pictures"] == {}
    assert "data:image/jpeg" not in written(tmp_path, record)
    pictures = data(written(tmp_path, record, {3: jpeg(), 7: jpeg(1280, 960)}))["pictures"]
    assert list(pictures) == ["3", "7"]
    for uri in pictures.values():
        raw = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (480, 640, 3)


def test_a_minute_with_pictures_stays_below_15_megabytes(tmp_path: Path) -> None:
    record = figure(1800, gap=(600, 640), drops=0.05)
    picture = jpeg()
    images = dict.fromkeys(range(1800), picture)
    page = written(tmp_path, record, images)
    assert (tmp_path / "report.html").stat().st_size < 15_000_000
    kept = {int(frame) for frame in data(page)["pictures"]}
    assert len(kept) > 300  # at least every sixth
    moments = {int(frame) for frame in re.findall("href='#frame=(\\d+)'", own(page))}
    assert moments
    assert moments <= kept


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images has frame 30, but the record has 30 frames"):
        write_report(tmp_path / "report.html", figure(30), {30: jpeg()})
    with pytest.raises(ValueError, match=r"images\[2\] is no picture"):
        write_report(tmp_path / "report.html", figure(30), {2: b"no picture"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "record",
    [
        a_record(0, image_size=(0, 0), K=None),
        a_record(1),
        a_record(2, tracks=(a_track(frames=(0,)),), truth=(a_track("a", (1,)),)),
        a_record(3, outcome=np.full(3, 3, np.uint8), latency=np.full(3, np.nan)),
        a_record(4, stamps=np.full(4, 7, np.int64)),
    ],
)
def test_a_record_with_next_to_nothing_in_it_is_shown_too(tmp_path: Path, record: Record) -> None:
    page = data(written(tmp_path, record))
    assert len(unpacked(page["time"])) == len(record.stamps)


def test_names_from_a_bag_are_text_and_nothing_else(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>@@DATA@@"
    track = replace(figure(10).tracks[0], id=evil)
    page = written(
        tmp_path,
        figure(10, bag=evil, image_topic=evil, model=evil, settings={evil: evil}, tracks=(track,)),
    )
    assert "<script>alert(1)" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 4
    assert data(page)["tracks"][0]["id"] == evil


def test_nothing_is_fetched_from_elsewhere(tmp_path: Path) -> None:
    page = own(written(tmp_path, figure(10), {0: jpeg()}))
    assert not re.search(r"(src|href)=.?(https?:|//)", page)
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_without_plotly_the_sentence_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(PlotlyError, match=r"pip install '\.\[report\]'"):
        write_report(tmp_path / "report.html", figure(10))
    assert not list(tmp_path.iterdir())
