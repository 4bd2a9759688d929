"""What PIL makes of pictures under ADM's centre crop; read by tests/data/test_resize.c.

Provenance: synthetic arrays made here from a fixed seed, no other source. center_crop_arr is the function of that name in
guided-diffusion (MIT licence, OpenAI), as DiT uses it. Written with numpy 2.4.6, Pillow 10.4.0; Pillow 13 resizes some tall pictures
vertically first and then differs by one level.
Rerun: python3 tests/golden/data/make.py
"""
import os

import numpy as np
from PIL import Image

os.chdir(os.path.dirname(os.path.abspath(__file__)))


def center_crop_arr(pil_image, image_size):
    while min(*pil_image.size) >= 2 * image_size:
        pil_image = pil_image.resize(tuple(x // 2 for x in pil_image.size), resample=Image.BOX)
    scale = image_size / min(*pil_image.size)
    pil_image = pil_image.resize(tuple(round(x * scale) for x in pil_image.size), resample=Image.BICUBIC)
    arr = np.array(pil_image)
    crop_y = (arr.shape[0] - image_size) // 2
    crop_x = (arr.shape[1] - image_size) // 2
    return arr[crop_y:crop_y + image_size, crop_x:crop_x + image_size]


rng = np.random.default_rng(7)
arrays = {}
# height, width, channels, size: halvings of odd sides, up- and downscaling, wide, tall, and no change at all
for i, (h, w, c, size) in enumerate([(97, 61, 3, 16), (40, 30, 1, 32), (20, 50, 1, 48), (131, 130, 3, 32), (65, 64, 1, 32),
                                     (64, 200, 1, 24), (24, 24, 3, 24), (33, 7, 1, 5)]):
    y, x = np.mgrid[0:h, 0:w]
    smooth = 128 + 100 * np.sin(x / 5.0)[..., None] * np.cos((y / 7.0)[..., None] + np.arange(c))
    noisy = np.where(((x + y) // 16 % 2 == 0)[..., None], smooth, rng.integers(0, 256, (h, w, c)))  # smooth and hard parts
    image = np.clip(noisy, 0, 255).astype(np.uint8)
    picture = Image.fromarray(image if c == 3 else image[..., 0])
    arrays[f"in_{i}"] = image
    arrays[f"out_{i}"] = center_crop_arr(picture, size).reshape(size, size, c)
np.savez_compressed("resize.npz", **arrays)
