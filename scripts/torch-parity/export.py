"""Writes models of torchvision with seeded random weights, an input and its logits, for run.ts to compare.

    python3 scripts/torch-parity/export.py DIR [MODEL...]
    python3 scripts/torch-parity/export.py test/vision/fixtures/torch --small

Per model: NAME.pt (state dict), NAME.onnx, NAME.input.npy, NAME.logits.npy. Needs torch and torchvision
(1.13 and 0.14 were used), not the package onnx.
"""
import json
import os
import sys

import numpy as np
import torch
import torchvision.models as tv
from torch import nn

BATCH = 2
SIZE = 224
OPSET = 17
MODELS = ("resnet50", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16", "swin_t")


SMALL = {
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.Hardswish(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 8, 3, padding=2, dilation=2, groups=2),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
        nn.LogSoftmax(1),
    ),
    "vit": lambda: tv.VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5
    ),
    "swin": lambda: tv.SwinTransformer(
        patch_size=[4, 4], embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=[2, 2], num_classes=5
    ),
}


def prepare(model, size):
    """Weights as training starts them, but statistics of this network's own signal, and no zeros."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean of all batches
    if norms:
        model.train()
        with torch.no_grad():
            for _ in range(2):
                model(torch.randn(8, 3, size // 2, size // 2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() == 0 and parameter.ndim > 1:
                parameter.normal_(0, 0.02)
            elif parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()


def export(folder, name, make, size=SIZE):
    torch.manual_seed(0)
    model = prepare(make(), size)
    images = torch.randn(BATCH, 3, size, size)
    with torch.no_grad():
        logits = model(images)
        exact = model.double()(images.double())
    model.float()
    path = os.path.join(folder, name)
    torch.save(model.state_dict(), path + ".pt")
    np.save(path + ".input.npy", images.numpy())
    np.save(path + ".logits.npy", logits.numpy())
    names = {"input_names": ["images"], "output_names": ["logits"]}
    torch.onnx.export(model, images, path + ".onnx", opset_version=OPSET, **names)
    error = ((logits - exact).abs().max() / exact.abs().max()).item()
    size = os.path.getsize(path + ".onnx") / 1e6
    print(f"{name}: logits to {logits.abs().max():.3g}, float32 is {error:.1e} from float64, ONNX of {size:.0f} MB")
    return {"name": name, "torchError": error}


def main(folder, *names):
    os.makedirs(folder, exist_ok=True)
    if names == ("--small",):
        for name, make in SMALL.items():
            export(folder, name, make, 16)
        return
    models = [export(folder, name, getattr(tv, name)) for name in names or MODELS]
    with open(os.path.join(folder, "manifest.json"), "w") as file:
        json.dump({"torch": torch.__version__, "opset": OPSET, "models": models}, file, indent=1)


main(*sys.argv[1:])
