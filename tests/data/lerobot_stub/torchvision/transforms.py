"""``ToTensor``: a PIL image to (3, H, W) in 0..1."""

import numpy as np
import torch
from PIL import Image


class ToTensor:
    """Callable as torchvision's."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
