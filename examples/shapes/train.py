"""Trains the shapes network on images drawn by draw.py and writes every other file of this folder.

    pip install numpy onnx torch
    python train.py

One thread, fixed seeds: the same torch build on the same kind of processor gives the same weights again. check.py
measures what came out.
"""

import pathlib

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import draw

HERE = pathlib.Path(__file__).resolve().parent
WEIGHT_SEED = 3
TRAIN_IMAGES, TEST_IMAGES, EPOCHS, BATCH = 20000, 300, 24, 64
INPUT, OUTPUT, OPSET = "image", "logits", 17


class Network(nn.Module):
    """A list of ONNX nodes, each with the torch module that computes the same: trained and exported from one description."""

    def __init__(self):
        super().__init__()
        self.nodes, self.layers = [], nn.ModuleList()  # nodes: (operator, name, inputs), beside its module
        x = self.conv_bn("stem", INPUT, 1, 16, activation=nn.ReLU())
        x = self.add("MaxPool", "stem/pool", [x], nn.MaxPool2d(2))
        y = self.conv_bn("block/first", x, 16, 16, activation=nn.ReLU())
        y = self.conv_bn("block/second", y, 16, 16)
        x = self.add("Add", "block/sum", [y, x], Sum())
        x = self.add("Relu", "block/relu", [x], nn.ReLU())
        x = self.conv_bn("down", x, 16, 32, stride=2, activation=nn.ReLU())
        for block, channels, filters in (("separable1", 32, 64), ("separable2", 64, 96)):
            x = self.conv_bn(f"{block}/depthwise", x, channels, channels, groups=channels, activation=nn.ReLU6())
            x = self.conv_bn(f"{block}/pointwise", x, channels, filters, kernel=1, activation=nn.ReLU6())
        x = self.add("GlobalAveragePool", "head/pool", [x], nn.AdaptiveAvgPool2d(1))
        x = self.add("Flatten", "head/flatten", [x], nn.Flatten())
        self.add("Gemm", "head/classify", [x], nn.Linear(96, len(draw.LABELS)), output=OUTPUT)

    def add(self, operator, name, inputs, module, output=None):
        self.nodes.append((operator, name, inputs, output or name))
        self.layers.append(module)
        return output or name

    def conv_bn(self, name, x, channels, filters, kernel=3, stride=1, groups=1, activation=None):
        conv = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
        x = self.add("Conv", f"{name}/conv", [x], conv)
        x = self.add("BatchNormalization", f"{name}/norm", [x], nn.BatchNorm2d(filters))
        if activation is None:
            return x
        operator = "Clip" if isinstance(activation, nn.ReLU6) else "Relu"
        return self.add(operator, f"{name}/{operator.lower()}", [x], activation)

    def forward(self, image):
        values = {INPUT: image}
        for (_, _, inputs, output), layer in zip(self.nodes, self.layers):
            values[output] = layer(*(values[name] for name in inputs))
        return values[OUTPUT]


class Sum(nn.Module):
    def forward(self, a, b):
        return a + b


def weights_and_attributes(operator, module):
    """What an ONNX node has beyond its inputs: named weights, in the operator's input order, and attributes."""
    if operator == "Conv":
        attributes = {
            "kernel_shape": module.kernel_size,
            "strides": module.stride,
            "pads": module.padding * 2,
            "group": module.groups,
        }
        return {"weight": module.weight}, attributes
    if operator == "BatchNormalization":
        weights = {"scale": module.weight, "bias": module.bias, "mean": module.running_mean, "var": module.running_var}
        return weights, {"epsilon": module.eps}
    if operator == "Gemm":
        return {"weight": module.weight, "bias": module.bias}, {"transB": 1}
    if operator == "Clip":
        return {"min": torch.tensor(module.min_val), "max": torch.tensor(module.max_val)}, {}
    if operator == "MaxPool":
        return {}, {"kernel_shape": [module.kernel_size] * 2, "strides": [module.stride] * 2}
    return {}, {}


def to_onnx(network):
    nodes, initializers = [], []
    for (operator, name, inputs, output), module in zip(network.nodes, network.layers):
        weights, attributes = weights_and_attributes(operator, module)
        names = [f"{name}/{part}" for part in weights]
        for weight_name, weight in zip(names, weights.values()):
            array = weight.detach().numpy().astype(np.float32)
            initializers.append(numpy_helper.from_array(array, weight_name))
        nodes.append(helper.make_node(operator, inputs + names, [output], name, **attributes))
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, 1, draw.SIZE, draw.SIZE])
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, len(draw.LABELS)])
    graph = helper.make_graph(nodes, "shapes", [image], [logits], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="examples/shapes")
    model.ir_version = 8  # the IR version that came with this opset, so that older tools read the file too
    onnx.checker.check_model(model, full_check=True)
    return model


def as_input(images):
    return torch.from_numpy(images[:, None].astype(np.float32) / 255)


def train(network):
    images, labels = draw.draw(draw.TRAIN_SEED, TRAIN_IMAGES)
    images, labels = as_input(images), torch.from_numpy(labels.astype(np.int64))
    steps = EPOCHS * (TRAIN_IMAGES // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    network.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(TRAIN_IMAGES).split(BATCH)[: TRAIN_IMAGES // BATCH]:
            flips = [axis for axis in (2, 3) if torch.rand(()) < 0.5]  # every class looks the same in a mirror
            loss = loss_of(network(images[batch].flip(flips)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * BATCH / TRAIN_IMAGES
        print(f"epoch {epoch + 1}/{EPOCHS} loss {total:.4f}", flush=True)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(WEIGHT_SEED)
    network = Network()
    train(network)
    network.eval()
    onnx.save(to_onnx(network), HERE / "shapes.onnx")

    images, labels = draw.draw(draw.TEST_SEED, TEST_IMAGES)
    np.save(HERE / "test_x.npy", images)
    np.save(HERE / "test_y.npy", labels)
    (HERE / "labels.txt").write_text("".join(f"{label}\n" for label in draw.LABELS))

    # One test image, ready for the network, and what torch computes from it: the reference that `sdc check` compares with.
    first = as_input(images[:1])
    with torch.no_grad():
        logits = network(first)
    np.save(HERE / "image.npy", first.numpy())
    golden = HERE / "shapes_io" / "test_data_set_0"
    golden.mkdir(parents=True, exist_ok=True)
    for file, name, tensor in (("input_0.pb", INPUT, first), ("output_0.pb", OUTPUT, logits)):
        (golden / file).write_bytes(numpy_helper.from_array(tensor.numpy(), name).SerializeToString())


if __name__ == "__main__":
    main()
