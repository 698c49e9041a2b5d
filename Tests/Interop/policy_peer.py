"""The policy network once more, in PyTorch, from the files of a model.

usage: policy_peer.py FOLDER   (reads *.safetensors, config.json, images.bin, joints.bin, tasks.bin; prints actions as JSON)
"""
import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file


def forward(trunk, heads, config, images, joints, tasks):
    x = images.permute(0, 3, 1, 2).float() / 255 - 0.5
    for i, layer in enumerate(config["convolutions"]):
        name = f"convolutions.{i}"
        x = F.conv2d(x, trunk[f"{name}.weight"], trunk[f"{name}.bias"], layer["stride"], layer["kernel"] // 2)
        groups = np.gcd(layer["channels"], 8)
        x = F.relu(F.group_norm(x, int(groups), trunk[f"{name}.normalization.weight"], trunk[f"{name}.normalization.bias"]))

    def linear(name, value):
        return F.relu(F.linear(value, trunk[f"{name}.weight"], trunk[f"{name}.bias"]))

    seen = linear("vision", x.flatten(1))
    felt = linear("joints", (joints - trunk["joints.mean"]) / trunk["joints.deviation"])
    assert seen.shape[1] == config["vision"] and felt.shape[1] == config["joints"]
    features = linear("fusion.1", linear("fusion.0", torch.cat([seen, felt], 1)))
    out = []
    for feature, task in zip(features, tasks.tolist()):
        head = heads[task]
        z = torch.cat([feature, head["task.embedding"]])
        assert z.shape[0] == config["head"]
        out.append(z @ head["head.weight"] + head["head.bias"])
    return torch.stack(out)


def main():
    folder = pathlib.Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    trunk = load_file(folder / "trunk.safetensors")
    heads = [load_file(folder / f"head-{i}.safetensors") for i in range(config["tasks"])]
    size = config["image"]
    images = torch.from_numpy(np.fromfile(folder / "images.bin", np.uint8).reshape(-1, size, size, 3))
    joints = torch.from_numpy(np.fromfile(folder / "joints.bin", np.float32).reshape(len(images), -1))
    tasks = torch.from_numpy(np.fromfile(folder / "tasks.bin", np.int64))
    torch.set_num_threads(1)
    with torch.no_grad():
        actions = forward(trunk, heads, config, images, joints, tasks)
    print(json.dumps(actions.flatten().tolist()))


if __name__ == "__main__":
    main()
