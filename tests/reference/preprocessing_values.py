"""preprocessing.json: preprocessing layers on images, numbers and indices; random ones with one possible value."""
import inspect

import keras
import numpy as np
import tensorflow as tf

from values import rng, tensor, write

L = keras.layers
cases = []


def add(layer, x, training=False):
    name = f"{type(layer).__name__.lower()}_{len(cases)}"
    written = keras.saving.serialize_keras_object(layer)["config"] | {"name": name}
    # Called without the argument, the random layers take it for training.
    takes = "training" in inspect.signature(layer.call).parameters
    y = layer(tf.constant(x), **({"training": training} if takes else {}))
    cases.append({"class_name": type(layer).__name__, "config": written, "input": tensor(x),
                  "training": training, "output": tensor(y)})


def images(*shape, kind=np.float32):
    r = rng("preprocessing", len(cases))
    return r.integers(0, 256, shape).astype(kind) if kind != np.float32 else r.uniform(0, 1, shape).astype(kind)


def fixed():
    add(L.Rescaling(1 / 255), images(2, 3, 2, 3, kind=np.uint8))
    add(L.Rescaling(2.0, offset=-1.0), images(2, 3, 2, 3))
    add(L.Rescaling([1.0, 2.0, 3.0], offset=[0.5, 0.0, -1.0]), images(2, 3, 2, 3))
    for interpolation in ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"):
        add(L.Resizing(5, 4, interpolation=interpolation), images(2, 7, 9, 2))
        add(L.Resizing(9, 4, interpolation=interpolation), images(1, 4, 6, 3, kind=np.uint8))
    add(L.Resizing(3, 4, antialias=True), images(1, 9, 11, 2))
    add(L.Resizing(4, 6, crop_to_aspect_ratio=True), images(1, 9, 7, 2))
    add(L.Resizing(6, 4, crop_to_aspect_ratio=True), images(1, 6, 11, 2))
    add(L.Resizing(4, 6, pad_to_aspect_ratio=True, fill_value=0.5), images(1, 9, 7, 2))
    add(L.Resizing(6, 4, pad_to_aspect_ratio=True), images(1, 6, 11, 2))
    add(L.Resizing(3, 5, data_format="channels_first"), images(2, 3, 6, 7))
    add(L.CenterCrop(3, 4), images(2, 6, 7, 2))
    add(L.CenterCrop(3, 4), images(1, 6, 7, 3, kind=np.uint8))
    add(L.CenterCrop(5, 8), images(2, 6, 7, 2))
    add(L.CenterCrop(3, 4, data_format="channels_first"), images(2, 2, 6, 7))


def categories():
    r = rng("preprocessing", "categories")
    for mode in ("multi_hot", "count", "one_hot"):
        add(L.CategoryEncoding(num_tokens=6, output_mode=mode), r.integers(0, 6, (4, 3)).astype(np.int32))
        add(L.CategoryEncoding(num_tokens=6, output_mode=mode), r.integers(0, 6, (4, 1)).astype(np.int64))
    add(L.CategoryEncoding(num_tokens=4, output_mode="one_hot"), r.integers(0, 4, (5,)).astype(np.int32))
    x = np.array([[-1.5, 0, 0.25], [1, 2, 7]], np.float32)
    for mode in ("int", "one_hot", "multi_hot", "count"):
        add(L.Discretization(bin_boundaries=[0.0, 1.0, 2.0], output_mode=mode), x)
    add(L.Discretization(bin_boundaries=[1.0]), x)


def adapted():
    """Boundaries that Keras finds: of one batch, and of several."""
    found = []
    for bins, epsilon, sizes in ((4, 0.01, [50]), (4, 0.01, [1000]), (7, 0.05, [300, 77, 500]), (10, 0.01, [1001, 2000])):
        r = rng("preprocessing", "adapted", bins, sum(sizes))
        batches = [r.normal(1, 2, n).astype(np.float32) for n in sizes]
        layer = L.Discretization(num_bins=bins, epsilon=epsilon)
        layer.adapt(batches)
        found.append({"num_bins": bins, "epsilon": epsilon, "batches": [tensor(b) for b in batches],
                      "bin_boundaries": [float(b) for b in layer.bin_boundaries]})
    return found


def augmentation():
    for training in (False, True):
        for fill in ("reflect", "wrap", "constant", "nearest"):
            for interpolation in ("bilinear", "nearest"):
                how = {"fill_mode": fill, "interpolation": interpolation, "fill_value": 0.25, "seed": 3}
                add(L.RandomRotation((0.07, 0.07), **how), images(2, 6, 5, 2), training)
                add(L.RandomZoom((0.3, 0.3), (-0.2, -0.2), **how), images(2, 6, 5, 2), training)
                add(L.RandomTranslation((0.3, 0.3), (-0.25, -0.25), **how), images(2, 6, 5, 2), training)
        add(L.RandomZoom((0.4, 0.4)), images(1, 5, 5, 3), training)
        add(L.RandomRotation((-0.2, -0.2), data_format="channels_first"), images(1, 2, 4, 7), training)
        add(L.RandomBrightness((0.2, 0.2)), 255 * images(2, 3, 3, 3), training)
        add(L.RandomBrightness((-0.3, -0.3), value_range=(0.0, 1.0)), images(2, 3, 3, 3), training)
        add(L.RandomContrast((0.0, 0.0), value_range=(0.0, 0.8)), images(2, 3, 3, 3), training)
    # Drawn: their configurations, and that they are nothing at inference.
    for mode in ("horizontal", "vertical", "horizontal_and_vertical"):
        add(L.RandomFlip(mode, seed=1), images(2, 3, 4, 2))
    add(L.RandomRotation(0.2), images(2, 3, 4, 2))
    add(L.RandomZoom(0.2, width_factor=(-0.1, 0.3)), images(2, 3, 4, 2))
    add(L.RandomTranslation(0.2, (-0.1, 0.3)), images(2, 3, 4, 2))
    add(L.RandomContrast(0.2), images(2, 3, 4, 2))
    add(L.RandomContrast((0.1, 0.9)), images(2, 3, 4, 2))
    add(L.RandomBrightness(0.2), images(2, 3, 4, 2))


def make():
    fixed()
    categories()
    augmentation()
    write("preprocessing.json", {"cases": cases, "adapted": adapted()})
    print("preprocessing.json:", len(cases), "cases")
