"""Writes fixtures of test/io: small files of PyTorch, NumPy and GGUF, with what they hold.

    python3 scripts/golden/format_fixtures.py test/io/fixtures [pt] [npy] [gguf]

`pt` needs torch (1.13), `gguf` the package of that name (0.19) with NumPy 2; run them apart if need be.
"""
import collections
import json
import os
import sys

import numpy as np


def numbers(array):
    """Values as JSON has them: halves as their bits are, infinities and NaN as text."""
    values = np.asarray(array).reshape(-1).tolist()
    return [v if v is True or v is False or np.isfinite(v) else str(v) for v in values]


def state_dict():
    import torch

    torch.manual_seed(0)
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    state = collections.OrderedDict()
    state["conv.weight"] = torch.randn(2, 1, 3, 3)
    state["conv.bias"] = torch.nn.Parameter(torch.randn(2))
    state["bn.num_batches_tracked"] = torch.tensor(7)
    state["half"] = torch.tensor([1.5, -0.0, 65504.0, float("inf"), 6e-8]).half()
    state["bfloat"] = torch.tensor([1.5, -2.0, float("nan")]).bfloat16()
    state["double"] = torch.tensor([[1 / 3, 1e300]], dtype=torch.float64)
    state["long"] = torch.tensor([[-(2**31), 2**31 - 1, 0]])
    state["int"] = torch.tensor([-5, 7], dtype=torch.int32)
    state["short"] = torch.tensor([-300, 300], dtype=torch.int16)
    state["char"] = torch.tensor([-128, 127], dtype=torch.int8)
    state["byte"] = torch.tensor([0, 255], dtype=torch.uint8)
    state["bool"] = torch.tensor([True, False, True])
    state["transposed"] = base.transpose(0, 2)
    state["slice"] = base[:, 1:, ::2]
    state["tied"] = base
    state["row"] = base[1, 2]
    state["expanded"] = torch.tensor([[1.0], [2.0]]).expand(2, 5)
    state["long transposed"] = torch.arange(6).reshape(2, 3).t()
    state["half transposed"] = torch.arange(6).reshape(2, 3).half().t()
    state["empty"] = torch.zeros(0, 4)
    state["scalar"] = torch.tensor(2.5)
    # What module.state_dict() has as an attribute.
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return state


class Command:
    def __reduce__(self):
        return (os.system, ("echo executed",))


def write_pt(folder):
    import torch

    state = state_dict()
    torch.save(state, f"{folder}/state.pt")
    torch.save(state, f"{folder}/state-legacy.pt", _use_new_zipfile_serialization=False)
    expected = {
        name: {"dtype": str(t.dtype).split(".")[-1], "shape": list(t.shape), "values": numbers(t.detach().double())}
        for name, t in state.items()
    }
    with open(f"{folder}/state.json", "w") as file:
        json.dump(expected, file, indent=0)
        file.write("\n")
    layer = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(layer.weight, 0.5)
    torch.nn.init.constant_(layer.bias, 0.25)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    milestones = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    checkpoint = {
        "model": layer.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": {k: v for k, v in milestones.state_dict().items() if k == "milestones"},
        "epoch": 3,
        "best": 0.5,
        "big": 2**70,
        "name": "naïve",
        "sizes": (torch.Size([2, 3]), [1, None, True], {1, 2}),
        "device": torch.device("cuda:1"),
        "dtype": torch.float16,
        "raw": b"\x00\xff",
    }
    for name, options in {
        "checkpoint.pt": {},
        "checkpoint-protocol4.pt": {"pickle_protocol": 4},
        "checkpoint-legacy.pt": {"_use_new_zipfile_serialization": False},
    }.items():
        torch.save(checkpoint, f"{folder}/{name}", **options)
    torch.save({"weight": torch.ones(2), "run": Command()}, f"{folder}/command.pt")
    torch.save({"weight": torch.ones(2), "run": Command()}, f"{folder}/command-legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(layer, f"{folder}/module.pt")
    torch.save({"spectrum": torch.ones(2, dtype=torch.complex64)}, f"{folder}/complex.pt")
    torch.save({"big": torch.tensor([1, 2**40])}, f"{folder}/wide.pt")
    torch.jit.script(torch.nn.ReLU()).save(f"{folder}/script.pt")


def write_npy(folder):
    rng = np.random.default_rng(0)
    arrays = {
        "f4": rng.standard_normal((2, 3)).astype("<f4"),
        "f8": rng.standard_normal((2, 3)),
        "f2": np.array([1.5, -0.0, np.inf], "<f2"),
        "i8": np.array([[-(2**31), 2**31 - 1]]),
        "i4": np.array([-1, 2], "<i4"),
        "i2": np.array([-300, 300], "<i2"),
        "i1": np.array([-128, 127], "i1"),
        "u8": np.array([0, 2**32 - 1], "<u8"),
        "u4": np.array([0, 2**32 - 1], "<u4"),
        "u2": np.array([0, 65535], "<u2"),
        "u1": np.array([0, 255], "u1"),
        "b1": np.array([[True], [False]]),
        "big": rng.standard_normal((2, 2)).astype(">f4"),
        "big i8": np.array([-7, 9], ">i8"),
        "fortran": np.asfortranarray(np.arange(24, dtype="<i2").reshape(2, 3, 4)),
        "fortran f8": np.asfortranarray(np.arange(6, dtype="<f8").reshape(2, 3)),
        "scalar": np.float32(3.5),
        "empty": np.zeros((0, 2), "<f4"),
    }
    np.savez(f"{folder}/arrays.npz", **arrays)
    np.savez_compressed(f"{folder}/arrays-compressed.npz", **arrays)
    expected = {
        name: {"dtype": np.asarray(a).dtype.name, "shape": list(np.shape(a)), "values": numbers(a)}
        for name, a in arrays.items()
    }
    with open(f"{folder}/arrays.json", "w") as file:
        json.dump(expected, file, indent=0)
        file.write("\n")
    for version in ((1, 0), (2, 0), (3, 0)):
        with open(f"{folder}/version{version[0]}.npy", "wb") as file:
            np.lib.format.write_array(file, arrays["fortran"], version)
    np.save(f"{folder}/objects.npy", np.array([Command()]))
    np.save(f"{folder}/complex.npy", np.ones(2, "<c8"))
    np.save(f"{folder}/records.npy", np.zeros(1, [("a", "<f4"), ("b", "<i4")]))


def write_gguf(folder):
    import gguf

    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(f"{folder}/tensors.gguf", "llama")
    writer.add_block_count(2)
    writer.add_name("tiny")
    writer.add_token_list(["<s>", "a", "ß"])
    writer.add_token_scores([0.5, -1.0, 2.0])
    writer.add_bool("test.flag", True)
    writer.add_int64("test.negative", -(2**40))
    writer.add_uint64("test.large", 2**63)
    writer.add_float64("test.double", 1 / 3)
    expected = {}

    def add(name, data, raw=None):
        expected[name] = data
        writer.add_tensor(name, data if raw is None else raw[0], raw_dtype=None if raw is None else raw[1])

    types = gguf.GGMLQuantizationType
    plain = rng.standard_normal((2, 3)).astype(np.float32)
    add("F32", plain)
    add("F16", plain.astype(np.float16))
    add("F64", plain.astype(np.float64))
    add("I32", np.arange(3, dtype=np.int32))
    add("I8", np.array([[-128, 127]], np.int8))
    bits = gguf.quants.quantize(plain, types.BF16)
    writer.add_tensor("BF16", bits, raw_dtype=types.BF16)
    expected["BF16"] = gguf.quants.dequantize(bits, types.BF16)
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        kind = types[name]
        blocks = gguf.quants.quantize(rng.standard_normal((2, 64)).astype(np.float32), kind)
        add(name, gguf.quants.dequantize(blocks, kind), (blocks, kind))
    # No quantizer of these is at hand: any bytes are blocks, if their scales are finite.
    halves = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q8_K": ()}
    for name, places in halves.items():
        kind = types[name]
        size = gguf.GGML_QUANT_SIZES[kind][1]
        blocks = rng.integers(0, 256, (2, size), np.uint8)
        for row in blocks:
            for place in places:
                row[place : place + 2] = np.frombuffer(np.float16(rng.uniform(0.001, 0.01)).tobytes(), np.uint8)
            if name == "Q8_K":
                row[:4] = np.frombuffer(np.float32(0.003).tobytes(), np.uint8)
        add(name, reference_q8_k(blocks) if name == "Q8_K" else gguf.quants.dequantize(blocks, kind), (blocks, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    np.savez(f"{folder}/tensors.npz", **expected)


def reference_q8_k(blocks):
    """Not in the package: a float32 scale, then 256 integers of 8 bits."""
    scales = np.ascontiguousarray(blocks[:, :4]).view(np.float32)
    return scales * np.ascontiguousarray(blocks[:, 4:260]).view(np.int8).astype(np.float32)


if __name__ == "__main__":
    target, *families = sys.argv[1:]
    os.makedirs(target, exist_ok=True)
    writers = {"pt": write_pt, "npy": write_npy, "gguf": write_gguf}
    for family in families or writers:
        writers[family](target)
