"""Scoring of a method on images, on motions and on bags: the work of `stsp evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from stsp_model.data.errors import DataError
from stsp_model.evaluation import pck, scores, video
from stsp_model.evaluation.calibration import Calibration, calibration
from stsp_model.evaluation.lifting import lift, take
from stsp_model.evaluation.predictions import Prediction
from stsp_model.evaluation.report import text_2d, text_3d, text_calibration, text_following
from stsp_model.evaluation.views import Trial
from stsp_model.network import STSPNet
from stsp_model.runtime import AUTO
from stsp_model.runtime.backends import open_network
from stsp_model.runtime.exported import Exported
from stsp_model.runtime.running import Network

TRUE_BOX, JITTERED_BOX, AS_FOUND = "true box", "jittered box", "as found"


@dataclass(frozen=True)
class Method:
    """Whose poses are scored: the network's, those of a file, or, with neither, the truth's own.

    backend: what runs the model on images and video, as `runtime.backends.chosen` gives it.
    """

    model: STSPNet | Exported | None = None
    backend: str = AUTO
    predictions: Mapping[str, Prediction] | None = None

    def network(self) -> Network | None:
        """The model on its backend, which takes a second or more."""
        return None if self.model is None else open_network(self.model, self.backend)


@dataclass(frozen=True)
class Outcome:
    """What was scored: text for the screen, values for JSON, and the poses themselves.

    calibration: what these poses claim of themselves, beside the truth.
    """

    text: str
    values: dict[str, Any]
    predictions: dict[str, Prediction]
    calibration: Calibration


def evaluate_images(data: Any, method: Method, jitter: int | None = None) -> Outcome:
    """2D scores of people in images; of the network also with boxes jittered by that seed."""
    network = method.network()
    found = _given(data, method) if network is None else pck.detect(network, data, progress=True)
    by_box = {TRUE_BOX: found}
    if network is not None and jitter is not None:
        by_box[JITTERED_BOX] = pck.detect(network, data, jitter, progress=True)
    scored = {box: pck.score(detections) for box, detections in by_box.items()}
    if not scored[TRUE_BOX].images:
        raise DataError("no person in the data set has a visible torso, so none can be scored")
    saved = {
        name: Prediction(joints_2d=joints[None], confidence_2d=confidence[None])
        for name, joints, confidence in zip(
            found.names, found.joints, found.confidence, strict=True
        )
    }
    values = {"2d": {_key(box): asdict(score) for box, score in scored.items()}}
    return _outcome([text_2d(scored)], values, saved, calibration(by_box), network)


def _given(data: Any, method: Method) -> pck.Detections:
    """The joints of a file, or the labels themselves."""
    labels = []
    for i in tqdm(range(len(data)), "images", disable=None):
        sample = data[i]
        labels.append((sample.name, sample.joints, sample.visible))  # not the image
    names = tuple(name for name, _, _ in labels)
    target = np.stack([joints for _, joints, _ in labels])
    joints, confidence = target.copy(), np.full(target.shape[:2], np.nan)
    if method.predictions is not None:
        _check_names(names, method.predictions)
        joints = np.full_like(target, np.nan)
        for i, name in enumerate(names):
            prediction = method.predictions.get(name)
            if prediction is not None:
                if prediction.joints_2d is None or len(prediction.joints_2d) != 1:
                    raise DataError(f"the prediction for {name} has no 2D joints of one image")
                joints[i] = prediction.joints_2d[0]
                if prediction.confidence_2d is not None:
                    confidence[i] = prediction.confidence_2d[0]
    return pck.Detections(
        names, joints, confidence, target, np.stack([visible for _, _, visible in labels])
    )


def _check_names(names: tuple[str, ...], predictions: Mapping[str, Prediction]) -> None:
    if not set(names) & predictions.keys():
        raise DataError(
            f"the predictions are for {', '.join(list(predictions)[:3])} ..., the data set has "
            f"{', '.join(names[:3])} ...; no name is in both"
        )


def evaluate_motions(every: list[Trial], method: Method, height_given: bool) -> Outcome:
    """3D scores of trials, lifted from their 2D joints."""
    if isinstance(method.model, Exported):
        raise DataError(
            "lifting is scored with weights, not with what was exported: give the .safetensors "
            "file or the preset"
        )
    predictions: dict[str, Prediction] = {}
    if method.predictions is not None:
        predictions = dict(method.predictions)
        _check_names(tuple(t.motion.name for t in every), predictions)
    for trial in tqdm(every, "takes", disable=None):
        if method.model is not None:
            predictions[trial.motion.name] = lift(method.model, trial, height_given)
        elif method.predictions is None:
            predictions[trial.motion.name] = Prediction(joints=trial.motion.joints)
    takes = [take(t, predictions.get(t.motion.name)) for t in every]
    score = _scored_3d(takes)
    return _outcome([text_3d(score)], {"3d": asdict(score)}, predictions, calibration({}, takes))


def evaluate_video(footage: Iterable[video.Footage], method: Method, height_given: bool) -> Outcome:
    """2D and 3D scores of videos with ground truth, from whole images on."""
    predictions: dict[str, Prediction] = dict(method.predictions or {})
    people: list[video.Person] = []
    following = video.Following()
    network = method.network()
    for one in tqdm(footage, "videos", disable=None):
        people += one.people
        if network is not None:
            poses, followed = video.predict(network, one, height_given)
            predictions |= poses
            following += followed
        elif method.predictions is None:
            predictions |= {p.name: Prediction(p.joints, p.joints_2d) for p in one.people}
    if not people:
        raise DataError("there is nobody in the videos, so there is nothing to score")
    _check_names(tuple(person.name for person in people), predictions)
    found = {AS_FOUND: video.detections(people, predictions)}
    in_2d = pck.score(found[AS_FOUND])
    texts = [text_2d({AS_FOUND: in_2d})]
    values: dict[str, Any] = {"2d": {_key(AS_FOUND): asdict(in_2d)}}
    takes: list[scores.Take] = []
    if any(one.joints is not None for one in predictions.values()):
        takes = [p.take(predictions.get(p.name, Prediction())) for p in people]
        in_3d = _scored_3d(takes)
        texts.append(text_3d(in_3d))
        values["3d"] = asdict(in_3d)
    if network is not None:  # a file of poses has no ids, and none of nobody
        texts.append(text_following(following))
        values["following"] = asdict(following)
    return _outcome(
        texts,
        values,
        predictions,
        calibration(found, takes),
        network,
    )


def _outcome(
    texts: list[str],
    values: dict[str, Any],
    predictions: dict[str, Prediction],
    claimed: Calibration,
    network: Network | None = None,
) -> Outcome:
    if network is not None:  # which is said of 2D alone, as motions are lifted by the weights
        texts = [*texts, f"EPE computed in {network.precision}"]
        values = {**values, "precision": network.precision}
    if claimed:
        texts = [*texts, text_calibration(claimed)]
        values = {**values, "calibration": claimed.values()}
    return Outcome("\n\n".join(texts), values, predictions, claimed)


def _scored_3d(takes: list[scores.Take]) -> scores.Score3D:
    try:
        return scores.score(takes)
    except ValueError as error:
        raise DataError(str(error)) from None


def _key(title: str) -> str:
    return title.replace(" ", "_")
