"""Writes fixtures of test/vision and test/text: what the models of torchvision (0.14) look like and compute.

    python3 scripts/golden/vision_fixtures.py test/vision/fixtures [FAMILY...]

Weights are not stored. Both sides fill them by one rule, `draw` below and in test/vision/support.ts.
All is computed in float64 from values rounded to float32.
"""
import json
import math
import os
import sys

import numpy as np
import torch
import torchvision.models as tv
from torch import nn

IMAGE = 9999  # number of the tensor "image" in `draw`


def draw(index, size):
    """Numbers in [-1, 1): a hash of the tensor's number and the position in it."""
    x = np.arange(size, dtype=np.uint32) * np.uint32(2654435761)
    x += np.uint32(index * 40503 + 12345)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        x ^= x >> np.uint32(shift)
        x *= np.uint32(factor)
    x ^= x >> np.uint32(15)
    return x.astype(np.float64) / 2**31 - 1


def rounded(values, shape):
    return torch.from_numpy(values.astype(np.float32)).double().reshape(shape)


def fill(model, scale=0.9):
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        last = name.split(".")[-1]
        if last in ("num_batches_tracked", "mask", "relative_position_index"):
            continue
        u = draw(index, tensor.numel())
        if tensor.ndim >= 2:
            u *= math.sqrt(6 / (tensor.numel() / tensor.shape[0]))
        elif last == "weight":
            u = scale + 0.2 * u
        elif last == "running_var":
            u = 1 + 0.5 * u
        else:
            u *= 0.1
        tensor.copy_(rounded(u, tensor.shape))


def tree(model):
    """State as nested dicts: [shape of weight, has bias], or a number for a batch norm; '=' is the sibling before."""

    def visit(module):
        own = {n: list(t.shape) for n, t in module.named_parameters(recurse=False)}
        own.update({n: list(t.shape) for n, t in module.named_buffers(recurse=False)})
        if "running_mean" in own:
            return own["running_mean"][0]
        children, before = {}, None
        for name, child in module.named_children():
            found = visit(child)
            if found == {}:
                continue
            children[name] = "=" if found == before else found
            before = found
        return {**own, **children}

    return visit(model)


def digits(tensor):
    return [float(f"{v:.8g}") for v in tensor.detach().flatten().tolist()]


def record(make, numbers=True, size=64, scale=0.9):
    """`scale`: mean weight of normalizations, larger where gates make the signal small,
    but not so large that float32 itself is far from float64 (2.8e-5 in PyTorch for efficientnet_b0 at 1.2)."""
    model = make()
    result = {"state": tree(model)}
    if numbers:
        model = model.double().eval()
        fill(model, scale)
        with torch.no_grad():
            images = rounded(draw(IMAGE, 2 * 3 * size * size), (2, 3, size, size))
            logits = model(images)
            moved = (logits[0] - logits[1]).abs().max() / logits.abs().max()
        assert torch.isfinite(logits).all() and moved > 0.005, (logits, moved)
        print(f"  largest {logits.abs().max():.3g}, images differ by {moved:.3g}")
        result["logits"], result["scale"] = digits(logits), scale
    return result


def cifar(name):
    model = getattr(tv, name)(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = nn.Identity()
    return model


def gradients():
    """Loss, and per parameter the norm of its gradient and its product with a fixed direction."""
    model = cifar("resnet18").double().train()
    with torch.no_grad():
        fill(model)
    images = rounded(draw(IMAGE, 8 * 3 * 16 * 16), (8, 3, 16, 16))
    loss = nn.functional.cross_entropy(model(images), torch.arange(8) % 10)
    loss.backward()
    found = {}
    for index, (name, parameter) in enumerate(model.named_parameters()):
        grad = parameter.grad.flatten()
        found[name] = digits(torch.stack([grad.norm(), grad @ rounded(draw(index, grad.numel()), -1)]))
    state = model.state_dict()
    statistics = {n: digits(t.sum()) for n, t in state.items() if n.split(".")[-1].startswith("running")}
    return {"loss": digits(loss)[0], "gradients": found, "statistics": statistics}


def plain(name, **options):
    return lambda: getattr(tv, name)(num_classes=10, **options)


def resnet():
    names = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"]
    models = {name: record(plain(name), name not in ("resnet152", "resnext101_32x8d")) for name in names}
    models["resnet18_cifar"] = record(lambda: cifar("resnet18"), size=32)
    return {"models": models, "training": gradients()}


class ShuffleUnit(nn.Module):
    def __init__(self, before, after, stride, groups, first):
        super().__init__()
        hidden, own = after // 4, after - before * (stride - 1)
        self.stride, self.groups = stride, groups
        self.conv1 = nn.Conv2d(before, hidden, 1, groups=first, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, own, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(own)

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = nn.functional.channel_shuffle(y, self.groups)
        y = self.bn3(self.conv3(self.bn2(self.conv2(y))))
        if self.stride == 1:
            return (x + y).relu()
        return torch.cat([nn.functional.avg_pool2d(x, 3, 2, 1), y], 1).relu()


class ShuffleNetV1(nn.Module):
    """Table 1 of https://arxiv.org/abs/1707.01083; torchvision has none."""

    def __init__(self, groups, channels):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24)
        before = 24
        for stage, (after, count) in enumerate(zip(channels, (4, 8, 4))):
            first = ShuffleUnit(before, after, 2, groups, groups if stage else 1)
            rest = (ShuffleUnit(after, after, 1, groups, groups) for _ in range(count - 1))
            setattr(self, f"stage{stage + 2}", nn.Sequential(first, *rest))
            before = after
        self.fc = nn.Linear(before, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        return self.fc(self.stage4(self.stage3(self.stage2(x))).mean((2, 3)))


def mobile():
    models = {
        "mobilenetV2": record(plain("mobilenet_v2")),
        "mobilenetV2 half": record(plain("mobilenet_v2", width_mult=0.5), numbers=False),
    }
    for name in ("small", "large"):
        build = "mobilenet_v3_" + name
        models["mobilenetV3" + name.title()] = record(plain(build), scale=1.1 if name == "small" else 0.9)
        models["mobilenetV3" + name.title() + " half"] = record(plain(build, width_mult=0.5), numbers=False)
    models["efficientnetB0"] = record(plain("efficientnet_b0"), scale=1.1)
    models["shufflenetV1"] = record(lambda: ShuffleNetV1(3, (240, 480, 960)))
    models["shufflenetV1 groups 8"] = record(lambda: ShuffleNetV1(8, (384, 768, 1536)))
    for name in ("x0_5", "x1_0", "x1_5", "x2_0"):
        models["shufflenetV2_" + name] = record(plain("shufflenet_v2_" + name))
    return {"models": models}


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.l1, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.o, self.l2 = nn.Linear(width, width), nn.LayerNorm(width)
        self.f1, self.f2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, mask):
        batch, time, width = x.shape
        parts = self.qkv(self.l1(x)).chunk(3, dim=-1)
        q, k, v = (p.view(batch, time, self.heads, -1).permute(0, 2, 1, 3) for p in parts)
        weights = (q @ k.mT / math.sqrt(width / self.heads) + mask).softmax(-1)
        x = x + self.o((weights @ v).permute(0, 2, 1, 3).flatten(2))
        return x + self.f2(nn.functional.gelu(self.f1(self.l2(x))))


class GPT(nn.Module):
    def __init__(self, layers, width, heads, context, vocabulary):
        super().__init__()
        self.te = nn.Embedding(vocabulary, width)
        self.pe = nn.Parameter(torch.zeros(context, width))
        self.bl = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.lf, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("mask", torch.full((context, context), -1e9).triu(1))

    def forward(self, tokens):
        x = self.te(tokens) + self.pe
        for block in self.bl:
            x = block(x, self.mask)
        return self.head(self.lf(x))


def gpt():
    model = GPT(2, 32, 4, 16, 10).double()
    state = tree(model)
    with torch.no_grad():
        fill(model)
    tokens = torch.arange(32).reshape(2, 16) ** 2 % 10
    logits = model(tokens)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), (tokens.flatten() + 1) % 10)
    loss.backward()
    norms = {name: digits(p.grad.norm())[0] for name, p in model.named_parameters()}
    return {"models": {"gpt": {"state": state, "logits": digits(logits)}}, "loss": digits(loss)[0], "norms": norms}


def vgg():
    models = {}
    for depth in (11, 13, 16, 19):
        models[f"vgg{depth}"] = record(plain(f"vgg{depth}"), depth == 11)
        models[f"vgg{depth}Bn"] = record(plain(f"vgg{depth}_bn"), depth == 13)
    return {"models": models}


def squeezenet():
    names = ("squeezenet1_0", "squeezenet1_1")
    return {"models": {name: record(plain(name)) for name in names}}


def transformers():
    names = {"vitB16": "vit_b_16", "vitB32": "vit_b_32", "swinT": "swin_t"}
    models = {name: record(plain(build), numbers=False) for name, build in names.items()}
    vit = dict(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=48, num_classes=5)
    models["vit"] = record(lambda: tv.VisionTransformer(**vit), size=32)
    models["vit representation"] = record(lambda: tv.VisionTransformer(representation_size=12, **vit), size=32)
    swin = dict(patch_size=[4, 4], embed_dim=8, num_heads=[2, 4], num_classes=5)
    for size in (32, 44):  # 11 patches a side are no whole windows, nor pairs
        models[f"swin {size}"] = record(
            lambda: tv.SwinTransformer(depths=[2, 2], window_size=[4, 4], **swin), size=size
        )
    return {"models": models}


FAMILIES = {
    "resnet": resnet,
    "mobile": mobile,
    "gpt": gpt,
    "vgg": vgg,
    "squeezenet": squeezenet,
    "transformers": transformers,
}


def main(folder, *families):
    os.makedirs(folder, exist_ok=True)
    for family in families or FAMILIES:
        print(family)
        with open(os.path.join(folder, family + ".json"), "w") as file:
            json.dump(FAMILIES[family](), file, separators=(",", ":"))
            file.write("\n")


main(*sys.argv[1:])
