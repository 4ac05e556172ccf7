"""What the estimator runs: the seam of a network, and a network whose graphs a backend runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stsp_model.epe import Observation
from stsp_model.lifter import MAX_GAP, Keypoints, Lifted, Past, TrackState, advanced, continued
from stsp_model.runtime.graphs import EPE, FINDER, LIFTER, STATE

# A graph as a backend runs it: its inputs to its outputs, on the CPU, in the order of
# graphs.SIGNATURES. Inputs may lie in memory in any way, outputs are dense. Nothing of what comes
# out is written to later.
Run = Callable[[Sequence[Tensor]], list[Tensor]]


class Network(Protocol):
    """What the estimator needs: an STSPNet on the CPU, or a RunningNetwork on any backend.

    All tensors are on the CPU. Methods and shapes are those of STSPNet.
    """

    @property
    def input_size(self) -> tuple[int, int]: ...
    @property
    def finder_size(self) -> tuple[int, int]: ...
    @property
    def trained(self) -> bool: ...
    @property
    def note(self) -> str: ...
    @property
    def precision(self) -> str: ...
    def find_people(self, frames: Tensor) -> tuple[Tensor, Tensor]: ...
    def begin(self, crops: Tensor) -> None: ...
    def observe(self, crops: Tensor, saliency: Tensor) -> Observation: ...
    def lift_frame(
        self,
        keypoints: Keypoints,
        boxes: Tensor,
        K: Tensor,
        stamp: float,
        states: Sequence[TrackState],
        subject_height: Tensor | None = None,
        max_gap: float = MAX_GAP,
    ) -> tuple[Lifted | FramePoses, list[TrackState]]: ...


@dataclass(frozen=True)
class FramePoses:
    """Poses of N people; see lifter.Lifted."""

    joints: Tensor
    variance: Tensor
    confidence: Tensor
    height: Tensor
    height_variance: Tensor
    frames_used: Tensor


@dataclass(frozen=True)
class RunningNetwork:
    """A network whose graphs are run by a backend, one call for all people of a frame.

    input_size, finder_size, trained, note: as STSPNet's. window: past poses of its lifter.
    runs: of each graph. precision: in which EPE is computed. batch: people per call where shapes
    are static; 0: any number. begins: see `begin`; None where all waits for `observe`.
    """

    input_size: tuple[int, int]
    finder_size: tuple[int, int]
    trained: bool
    note: str
    window: int
    runs: Mapping[str, Run]
    precision: str
    batch: int = 0
    begins: Callable[[Tensor], None] | None = None

    def find_people(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """See STSPNet.find_people."""
        centres, distances = self.runs[FINDER]([frames])
        return centres, distances

    def begin(self, crops: Tensor) -> None:
        """Start on the crops that `observe` is given next.

        What a GPU makes of them without their saliency it makes while the caller computes that.
        """
        if self.begins is not None and len(crops):
            self.begins(crops)

    def observe(self, crops: Tensor, saliency: Tensor) -> Observation:
        """See STSPNet.observe."""
        return Observation(*self._run(EPE, [crops, saliency]))

    def lift_frame(
        self,
        keypoints: Keypoints,
        boxes: Tensor,
        K: Tensor,
        stamp: float,
        states: Sequence[TrackState],
        subject_height: Tensor | None = None,
        max_gap: float = MAX_GAP,
    ) -> tuple[FramePoses, list[TrackState]]:
        """See Lifter.step; the keypoints must have features."""
        count = len(boxes)
        states = continued(states, stamp, max_gap, self.window)
        past = Past.of(states, stamp)
        assert keypoints.features is not None
        height = boxes.new_full((count,), torch.nan) if subject_height is None else subject_height
        out = self._run(
            LIFTER,
            [
                *(keypoints.joints, keypoints.mass, keypoints.covariance, keypoints.features),
                *(boxes, K.expand(count, 3, 3)),
                *(past.joints, past.log_variance, past.age, past.body, past.count),
                height,
            ],
        )
        return FramePoses(*out[:-STATE]), advanced(states, stamp, *out[-STATE:])

    def _run(self, graph: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        """One call, or as many as a static batch makes of it; the last is filled up."""
        count, run = len(inputs[0]), self.runs[graph]
        return run(inputs) if self.batch in (0, count) else _in_pieces(run, inputs, self.batch)


def _in_pieces(run: Run, inputs: Sequence[Tensor], size: int) -> list[Tensor]:
    """A run for so many people at a time; where too few are left the last one is repeated."""
    count = len(inputs[0])
    every = torch.arange(-(-count // size) * size).clamp_max(count - 1)
    pieces = [run([value[rows] for value in inputs]) for rows in every.split(size)]
    return [torch.cat(parts)[:count] for parts in zip(*pieces, strict=True)]


def filled_up(count: int, most: int) -> int:
    """Size of the batch that so many people are filled up to: 1, 2, 4 ... and at most `most`."""
    return min(1 << max(count - 1, 0).bit_length(), most)


def padded(run: Run, most: int) -> Run:
    """A run that sees batches of 1, 2, 4 ... `most` people only, and larger ones in pieces.

    For backends that prepare themselves for every size of a batch.
    """

    def padded_run(inputs: Sequence[Tensor]) -> list[Tensor]:
        count = len(inputs[0])
        size = filled_up(count, most)
        return run(inputs) if size == count else _in_pieces(run, inputs, size)

    return padded_run
