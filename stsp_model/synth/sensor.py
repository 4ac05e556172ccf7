"""From light to a JPEG, as a camera's sensor and encoder do it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Sensor:
    """How a camera develops its pictures.

    Args:
        gain: brightness; 1 leaves white at white.
        balance: gain of red and of blue.
        vignette: how much darker the corners are, 0 to 1.
        shot_noise, read_noise: standard deviation of the noise on white that grows with the root
            of the light, and of the noise that is always there.
        blur: px, standard deviation of the lens's and demosaicing's blur.
        quality: of the JPEG, 1 to 100.
    """

    gain: float
    balance: tuple[float, float]
    vignette: float
    shot_noise: float
    read_noise: float
    blur: float
    quality: int


def sample_sensor(rng: np.random.Generator) -> Sensor:
    """A camera between good light and the dim end of a sports hall."""
    noise = rng.beta(1.2, 4)
    return Sensor(
        gain=float(np.exp(rng.normal(0, 0.25))),
        balance=(float(np.exp(rng.normal(0, 0.06))), float(np.exp(rng.normal(0, 0.06)))),
        vignette=float(rng.uniform(0, 0.4)),
        shot_noise=float(0.1 * noise),
        read_noise=float(0.02 * noise),
        blur=float(rng.uniform(0, 0.9)),
        quality=int(rng.integers(40, 97)),
    )


def develop(
    light: npt.NDArray[np.float32], sensor: Sensor, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR of linear RGB light (H, W, 3)."""
    rows, columns = light.shape[:2]
    x, y = np.linspace(-1, 1, columns), np.linspace(-1, 1, rows)
    shade = 1 - sensor.vignette * (x[None] ** 2 + y[:, None] ** 2) / 2
    red, blue = sensor.balance
    tint = sensor.gain * np.array([red, 1.0, blue])
    exposed = (light * (shade[..., None] * tint)).astype(np.float32)
    if sensor.blur > 0.2:
        exposed = np.asarray(cv2.GaussianBlur(exposed, (0, 0), sensor.blur), np.float32)
    spread = np.sqrt(sensor.shot_noise**2 * np.maximum(exposed, 0) + sensor.read_noise**2)
    exposed += spread * rng.standard_normal(exposed.shape, dtype=np.float32)
    # A soft shoulder, so that bright grounds do not all burn out to white.
    toned = np.where(exposed < 0.7, exposed, 1 - 0.3 * np.exp(-(exposed - 0.7) / 0.3))
    encoded = np.clip(toned, 0, 1) ** (1 / 2.2) * 255
    return np.ascontiguousarray(np.rint(encoded[..., ::-1]).astype(np.uint8))


def encode_jpeg(image: npt.NDArray[np.uint8], quality: int) -> bytes:
    """JPEG bytes of an (H, W, 3) uint8 BGR image."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"image {image.shape} {image.dtype} cannot be encoded as JPEG")
    return data.tobytes()
