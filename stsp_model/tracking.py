"""Following people from frame to frame: boxes, their motion, and which box is whose. No images.

Boxes are (4,) x0 y0 x1 y1 in pixels, tight around a person's joints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .lifter import TrackState

FloatArray = npt.NDArray[np.float64]

SURE_JOINT = 0.1  # 2D confidence from which a joint helps to say where the person is
MIN_SURE_JOINTS = 4
MIN_SIDE = 8.0  # pixels of a box's longer side; less is no person one could see
DOUBLE = 0.5  # overlap beyond which two boxes of the finder are one person's
_GROW_TIME, _SHRINK_TIME = 0.05, 0.3  # s; an arm thrown out must not be cut off
_VELOCITY_TIME = 0.1  # s
_LONGEST_PREDICTION = 0.2  # s; further ahead, a sportive child has turned round
_LARGEST_SHIFT = 0.5  # of the box's longer side
_FOUND_TRACKED = 0.3  # overlap from which a found box is a person already in sight
_FOUND_AGAIN = 0.1  # the same for a person out of sight, who has moved on
_FOUND_DOUBTED = 0.2  # the same for a person in doubt, who may be passing somebody else
_FOUND_AROUND = 0.8  # share of a box in doubt within a found one: it has shrunk to a part of it
_FOUND_LARGER = 1.5  # times the side a person was last surely seen with; more is two, or another
_GIVEN_TRACKED = 0.2  # the same for the caller's boxes
SURE_SCORE = 0.97  # of somebody being there; of 100 people two score less, of empty crops one more
SURE_CONFIDENCE = 0.5  # mean of a person's 2D joints; with less they may lie on something else
_SAME_PERSON = 0.13  # mean distance of joints over the box's longer side


@dataclass(frozen=True, eq=False)
class Track:
    """One person being followed.

    id: never used again. box: where he or she was last seen, at `stamp` (s), smoothed in size.
    velocity (2,): of the box's centre, pixels per second. state: the lifter's memory.
    doubted: whether where it was last seen there may be nobody.
    sure: s, since when there are doubts: when it was last beyond doubt that somebody is there, or
    the first doubtful frame after a pause, in which nobody could be seen.
    sure_side: pixels of the box's longer side when last beyond doubt; infinite: never until now.
    """

    id: str
    box: FloatArray
    stamp: float
    state: TrackState
    velocity: FloatArray
    sure: float
    sure_side: float = math.inf
    doubted: bool = False

    def box_at(self, stamp: float) -> FloatArray:
        """Where the box should be by now, grown by what the motion leaves uncertain."""
        ahead = min(max(stamp - self.stamp, 0.0), _LONGEST_PREDICTION)
        limit = _LARGEST_SHIFT * longer_side(self.box)
        shift = np.minimum(np.maximum(self.velocity * ahead, -limit), limit)
        grown = np.abs(shift) / 2
        return self.box + np.concatenate([shift - grown, shift + grown])

    def seen(
        self, box: FloatArray, stamp: float, state: TrackState, sure: bool, max_gap: float
    ) -> Track:
        """The track after its person was seen in `box`; `sure`: beyond doubt."""
        interval = stamp - self.stamp
        paused = not 0 < interval <= max_gap
        since = stamp if sure or (paused and not self.doubted) else self.sure
        side = longer_side(box) if sure else self.sure_side
        if paused:
            return Track(self.id, box, stamp, state, np.zeros(2), since, side, not sure)
        centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        old_centre, old_size = (self.box[:2] + self.box[2:]) / 2, self.box[2:] - self.box[:2]
        time = np.where(size > old_size, _GROW_TIME, _SHRINK_TIME)
        size = old_size + (1 - np.exp(-interval / time)) * (size - old_size)
        measured = (centre - old_centre) / interval
        share = 1 - np.exp(-interval / _VELOCITY_TIME)
        return replace(
            self,
            box=np.concatenate([centre - size / 2, centre + size / 2]),
            stamp=stamp,
            state=state,
            velocity=self.velocity + share * (measured - self.velocity),
            sure=since,
            sure_side=side,
            doubted=not sure,
        )


def longer_side(box: FloatArray) -> float:
    """Length of the longer side in pixels."""
    return float((box[2:] - box[:2]).max())


def joints_box(joints: FloatArray, confidence: FloatArray) -> FloatArray | None:
    """Tight box around the joints (J, 2) whose confidence (J,) says enough; None if too few do."""
    sure = np.isfinite(joints).all(axis=-1) & (confidence >= SURE_JOINT)
    if sure.sum() < MIN_SURE_JOINTS:
        return None
    box = np.concatenate([joints[sure].min(axis=0), joints[sure].max(axis=0)])
    return box if longer_side(box) >= MIN_SIDE else None


def centred(box: FloatArray, limits: FloatArray) -> bool:
    """Whether the box's centre lies within `limits`."""
    centre = (box[:2] + box[2:]) / 2
    return bool(((centre >= limits[:2]) & (centre <= limits[2:])).all())


def clipped(box: FloatArray, limits: FloatArray) -> FloatArray | None:
    """The part of a box within `limits`; None if too little is left for a person."""
    box = np.concatenate([np.maximum(box[:2], limits[:2]), np.minimum(box[2:], limits[2:])])
    whole = bool(np.isfinite(box).all()) and bool((box[2:] > box[:2]).all())
    return box if whole and longer_side(box) >= MIN_SIDE else None


def _areas(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).prod(axis=-1))


def _common(a: FloatArray, b: FloatArray) -> FloatArray:
    """Areas (N, M) that boxes (N, 4) and (M, 4) have in common."""
    a, b = a.reshape(-1, 1, 4), b.reshape(1, -1, 4)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    return np.asarray(np.maximum(high - low, 0).prod(axis=-1))


def overlaps(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4) of positive area."""
    common = _common(a, b)
    return np.asarray(common / np.maximum(_areas(a)[:, None] + _areas(b) - common, 1e-9))


def shares_within(a: FloatArray, b: FloatArray) -> FloatArray:
    """Share (N, M) of each box (N, 4), of positive area, that lies within each of others (M, 4)."""
    return np.asarray(_common(a, b) / np.maximum(_areas(a)[:, None], 1e-9))


def match(scores: FloatArray, least: float) -> dict[int, int]:
    """Pairs with scores (N, M) of `least` or more, best first, each of both once: {of M: of N}."""
    pairs: dict[int, int] = {}
    for flat in np.argsort(-scores, axis=None, kind="stable"):
        i, j = divmod(int(flat), max(scores.shape[1], 1))
        if scores[i, j] < least:
            break
        if j not in pairs and i not in pairs.values():
            pairs[j] = i
    return pairs


def without_doubles(boxes: FloatArray, most: float) -> list[int]:
    """Indices of boxes (N, 4), best first, that overlap none before them by more than `most`."""
    scores = overlaps(boxes, boxes)
    kept: list[int] = []
    for i in range(len(boxes)):
        if all(scores[i, j] <= most for j in kept):
            kept.append(i)
    return kept


def sure(score: float, confidence: FloatArray) -> bool:
    """Whether a crop with these 2D confidences (17,) leaves no doubt about the person in it."""
    return bool(score >= SURE_SCORE and confidence.mean() >= SURE_CONFIDENCE)


def same_person(joints: FloatArray, others: FloatArray, box: FloatArray) -> bool:
    """Whether two poses (J, 2) lie on each other, for a person with this box."""
    distance = np.linalg.norm(joints - others, axis=-1).mean()
    return bool(distance < _SAME_PERSON * longer_side(box))


@dataclass(frozen=True, eq=False)
class Candidate:
    """A box to look into, whose it may be, and whether the caller says that somebody is there."""

    box: FloatArray
    track: Track | None = None
    trusted: bool = False

    def unguided_box(self) -> FloatArray:
        """Where to take the person to be while the joints don't tell: where last seen.

        Following a prediction without measurements would drift and grow.
        """
        return self.box if self.track is None else self.track.box

    def fit(self, box: FloatArray) -> float:
        """How well the box (4,) of the joints that were seen agrees with where was looked, 0..1."""
        return float(overlaps(self.box[None], box[None])[0, 0])


def given_candidates(tracks: Sequence[Track], boxes: FloatArray, stamp: float) -> list[Candidate]:
    """The caller's boxes (P, 4), with the tracks they go on from."""
    owners = match(overlaps(_stacked(tracks, stamp), boxes), _GIVEN_TRACKED)
    return [
        Candidate(box, tracks[owners[i]] if i in owners else None, trusted=True)
        for i, box in enumerate(boxes)
    ]


def followed_candidates(
    tracks: Sequence[Track], found: FloatArray, stamp: float, last: float, most: int
) -> list[Candidate]:
    """Where to look, `most` boxes at most: at people in sight, at found ones, at lost ones.

    Who is in doubt is looked for where the finder sees somebody near or around the box, which may
    have shrunk to a part of the person, like who is out of sight, but comes before people not seen
    until now. Nobody becomes far larger than when last seen beyond doubt: the finder gives one box
    around two who are close.

    Args:
        found: (P, 4) boxes of the finder, best first.
        last: stamp of the frame before: who was not seen then is out of sight.
    """
    seen = [track for track in tracks if track.stamp == last and not track.doubted]
    missing = [track for track in tracks if track.stamp != last or track.doubted]
    owners: dict[int, int] = {}
    if len(found):  # in most frames the finder does not run
        on = overlaps(found, _stacked(seen, stamp))
        own = match(on, _FOUND_TRACKED).values()
        further = [i for i in range(len(found)) if i not in own and (on[i] <= DOUBLE).all()]
        found = found[further]
        doubted = np.array([track.stamp == last for track in missing], bool)
        owners = match(_findings(missing, doubted, found, stamp), _FOUND_AGAIN)
    again = [Candidate(found[i], _found(missing[j], found[i])) for i, j in sorted(owners.items())]
    new = [Candidate(box) for i, box in enumerate(found) if i not in owners]
    others = [track for j, track in enumerate(missing) if j not in owners.values()]
    return [
        *_where_due(seen, stamp),
        *again,
        *_where_due([track for track in others if track.stamp == last], stamp),
        *new,
        *_where_due([track for track in others if track.stamp != last], stamp),
    ][:most]


def _findings(
    tracks: Sequence[Track], doubted: npt.NDArray[np.bool_], found: FloatArray, stamp: float
) -> FloatArray:
    """How well boxes of the finder (M, 4), best first, fit people not surely in sight: (N, M).

    Args:
        doubted: (N,) of the tracks, whether they are in sight, but in doubt.
    """
    due = _stacked(tracks, stamp)
    near = overlaps(due, found)
    around = _FOUND_DOUBTED * (shares_within(due, found) >= _FOUND_AROUND)
    scores = np.where(doubted[:, None] & (near < _FOUND_DOUBTED), around, near)
    largest = np.array([_FOUND_LARGER * track.sure_side for track in tracks])[:, None]
    scores[np.array([longer_side(box) for box in found]) > largest] = 0.0
    # A part of a person, as the shorts of a child, may be found beside the whole.
    parts = np.tril(shares_within(found, found) >= _FOUND_AROUND, -1)
    of_fitting = ((scores >= _FOUND_DOUBTED)[:, None, :] & parts).any(axis=-1)
    return np.where(doubted[:, None] & of_fitting, 0.0, scores)


def _found(track: Track, box: FloatArray) -> Track:
    """A track whose person the finder sees in `box`: up to its last frame beyond doubt."""
    return replace(track, box=box, velocity=np.zeros(2), sure=track.stamp, doubted=False)


def _where_due(tracks: Sequence[Track], stamp: float) -> list[Candidate]:
    return [Candidate(track.box_at(stamp), track) for track in tracks]


def _stacked(tracks: Sequence[Track], stamp: float) -> FloatArray:
    return np.array([track.box_at(stamp) for track in tracks]).reshape(-1, 4)
