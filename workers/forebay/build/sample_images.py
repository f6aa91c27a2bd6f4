"""Pictures drawn on the spot, the same on every machine, that image models are tried on."""

import numpy as np
import numpy.typing as npt

COUNT = 24
_SIZES = ((240, 320), (320, 240), (96, 96), (48, 400), (333, 77), (512, 384))

Picture = npt.NDArray[np.uint8]
"""RGB, `[height, width, 3]`."""


def sample_images() -> list[Picture]:
    """Slopes of colour, checks, discs and noise, in sizes that are odd in both senses."""
    random = np.random.default_rng(2_025)
    return [_picture(random, *_SIZES[index % len(_SIZES)], index) for index in range(COUNT)]


def _picture(random: np.random.Generator, height: int, width: int, index: int) -> Picture:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    y, x = y / height, x / width
    first, second = random.uniform(0, 255, (2, 3))
    match index % 4:
        case 0:  # a slope
            share = (x * random.uniform(0, 1) + y * random.uniform(0, 1)) / 2
        case 1:  # checks
            share = ((x * 8).astype(int) + (y * 8).astype(int)) % 2
        case 2:  # a disc
            share = np.asarray((x - 0.5) ** 2 + (y - 0.4) ** 2 < random.uniform(0.02, 0.2), float)
        case _:  # waves
            share = 0.5 + 0.5 * np.sin(40 * random.uniform(0.2, 1) * (x + y * y))
    picture = first + (second - first) * share[..., None] + random.normal(0, 12, (height, width, 3))
    return np.asarray(np.clip(picture, 0, 255), np.uint8)
