"""What a demo's bag tells: frames in, out, dropped and lost, latencies, and a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from stsp_model.bag import BagReader, stamp_nanoseconds
from stsp_model.drawing import contact_sheet, draw_skeleton, shrink_to_width
from stsp_model.outcomes import drops
from stsp_model.pose import TrackingState
from stsp_model.sources import Source

if TYPE_CHECKING:
    from stsp_model.evaluation.video import Person

_SHEET_TILES = 12
_LANDSCAPE = (4, 480)  # columns, tile width in px
_PORTRAIT = (6, 320)
# As the node's diagnostics name them: estimation and overhead make up the first.
_NODE_LATENCIES = ("arrival to publication", "estimation", "overhead")


@dataclass(frozen=True)
class Accuracy:
    """How near the published skeletons came to a bag's ground truth.

    frames: of the truth, each person's counted; found: those with a skeleton of that person.
    mpjpe: mm over the frames found; N-MPJPE unless `height_given`. pck: percentage of joints within
    150 mm, those of frames without a skeleton counted as wrong. NaN where nothing was found.
    """

    frames: int
    found: int
    height_given: bool
    mpjpe: float
    pck: float

    def lines(self) -> list[str]:
        """The figures for people."""
        share = f"{self.found} of {self.frames} frames, {100 * self.found / self.frames:.1f} %"
        lines = [f"truth with a skeleton  {share}"]
        if self.found:
            name, height = ("MPJPE", "given") if self.height_given else ("N-MPJPE", "estimated")
            lines += [
                f"{name:<22} {self.mpjpe:.1f} mm over {self.found} frames, height {height}",
                f"PCK@150 mm             {self.pck:.1f} %  (without a skeleton: wrong)",
            ]
        return lines


@dataclass(frozen=True)
class Summary:
    """The figures of one run.

    `published` frames left the player, `received` reached the node's callback, `processed` came
    out as a Skeleton3DArray, `with_person` of them with somebody in it. Latencies in seconds, as
    (median, 99th percentile) by name; those of the node cover its latest few hundred frames.
    `accuracy` is None where no truth is known.
    """

    published: int
    received: int
    processed: int
    with_person: int
    dropped: Mapping[str, int]
    seconds: float
    latencies: Mapping[str, tuple[float, float]]
    trained: bool
    stamp_offset: int
    accuracy: Accuracy | None = None

    @property
    def lost(self) -> int:
        """Frames that were published and never reached the node's callback."""
        return max(0, self.published - self.received)

    def drops(self) -> str:
        """How many received frames were not processed, and why."""
        reasons = ", ".join(f"{reason} {count}" for reason, count in self.dropped.items() if count)
        return f"{sum(self.dropped.values())}" + (f" ({reasons})" if reasons else "")

    def lines(self) -> list[str]:
        """The figures for people."""
        lines = [
            f"frames published       {self.published}  in {self.seconds:.1f} s",
            f"frames processed       {self.processed}  ({self.with_person} with a skeleton)",
            f"frames dropped         {self.drops()}",
            f"frames lost            {self.lost}  (before they reached the node)",
        ]
        for name, (median, tail) in self.latencies.items():
            lines.append(f"{name:<22} p50 {1e3 * median:.1f} ms, p99 {1e3 * tail:.1f} ms")
        if self.accuracy is not None:
            lines += self.accuracy.lines()
        if not self.trained:
            lines.append("These weights are untrained: the skeletons are meaningless.")
        return lines


def summarise(bag: Path, played: Mapping[str, Any], people: Sequence[Person] = ()) -> Summary:
    """Read the figures from the recorded bag; `played` is the player's report.

    `people` are those in the source's ground truth, if it has one. Stamp to publication is taken
    from every recorded message, the rest from the node's last diagnostics. Raises BagError for a
    bag that cannot be read.
    """
    processed = with_person = 0
    ages: list[float] = []
    values: dict[str, str] = {}
    with BagReader(bag) as reader:
        for record in reader.records():
            if record.topic.endswith("/diagnostics"):
                for status in reader.decode(record).status:
                    values.update({entry.key: entry.value for entry in status.values})
            elif record.topic.endswith("/skeletons"):
                message = reader.decode(record)
                processed += 1
                with_person += any(_visible(skeleton) for skeleton in message.skeletons)
                ages.append(1e-9 * (record.log_time - stamp_nanoseconds(message)))
    latencies: dict[str, tuple[float, float]] = {}
    for name in _NODE_LATENCIES:
        if f"{name} p99 (ms)" in values:
            p50, p99 = (1e-3 * float(values[f"{name} {p} (ms)"]) for p in ("p50", "p99"))
            latencies[name] = (p50, p99)
    if ages:
        p50, p99 = np.percentile(ages, [50, 99]).tolist()
        latencies["stamp to publication"] = (p50, p99)
    return Summary(
        published=int(played["frames"]),
        received=int(values.get("frames received", processed)),
        processed=processed,
        with_person=with_person,
        dropped=drops(values),
        seconds=float(played["seconds"]),
        latencies=latencies,
        trained="not trained" not in values.get("model", "not trained"),
        stamp_offset=int(played["stamp_offset"]),
        accuracy=accuracy_of(bag, people, int(played["stamp_offset"])) if people else None,
    )


def accuracy_of(bag: Path, people: Sequence[Person], stamp_offset: int) -> Accuracy | None:
    """Score a recorded bag's skeletons, whose stamps are those of `people` plus `stamp_offset` ns.

    A skeleton counts for whom it lies nearest to in the image (`evaluation.video.assigned`). None
    where nobody can be seen in any frame. Raises BagError for a bag that cannot be read.
    """
    from stsp_model.evaluation import scores, video  # with PyTorch

    frames = []
    with BagReader(bag) as reader:
        for message in map(reader.decode, reader.records([_skeletons_topic(reader)])):
            stamp = (stamp_nanoseconds(message) - stamp_offset) / 1e9
            frames.append((stamp, video.poses_of(message)))
    found = video.assigned(people, frames)
    takes = [person.take(found[person.name]) for person in people]
    known = [np.isfinite(take.target).all(axis=(1, 2)) for take in takes]
    seen = [np.isfinite(take.prediction).all(axis=(1, 2)) for take in takes]
    count, matched = int(np.sum(known)), int(np.sum(np.logical_and(known, seen)))
    if not count:
        return None
    if not matched:
        return Accuracy(count, 0, False, float("nan"), float("nan"))
    given = all(p.height_given for _, poses in frames for p in poses if np.isfinite(p.height))
    average = scores.score(takes).average
    mpjpe = average["mpjpe" if given else "n_mpjpe"]
    return Accuracy(count, matched, given, mpjpe, average["pck_150"])


def _skeletons_topic(reader: BagReader) -> str:
    return next(name for name in reader.topics if name.endswith("/skeletons"))


def _visible(skeleton: Any) -> bool:
    return skeleton.tracking_state != TrackingState.TERMINATE and any(
        np.isfinite(joint.u) for joint in skeleton.joints_2d
    )


def contact_sheet_of(source: Source, bag: Path, summary: Summary, path: Path) -> None:
    """Draw the recorded skeletons over a dozen frames of the source and write them as a PNG.

    The bag holds no images: the frames are read again and found by their stamps.
    """
    with BagReader(bag) as reader:
        topic = _skeletons_topic(reader)
        messages = {
            stamp_nanoseconds(message) - summary.stamp_offset: message
            for message in map(reader.decode, reader.records([topic]))
        }
    stamps = sorted(messages)
    chosen = {stamps[round(i)] for i in np.linspace(0, len(stamps) - 1, _SHEET_TILES)}
    columns, width = _LANDSCAPE if source.size[0] >= source.size[1] else _PORTRAIT
    tiles: list[tuple[npt.NDArray[np.uint8], str]] = []
    start: int | None = None
    for frame in source.frames():
        start = frame.stamp if start is None else start
        if frame.stamp not in chosen:
            continue
        chosen.remove(frame.stamp)
        tile, scale = shrink_to_width(frame.image, width)
        if tiles and tile.shape != tiles[0][0].shape:
            tile, scale = _fitted(frame.image, *tiles[0][0].shape[:2])
        for skeleton in messages[frame.stamp].skeletons:
            if _visible(skeleton):
                points = np.array([(joint.u, joint.v) for joint in skeleton.joints_2d])
                draw_skeleton(
                    tile,
                    (points + 0.5) * scale - 0.5,  # (0, 0) is the centre of a pixel
                    np.array([joint.confidence for joint in skeleton.joints_2d]),
                    label=skeleton.id,
                )
        tiles.append((tile, f"{1e-9 * (frame.stamp - start):.2f} s"))
        if not chosen:
            break
    title = f"stsp demo: {source.name}"
    if not summary.trained:
        title += "   (untrained weights: the skeletons are meaningless)"
    cv2.imwrite(str(path), contact_sheet(tiles, title, columns=columns))


def _fitted(
    image: npt.NDArray[np.uint8], height: int, width: int
) -> tuple[npt.NDArray[np.uint8], float]:
    """The image in the top left corner of a black one of that size (px), and its scale there."""
    scale = min(height / image.shape[0], width / image.shape[1])
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    tile = np.zeros((height, width, 3), np.uint8)
    tile[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return tile, scale
