#!/usr/bin/env python3
"""Export common architectures from torchvision, with random weights, to see how sdc does on networks it was not tuned for.

    python bench/make_zoo.py OUT_DIR [NAME ...]

Batch 1, f32, opset 17. Needs torch and torchvision (the figures in docs/performance.md are from 2.4.1 and 0.19.1) and onnx.
Time them with bench/speed.py OUT_DIR.
"""
import pathlib
import sys

import torch
import torchvision.models as zoo
from torch import nn

SIDE = {"inception_v3": 299}
VISION = {
    "alexnet": zoo.alexnet,
    "convnext_tiny": zoo.convnext_tiny,
    "densenet121": zoo.densenet121,
    "efficientnet_b0": zoo.efficientnet_b0,
    "googlenet": lambda **options: zoo.googlenet(aux_logits=False, init_weights=False, **options),
    "inception_v3": lambda **options: zoo.inception_v3(aux_logits=False, init_weights=False, **options),
    "mnasnet": zoo.mnasnet1_0,
    "mobilenet_v3_large": zoo.mobilenet_v3_large,
    "regnet_y_400mf": zoo.regnet_y_400mf,
    "resnext50": zoo.resnext50_32x4d,
    "shufflenet_v2": zoo.shufflenet_v2_x1_0,
    "swin_t": zoo.swin_t,
    "vit_b_16": zoo.vit_b_16,
    "wide_resnet50": zoo.wide_resnet50_2,
}


class BiLstm(nn.Module):
    """Two layers of 256 states in both directions, 100 steps."""

    def __init__(self):
        super().__init__()
        self.layers = nn.LSTM(64, 256, 2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(512, 40)

    def forward(self, x):
        return self.out(self.layers(x)[0])


def quartz():
    """One-dimensional separable convolutions, as speech recognisers have them."""
    layers = [nn.Conv1d(64, 256, 11, 2, 5), nn.BatchNorm1d(256), nn.ReLU()]
    for _ in range(5):
        layers += [nn.Conv1d(256, 256, 13, 1, 6, groups=256), nn.Conv1d(256, 256, 1), nn.BatchNorm1d(256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv1d(256, 512, 29, 1, 28, dilation=2), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, 29, 1))


def dcgan():
    """The generator of DCGAN: transposed convolutions."""
    layers, channels = [], [100, 512, 256, 128, 64]
    for i, (a, b) in enumerate(zip(channels, channels[1:])):
        layers += [nn.ConvTranspose2d(a, b, 4, 2 if i else 1, 1 if i else 0), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())


def bert():
    """Four layers of BERT base over 128 tokens."""
    torch.backends.mha.set_fastpath_enabled(False)
    layer = nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


OTHERS = {
    "bert4": (bert, (1, 128, 768)),
    "bilstm": (BiLstm, (1, 100, 64)),
    "dcgan": (dcgan, (1, 100, 1, 1)),
    "quartz1d": (quartz, (1, 64, 400)),
}


def main():
    out, *names = sys.argv[1:] or sys.exit(__doc__)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    for name in names or sorted(VISION | OTHERS):
        torch.manual_seed(0)
        if name in VISION:
            side = SIDE.get(name, 224)
            model, shape = VISION[name](weights=None), (1, 3, side, side)
        else:
            make, shape = OTHERS[name]
            model = make()
        torch.onnx.export(model.eval(), torch.randn(shape), f"{out}/{name}.onnx", opset_version=17)
        print(name, flush=True)


if __name__ == "__main__":
    main()
