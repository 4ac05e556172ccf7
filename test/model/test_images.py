"""Image messages decode to the BGR pixels they were made from."""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stsp_model.images import ENCODINGS, UnknownEncodingError, decode_compressed, decode_image

RED = (0, 0, 255)


def smooth_image(height: int = 24, width: int = 32) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 8, columns * 6, 90 + rows * 2 + columns], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("encoding", "pixel", "bgr"),
    [
        ("bgr8", [0, 0, 255], RED),
        ("8UC3", [0, 0, 255], RED),
        ("rgb8", [255, 0, 0], RED),
        ("bgra8", [0, 0, 255, 7], RED),
        ("8UC4", [0, 0, 255, 7], RED),
        ("rgba8", [255, 0, 0, 7], RED),
        ("mono8", [90], (90, 90, 90)),
        ("8UC1", [90], (90, 90, 90)),
        ("mono16", [3, 90], (90, 90, 90)),
        ("16UC1", [3, 90], (90, 90, 90)),
    ],
)
def test_a_pixel_keeps_its_colour(encoding: str, pixel: list[int], bgr: tuple[int, ...]) -> None:
    image = decode_image(2, 2, encoding, 2 * len(pixel), bytes(pixel * 4))
    assert image.shape == (2, 2, 3)
    assert image.dtype == np.uint8
    assert (image == bgr).all()


def test_sixteen_bits_follow_the_byte_order() -> None:
    assert decode_image(1, 1, "mono16", 2, b"\x5a\x03", is_bigendian=True)[0, 0, 0] == 0x5A
    assert decode_image(1, 1, "mono16", 2, b"\x03\x5a", is_bigendian=False)[0, 0, 0] == 0x5A


# A grey (Y 128, no chroma) in the video range of BT.601 is (128 - 16) * 255 / 219 = 130.
@pytest.mark.parametrize(
    ("encoding", "pair"),
    [
        ("yuv422", [128, 81, 128, 235]),
        ("uyvy", [128, 81, 128, 235]),
        ("yuv422_yuy2", [81, 128, 235, 128]),
        ("yuyv", [81, 128, 235, 128]),
    ],
)
def test_yuv_order_of_luma_and_chroma(encoding: str, pair: list[int]) -> None:
    image = decode_image(1, 2, encoding, 4, bytes(pair))
    # (81 - 16) * 255 / 219 = 76, and 235 is white.
    np.testing.assert_allclose(image[0], [[76] * 3, [255] * 3], atol=1)


def test_yuv_red_is_red() -> None:
    # BT.601 video range: pure red is Y 81, U 90, V 240.
    for encoding, data in {
        "uyvy": [90, 81, 240, 81],
        "yuyv": [81, 90, 81, 240],
    }.items():
        np.testing.assert_allclose(
            decode_image(1, 2, encoding, 4, bytes(data))[0, 0], RED, atol=2, err_msg=encoding
        )
    np.testing.assert_allclose(
        decode_image(2, 2, "nv21", 2, bytes([81] * 4 + [240, 90]))[0, 0], RED, atol=2
    )


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_name_the_top_left_pixels(pattern: str) -> None:
    colour = {"b": 30, "g": 120, "r": 220}
    tile = np.array([colour[letter] for letter in pattern], np.uint8).reshape(2, 2)
    mosaic = np.tile(tile, (4, 4))
    image = decode_image(8, 8, f"bayer_{pattern}8", 8, mosaic.tobytes())
    assert (image[2:-2, 2:-2] == [30, 120, 220]).all()


def test_bgr8_is_a_view_and_honours_the_step() -> None:
    expected = smooth_image()
    rows = np.zeros((24, 32 * 3 + 5), np.uint8)
    rows[:, : 32 * 3] = expected.reshape(24, -1)
    data = array.array("B", rows.tobytes())
    image = decode_image(24, 32, "bgr8", rows.shape[1], data)
    assert (image == expected).all()
    data[0] = 199
    assert image[0, 0, 0] == 199


def pixel_bytes(encoding: str) -> int:
    if encoding.startswith(("yuv", "yuyv", "uyvy")) or encoding in ("mono16", "16UC1"):
        return 2
    if encoding.startswith("bayer"):
        return 1
    return {"bgr8": 3, "8UC3": 3, "rgb8": 3, "bgra8": 4, "8UC4": 4, "rgba8": 4}.get(encoding, 1)


@given(encoding=st.sampled_from(sorted(set(ENCODINGS) - {"nv21"})), padding=st.integers(0, 9))
def test_row_padding_changes_no_pixel(encoding: str, padding: int) -> None:
    size = pixel_bytes(encoding)
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8 * size), dtype=np.uint8)
    padded = np.pad(pixels, ((0, 0), (0, padding)), constant_values=77)
    plain = decode_image(6, 8, encoding, 8 * size, pixels.tobytes())
    assert (decode_image(6, 8, encoding, 8 * size + padding, padded.tobytes()) == plain).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((2, 2, "bgr8", 6, bytes(11)), "cut off: 11 bytes came.* has 12"),
        ((2, 2, "bgr8", 5, bytes(12)), "step is 5 bytes; a row of 2 bgr8 pixels has 6"),
        ((0, 2, "bgr8", 6, b""), "2x0"),
        ((2, 3, "uyvy", 6, bytes(12)), "even width"),
        ((3, 2, "nv21", 2, bytes(12)), "even height"),
        ((2, 2, "nv21", 2, bytes(5)), "cut off"),
    ],
)
def test_contradicting_sizes_are_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_image(*arguments)


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(UnknownEncodingError, match=r"'32FC1' is not supported.*bgr8"):
        decode_image(2, 2, "32FC1", 8, bytes(16))


def test_png_is_exact_and_jpeg_close() -> None:
    image = smooth_image()
    png = cv2.imencode(".png", image)[1].tobytes()
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    assert (decode_compressed(array.array("B", png), "bgr8; png compressed bgr8") == image).all()
    assert np.abs(decode_compressed(jpeg, "jpeg").astype(int) - image).mean() < 3


def test_png_compressed_as_rgb_comes_out_bgr() -> None:
    image = smooth_image()
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    assert (decode_compressed(png, "rgb8; png compressed rgb8") == image).all()


@pytest.mark.parametrize(
    "format", ["bayer_rggb8; png compressed ", "bayer_rggb16; png compressed "]
)
def test_a_mosaic_that_was_compressed_as_it_is_comes_out_in_colour(format: str) -> None:
    red = np.zeros((8, 8), np.uint16 if "16" in format else np.uint8)
    red[::2, ::2] = np.iinfo(red.dtype).max
    png = cv2.imencode(".png", red)[1].tobytes()
    assert (decode_compressed(png, format)[2:-2, 2:-2] == (0, 0, 255)).all()
    shown = cv2.imencode(".png", smooth_image())[1].tobytes()
    assert (decode_compressed(shown, "bayer_rggb8; png compressed bgr8") == smooth_image()).all()


def test_exif_rotation_is_ignored() -> None:
    image = smooth_image(24, 32)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    rotated = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    upright = cv2.imdecode(np.frombuffer(rotated, np.uint8), cv2.IMREAD_COLOR)
    assert upright is not None
    assert upright.shape == (32, 24, 3)  # the tag is really there
    assert decode_compressed(rotated, "jpeg").shape == (24, 32, 3)


@given(keep=st.floats(0.02, 0.98), extension=st.sampled_from([".jpg", ".png"]))
def test_a_cut_off_image_is_refused(keep: float, extension: str) -> None:
    encoded = cv2.imencode(extension, smooth_image())[1].tobytes()
    with pytest.raises(ValueError, match=r"cut off|neither"):
        decode_compressed(encoded[: int(len(encoded) * keep)])


def test_jpeg_may_have_bytes_after_its_end() -> None:
    jpeg = cv2.imencode(".jpg", smooth_image())[1].tobytes()
    assert decode_compressed(jpeg + bytes(500)).shape == (24, 32, 3)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1g", b"RIFF"])
def test_another_format_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"'h264'.*neither JPEG nor PNG"):
        decode_compressed(data, "h264")


def test_a_damaged_png_is_refused() -> None:
    png = bytearray(cv2.imencode(".png", smooth_image())[1].tobytes())
    png[len(png) // 2] ^= 0xFF
    with pytest.raises(ValueError, match="does not decode"):
        decode_compressed(bytes(png))


def test_a_size_beyond_all_reason_is_refused() -> None:
    jpeg = bytearray(cv2.imencode(".jpg", smooth_image())[1].tobytes())
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = b"\xff\xdc\xff\xdc"  # 65500x65500
    with pytest.raises(ValueError, match=r"JPEG image of .* does not decode: .*PIXELS"):
        decode_compressed(bytes(jpeg))
