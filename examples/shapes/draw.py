"""Draws the images that the shapes example is trained and tested on.

One image is 24x24 pixels, 8-bit grey: a background with a gradient, stray strokes and dots, one shape of one of ten
classes at a random place, size, angle, stretch and contrast (lighter or darker than what lies behind it), then blur and
noise. Needs numpy only; the same seed gives the same bytes.
"""

import numpy as np

SIZE = 24
TRAIN_SEED, TEST_SEED = 1, 2
OVERSAMPLE = 3  # samples per pixel and axis, averaged for soft edges


def polygon(*corners):
    """Membership test of a simple polygon, by counting the edges that a ray to the right crosses."""
    ends = list(zip(corners, corners[1:] + corners[:1]))

    def inside(x, y):
        odd = np.zeros(x.shape, bool)
        for (x0, y0), (x1, y1) in ends:
            if y0 != y1:
                odd ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        return odd

    return inside


def on_circle(count, start=0.0, radii=(1.0,)):
    """`count` points at equal angles, their distances from the centre taken from `radii` in turn."""
    angles = start + 2 * np.pi * np.arange(count) / count
    return [(radii[i % len(radii)] * np.cos(a), radii[i % len(radii)] * np.sin(a)) for i, a in enumerate(angles)]


def disc(x, y, centre=0.0, radius=1.0):
    return (x - centre) ** 2 + y**2 <= radius**2


# Every shape lives in the unit disc; `render` scales and turns it. The order is the order of the labels.
SHAPES = {
    "circle": disc,
    "ring": lambda x, y: disc(x, y) & ~disc(x, y, radius=0.55),
    "crescent": lambda x, y: disc(x, y) & ~disc(x, y, centre=0.5, radius=0.85),
    "half": lambda x, y: disc(x, y, centre=-0.4) & (x >= -0.4),
    "triangle": polygon(*on_circle(3)),
    "square": polygon(*on_circle(4)),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) <= 0.28) & (np.maximum(abs(x), abs(y)) <= 0.95),
    "star": polygon(*on_circle(10, radii=(1.0, 0.42))),
    "arrow": polygon((1, 0), (0.1, 0.8), (0.1, 0.28), (-1, 0.28), (-1, -0.28), (0.1, -0.28), (0.1, -0.8)),
    "heart": lambda x, y: (
        disc(x - 0.4, y - 0.5, radius=0.5)
        | disc(x - 0.4, y + 0.5, radius=0.5)
        | polygon((0.08, 0.89), (-1.0, 0), (0.08, -0.89), (0.4, 0))(x, y)
    ),
}
LABELS = list(SHAPES)


def pixel_grid():
    at = (np.arange(SIZE * OVERSAMPLE) + 0.5) / OVERSAMPLE
    return np.meshgrid(at, at)


def stroke(rng, x, y):
    """A short straight stroke or, when its ends are close, a dot."""
    x0, y0 = rng.uniform(0, SIZE, 2)
    length, angle = rng.uniform(0.5, 10), rng.uniform(0, 2 * np.pi)
    dx, dy = np.cos(angle), np.sin(angle)
    along = np.clip((x - x0) * dx + (y - y0) * dy, 0, length)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy) <= rng.uniform(0.4, 1.1)


def render(rng, label):
    """One uint8 image [SIZE, SIZE] that shows the shape LABELS[label]."""
    x, y = pixel_grid()
    ground = rng.uniform(0.1, 0.9)
    slope = rng.uniform(-0.012, 0.012, 2)
    image = ground + slope[0] * (x - SIZE / 2) + slope[1] * (y - SIZE / 2)
    for _ in range(rng.integers(0, 5)):
        image[stroke(rng, x, y)] = rng.uniform(0, 1)

    radius = rng.uniform(5.5, 9.5)
    centre = rng.uniform(radius * 0.85, SIZE - radius * 0.85, 2)
    angle = rng.uniform(0, 2 * np.pi)
    stretch, shear = np.exp(rng.uniform(-0.16, 0.16)), rng.uniform(-0.15, 0.15)
    u, v = (x - centre[0]) / radius, (y - centre[1]) / radius
    u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    inside = SHAPES[LABELS[label]](u * stretch + shear * v, v / stretch)
    contrast = rng.uniform(0.3, 0.6)
    lighter = rng.random() < 0.5 if 0.3 < ground < 0.7 else ground < 0.5
    image[inside] += contrast if lighter else -contrast
    for _ in range(rng.integers(0, 2)):
        image[stroke(rng, x, y)] = rng.uniform(0, 1)

    image = image.reshape(SIZE, OVERSAMPLE, SIZE, OVERSAMPLE).mean((1, 3))
    blur = rng.uniform(0, 0.2)
    for axis in (0, 1):
        edge = np.pad(image, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        before, after = np.split(edge, [SIZE], axis)[0], np.split(edge, [2], axis)[1]
        image = (1 - 2 * blur) * image + blur * (before + after)
    image += rng.normal(0, rng.uniform(0.01, 0.08), image.shape)
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def draw(seed, count):
    """`count` images uint8 [count, SIZE, SIZE] and labels uint8 [count], every class equally often, shuffled."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(LABELS)).astype(np.uint8)
    return np.stack([render(rng, label) for label in labels]), labels
