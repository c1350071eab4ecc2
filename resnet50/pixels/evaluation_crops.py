"""Views of a validation image: the centre crop, or ten crops. No randomness."""

import numpy as np
from PIL import Image

from resnet50.pixels.resampling import crop_of_resized, resized_size

NUM_CROPS = (1, 10)


def views(
    image: Image.Image, *, shorter_side: int, crop_size: int, num_crops: int
) -> np.ndarray:
    """Resizes an image and crops it.

    Args:
        image: RGB, any size. Not modified.
        shorter_side: Shorter side of the resized image, pixels, at least crop_size.
        crop_size: Side of a crop, pixels.
        num_crops: 1 for the centre; 10 for the four corners and the centre, and the
            same five mirrored (Krizhevsky et al. 2012, section 4.1).

    Returns:
        uint8 [num_crops, crop_size, crop_size, 3], RGB.
    """
    resized = resized_size(*image.size, shorter_side)
    right, bottom = (side - crop_size for side in resized)
    # Half of an odd margin is rounded as in torchvision's CenterCrop.
    corners = [(round(0.5 * right), round(0.5 * bottom))]
    if num_crops == 10:
        corners = [(0, 0), (right, 0), (0, bottom), (right, bottom), *corners]
    crops = [crop_of_resized(image, resized, c, crop_size) for c in corners]
    if num_crops == 10:
        crops += [crop[:, ::-1] for crop in crops]
    return np.stack(crops)
