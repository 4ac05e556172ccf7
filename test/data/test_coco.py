"""COCO keypoints: one item a person, flags kept apart, a user's mistakes told."""

from __future__ import annotations

import json

import numpy as np
import pytest
from people import write_images

from stsp_model.crop import BORDER_BGR
from stsp_model.data.coco import COCOKeypoints
from stsp_model.data.errors import DataError
from stsp_model.skeleton import COCO_17, INDEX
from stsp_model.training.datasets import People


def person(id, image, x=10, flag=2, **changes):
    points = [number for i in range(17) for number in (x + i, 5 + i, flag)]
    return {
        "id": id,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": 17,
        "keypoints": points,
        "bbox": [x, 5, 20, 30],
        **changes,
    }


def content(people):
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 64, "height": 48} for i in (7, 8)]
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.points), "skeleton": []}
    return {"images": images, "annotations": people, "categories": [category]}


def write(root, document):
    path = root / "annotations" / "person_keypoints_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    write_images(root / "val2017", ["000000000007.jpg", "000000000008.jpg"])
    return path


def test_every_person_is_an_item_and_crowds_are_none(tmp_path):
    nobody = person(4, 8, keypoints=[0] * 51, num_keypoints=0)
    people = [person(1, 7), person(2, 7, x=30), person(3, 8, iscrowd=1), nobody, person(5, 8)]
    data = COCOKeypoints(write(tmp_path, content(people)))
    assert [data[i].name for i in range(len(data))] == ["7#1", "7#2", "8#5"]
    assert data[1].joints[INDEX["nose"]].tolist() == [30, 5]
    # Boxes count the pixels' edges, keypoints their centres.
    assert data[1].box.tolist() == [29.5, 4.5, 49.5, 34.5]
    assert np.isnan(data[0].joints[INDEX["head_top"]]).all()


def test_hidden_joints_keep_their_place_and_unlabelled_ones_have_none(tmp_path):
    one = person(1, 7)
    wrist, knee = COCO_17.points.index("left_wrist"), COCO_17.points.index("left_knee")
    one["keypoints"][3 * wrist + 2] = 1
    one["keypoints"][3 * knee : 3 * knee + 3] = [0, 0, 0]
    sample = COCOKeypoints(write(tmp_path, content([one])))[0]
    assert not sample.visible[INDEX["left_wrist"]]
    assert sample.joints[INDEX["left_wrist"]].tolist() == [10 + wrist, 5 + wrist]
    assert not sample.visible[INDEX["left_knee"]]
    assert np.isnan(sample.joints[INDEX["left_knee"]]).all()
    assert sample.visible[INDEX["pelvis"]]


def test_images_may_lie_elsewhere(tmp_path):
    path = write(tmp_path, content([person(1, 7)]))
    (tmp_path / "val2017").rename(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"neither .*val2017 nor .*images exists; pass it"):
        COCOKeypoints(path)
    assert len(COCOKeypoints(path, tmp_path / "pictures")) == 1


@pytest.mark.parametrize("bbox", ["absent", None, []])
def test_a_box_that_is_missing_is_drawn_around_the_joints(tmp_path, bbox):
    one = person(1, 7, bbox=bbox)
    if bbox == "absent":
        del one["bbox"]
    data = COCOKeypoints(write(tmp_path, content([person(2, 8), one])))
    assert data[1].box.tolist() == [10, 5, 26, 21]
    assert data.boxes(1).shape == (0, 4)


def without_keypoints(document):
    del document["categories"][0]["keypoints"]


def other_keypoints(document):
    document["categories"][0]["keypoints"].reverse()


def a_missing_image(document):
    document["annotations"][0]["image_id"] = 99


def a_short_person(document):
    document["annotations"][0]["keypoints"] = [1.0] * 42


def other_document(document):
    del document["images"]


def nobody(document):
    document["annotations"] = []


def set_in(part, key, value):
    """Changes one value of the first image, annotation or category."""
    return lambda document: document[part][0].update({key: value})


def without(part, key):
    return lambda document: document[part][0].pop(key)


def no_list(document):
    document["annotations"] = None


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (without("annotations", "id"), r"not laid out as COCO's .* \(KeyError\('id'\)\)"),
        (without("annotations", "image_id"), "not laid out as COCO's"),
        (without("annotations", "category_id"), "not laid out as COCO's"),
        (without("images", "width"), "not laid out as COCO's"),
        (set_in("images", "file_name", 5), "not laid out as COCO's"),
        (set_in("annotations", "bbox", [1, 2, 3]), "not laid out as COCO's"),
        (set_in("annotations", "bbox", ["a", 2, 3, 4]), "not laid out as COCO's"),
        (set_in("annotations", "keypoints", ["x"] * 51), "not laid out as COCO's"),
        (set_in("categories", "keypoints", None), "not laid out as COCO's"),
        (no_list, "not laid out as COCO's"),
        (without_keypoints, r"expected one of person_keypoints_\*.json"),
        (other_keypoints, "has the keypoints right_ankle, .*; expected COCO's nose"),
        (a_missing_image, "annotates image 99, which it does not list"),
        (a_short_person, r"has \[42\] numbers a person, expected 51"),
        (other_document, "has no images, as COCO's annotations do"),
        (nobody, "holds nobody with keypoints"),
    ],
)
def test_another_file_is_told(tmp_path, spoil, told):
    document = content([person(1, 7)])
    spoil(document)
    with pytest.raises(DataError, match=told):
        COCOKeypoints(write(tmp_path, document))


def test_half_a_download_is_told(tmp_path):
    path = write(tmp_path, content([person(1, 7), person(2, 8)]))
    (tmp_path / "val2017" / "000000000008.jpg").unlink()
    with pytest.raises(DataError, match="lacks 1 of 2 images"):
        COCOKeypoints(path)
    path.write_text("[{}]")
    with pytest.raises(DataError, match="has no annotations, categories, images"):
        COCOKeypoints(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="no whole JSON file"):
        COCOKeypoints(path)
    path.write_text('{"images": [')
    with pytest.raises(DataError, match="no whole JSON file"):
        COCOKeypoints(path)
    with pytest.raises(DataError, match="cannot be read"):
        COCOKeypoints(tmp_path / "none.json")


def test_resized_images_are_told(tmp_path):
    path = write(tmp_path, content([person(1, 7)]))
    write_images(tmp_path / "val2017", ["000000000007.jpg"], size=(32, 24))
    data = COCOKeypoints(path)
    with pytest.raises(DataError, match="has 32x24 pixels, but its annotations are for 64x48"):
        data[0]


def test_a_crowd_is_covered_where_pictures_without_people_are_looked_for(tmp_path):
    crowd = person(2, 7, iscrowd=1, bbox=[20, 0, 44, 48])
    data = COCOKeypoints(write(tmp_path, content([person(1, 7), crowd, person(3, 8)])))
    assert data.crowds(0).tolist() == [[19.5, -0.5, 63.5, 47.5]]
    image, boxes = People((data,)).picture(0)
    assert boxes.tolist() == [[9.5, 4.5, 29.5, 34.5]]
    covered = (image == np.array(BORDER_BGR)).all(axis=-1)
    assert covered[:, 30:].all()
    assert covered[:5, 20:].all()
    assert not covered[5:35, 20:30].any()  # the labelled person's own
    assert not covered[:, :20].any()
    whole, _ = People((data,)).picture(1)
    np.testing.assert_array_equal(whole, data[1].image)


def test_images_may_lie_in_folders(tmp_path):
    document = content([person(1, 7)])
    document["images"][0]["file_name"] = "sub/a.jpg"
    path = write(tmp_path, document)
    with pytest.raises(DataError, match=r"lacks 1 of 1 images \(sub/a\.jpg first\)"):
        COCOKeypoints(path)
    write_images(tmp_path / "val2017" / "sub", ["a.jpg"])
    assert COCOKeypoints(path)[0].image.shape == (48, 64, 3)
