"""Measures the committed files with ONNX Runtime, and says whether draw.py still draws the committed test images.

    pip install numpy onnx onnxruntime
    python check.py
"""

import pathlib
import sys

import numpy as np
import onnx
import onnxruntime

import draw

HERE = pathlib.Path(__file__).resolve().parent


def tensor(path):
    return onnx.numpy_helper.to_array(onnx.load_tensor(path))


def main():
    images, labels = np.load(HERE / "test_x.npy"), np.load(HERE / "test_y.npy")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(HERE / "shapes.onnx", options, providers=["CPUExecutionProvider"])

    def logits(image):
        return session.run(["logits"], {"image": image})[0]

    scores = np.concatenate([logits(image[None, None].astype(np.float32) / 255) for image in images])
    right = scores.argmax(1) == labels
    two_best = np.sort(scores, 1)[:, -2:]
    print(f"top1: {right.sum()}/{len(labels)}")
    print(f"smallest margin between the two best classes: {(two_best[:, 1] - two_best[:, 0]).min():.4f}")
    for index in np.flatnonzero(~right):
        print(f"  image {index}: {draw.LABELS[labels[index]]} taken for {draw.LABELS[scores[index].argmax()]}")

    golden = HERE / "shapes_io" / "test_data_set_0"
    expected, got = tensor(golden / "output_0.pb"), logits(tensor(golden / "input_0.pb"))
    error = np.abs(got - expected).max() / np.abs(expected).max()
    print(f"golden output: max|a-b| / max|b| = {error:.1e}")

    drawn = draw.draw(draw.TEST_SEED, len(labels))
    same = np.array_equal(drawn[0], images) and np.array_equal(drawn[1], labels)
    print(f"test images drawn again: {'the same bytes' if same else 'DIFFERENT'}")
    return 0 if same and error <= 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
