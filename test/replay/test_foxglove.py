"""The Foxglove layout shows the topics of the node and of replays, and fits together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stsp_model.angles import ANGLE_NAMES
from stsp_model.bag_command import CAMERA_INFO_TOPIC, IMAGE_TOPIC
from stsp_model.replay.images import ANGLES_TOPIC, MARKERS_TOPIC, SKELETONS_TOPIC

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = json.loads((ROOT / "foxglove" / "stsp.json").read_text())
PANELS = LAYOUT["configById"]


def placed(layout: Any) -> Iterator[str]:
    """The panels of a part of the layout, those of tabs too."""
    if isinstance(layout, str):
        yield layout
        for tab in PANELS[layout].get("tabs", ()):
            yield from placed(tab["layout"])
    else:
        assert layout["direction"] in ("row", "column")
        yield from placed(layout["first"])
        yield from placed(layout["second"])


def test_every_panel_has_one_place() -> None:
    assert sorted(placed(LAYOUT["layout"])) == sorted(PANELS)


def test_panels_show_what_is_published() -> None:
    assert PANELS["3D!skeletons"]["topics"] == {MARKERS_TOPIC: {"visible": True}}
    assert PANELS["Image!node"]["imageMode"]["imageTopic"] == "/stsp/debug_image"
    assert PANELS["Image!bag"]["imageMode"] == {
        "imageTopic": IMAGE_TOPIC,
        "calibrationTopic": CAMERA_INFO_TOPIC,
    }
    assert PANELS["RawMessages!skeletons"]["topicPath"].startswith(f"{SKELETONS_TOPIC}.skeletons")


def test_each_angle_is_drawn_once_under_its_name() -> None:
    found = {}
    for panel in ("Plot!legs", "Plot!arms"):
        for path in PANELS[panel]["paths"]:
            place = re.fullmatch(rf"{ANGLES_TOPIC}\.position\[(\d)\]\.@rad2deg", path["value"])
            assert place
            found[int(place[1])] = path["label"].replace(" ", "_")
    assert [found[i] for i in sorted(found)] == list(ANGLE_NAMES)
