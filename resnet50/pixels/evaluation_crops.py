"""Views of a validation image: the centre crop, or ten crops. No randomness."""

import numpy as np
from PIL import Image

from resnet50.pixels.resampling import crop_of_resized

NUM_CROPS = (1, 10)


def views(
    image: Image.Image, *, shorter_side: int, crop_size: int, num_crops: int
) -> np.ndarray:
    """Crops of an image whose shorter side has been resized.

    Args:
        image: RGB, any size. Not modified.
        shorter_side: After the resize, pixels, at least crop_size.
        crop_size: Side of a crop, pixels.
        num_crops: 1 for the centre; 10 for the four corners and the centre, and the
            same five mirrored (Krizhevsky et al. 2012, section 4.1).

    Returns:
        uint8 [num_crops, crop_size, crop_size, 3], RGB.
    """

    def crop(down: float, right: float) -> np.ndarray:
        def corner(width, height):
            # Half of an odd margin is rounded as in torchvision's CenterCrop.
            return (
                round(right * (width - crop_size)),
                round(down * (height - crop_size)),
            )

        return crop_of_resized(image, shorter_side, crop_size, corner)

    if num_crops == 1:
        return crop(0.5, 0.5)[None]
    five = [crop(*at) for at in ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))]
    return np.stack(five + [view[:, ::-1] for view in five])
