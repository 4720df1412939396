"""keras_layers.json: single layers, their weights, outputs and gradients, in f64 rounded once."""
import keras
import numpy as np
import tensorflow as tf

from values import rng, tensor, write

L = keras.layers
cases = []


def add(layer, *shapes, ints=None, differentiable=True, note=None):
    """shapes: of the inputs; ints: inputs are integers below that."""
    name = f"{type(layer).__name__.lower()}_{len(cases)}"
    r = rng("keras_layers", type(layer).__name__, len(cases))
    config = layer.get_config() | {"name": name}
    wide = type(layer).from_config(config | {"dtype": "float64"})
    if ints:
        inputs = [r.integers(0, ints, s).astype(np.int32) for s in shapes]
    else:
        inputs = [r.normal(0.2, 1, s).astype(np.float32) for s in shapes]
    args = [tf.constant(x if ints else x.astype(np.float64)) for x in inputs]
    given = args if len(args) > 1 else args[0]
    wide(given)
    weights = [r.normal(0.1, 0.5, w.shape).astype(np.float32) for w in wide.weights]
    wide.set_weights(weights)
    with tf.GradientTape() as tape:
        tape.watch(args)
        y = wide(given)
    entry = {"class_name": type(layer).__name__, "config": keras.saving.serialize_keras_object(layer)["config"] | {"name": name},
             "inputs": [tensor(x) for x in inputs], "weight_names": [w.name for w in wide.weights],
             "weights": [tensor(w) for w in weights], "output": tensor(y)}
    if differentiable:
        dy = r.standard_normal(y.shape)
        wrt = ([] if ints else args) + [w.value for w in wide.trainable_weights]
        grads = [tf.convert_to_tensor(g) for g in tape.gradient(y, wrt, output_gradients=tf.constant(dy.astype(np.float32).astype(np.float64)))]
        entry |= {"grad_output": tensor(dy.astype(np.float32)),
                  "grad_inputs": [] if ints else [tensor(g) for g in grads[:len(args)]],
                  "grad_weights": [tensor(g) for g in grads[0 if ints else len(args):]]}
    cases.append(entry | ({"note": note} if note else {}))


def sequences():
    for options in ({}, {"padding": "same", "strides": 2}, {"padding": "causal", "dilation_rate": 2, "use_bias": False},
                    {"groups": 2, "activation": "tanh"}, {"padding": "causal", "strides": 2}):
        add(L.Conv1D(6, 3, **options), (2, 9, 4))
    for options in ({}, {"padding": "same", "strides": 2, "depth_multiplier": 2}, {"dilation_rate": 2, "use_bias": False}):
        add(L.DepthwiseConv1D(3, **options), (2, 8, 4))
        add(L.SeparableConv1D(5, 3, **options), (2, 8, 4))
    for options in ({}, {"strides": 2, "padding": "same"}, {"strides": 3, "output_padding": 1, "activation": "softplus"}):
        add(L.Conv1DTranspose(5, 3, **options), (2, 5, 4))
    for layer in (L.MaxPooling1D, L.AveragePooling1D):
        for options in ({"pool_size": 2}, {"pool_size": 3, "strides": 2, "padding": "same"}, {"pool_size": 2, "strides": 1}):
            add(layer(**options), (2, 7, 3))
    for layer in (L.GlobalMaxPooling1D, L.GlobalAveragePooling1D):
        add(layer(), (2, 7, 3))
        add(layer(keepdims=True), (2, 7, 3))
        add(layer(data_format="channels_first", keepdims=True), (2, 3, 7))
    add(L.Embedding(11, 4), (3, 5), ints=11)
    add(L.Embedding(7, 2), (4,), ints=7)


def images():
    for options in ({}, {"strides": (2, 3), "padding": "same"}, {"strides": 2, "output_padding": 1, "use_bias": False}):
        add(L.Conv2DTranspose(3, (3, 2), **options), (2, 4, 3, 2))
    add(L.Cropping2D(((1, 0), (2, 1))), (2, 5, 6, 3))
    add(L.Cropping2D(1, data_format="channels_first"), (2, 3, 5, 6))
    add(L.ZeroPadding2D(((1, 0), (2, 1))), (2, 3, 2, 2))
    for interpolation in ("nearest", "bilinear"):
        add(L.UpSampling2D(interpolation=interpolation), (2, 3, 4, 2))
        add(L.UpSampling2D((3, 2), interpolation=interpolation), (1, 2, 3, 2))
        add(L.UpSampling2D((1, 4), data_format="channels_first", interpolation=interpolation), (1, 2, 3, 3))


def shapes():
    add(L.Permute((2, 1)), (2, 3, 4))
    add(L.Permute((3, 1, 2)), (2, 3, 4, 2))
    add(L.RepeatVector(3), (2, 4))
    add(L.Cropping1D(1), (2, 5, 3))
    add(L.Cropping1D((0, 2)), (2, 5, 3))
    add(L.ZeroPadding1D(2), (2, 3, 2))
    add(L.ZeroPadding1D((1, 0), data_format="channels_first"), (2, 3, 2))
    add(L.UpSampling1D(3), (2, 4, 3))
    add(L.Identity(), (2, 3))


def merging():
    for layer in (L.Add, L.Multiply, L.Average, L.Maximum, L.Minimum):
        add(layer(), (2, 3, 4), (2, 3, 4))
        add(layer(), (2, 3, 4), (2, 1, 4), (2, 3, 4))
    add(L.Subtract(), (2, 3), (2, 3))
    add(L.Concatenate(1), (2, 3, 4), (2, 2, 4))
    add(L.Dot(-1), (3, 4), (3, 4))
    add(L.Dot((2, 1)), (2, 3, 4), (2, 4, 5))
    add(L.Dot(1, normalize=True), (3, 4), (3, 4))
    add(L.Dot((1, 3), normalize=True), (2, 4, 3), (2, 5, 2, 4))
    add(L.Dot((3, 1)), (2, 3, 2, 4), (2, 4))


def activations():
    add(L.ELU(), (2, 5))
    add(L.ELU(alpha=0.3), (2, 5))
    add(L.PReLU(), (3, 4))
    add(L.PReLU(shared_axes=[1, 2]), (2, 3, 4, 5))
    add(L.PReLU(alpha_regularizer="l2", shared_axes=[2]), (2, 3, 4))


def noise():
    """At inference they are nothing."""
    for layer in (L.AlphaDropout(0.3), L.GaussianNoise(0.5, seed=3), L.GaussianDropout(0.4), L.Dropout(0.2)):
        add(layer, (2, 3, 4))
    add(L.SpatialDropout1D(0.3), (2, 3, 4))
    add(L.SpatialDropout2D(0.3, data_format="channels_first"), (2, 3, 4, 2))


def make():
    for family in (sequences, images, shapes, merging, activations, noise):
        family()
    write("keras_layers.json", {"cases": cases})
    print("keras_layers.json:", len(cases), "cases")
