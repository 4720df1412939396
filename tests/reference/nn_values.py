"""nn.json: TensorFlow's batch_normalization, moments, weighted_moments, sufficient_statistics,
normalize_moments and fused_batch_norm, on the shapes of TensorFlow's own tests of them
(nn_batchnorm_test.py, nn_fused_batchnorm_test.py)."""
import numpy as np
import tensorflow as tf

import op_values
from op_values import add, normal, uniform
from values import rng, tensor, write

fused = tf.compat.v1.nn.fused_batch_norm


def normalizations():
    cases = [((3, 5, 4, 2), None), ((3, 5, 4, 5), None), ((7, 5, 4, 6), None),
             ((3, 3), (1, 3)), ((3, 3), (3, 1)), ((3, 2, 4, 5), (1, 2, 1, 1)),
             ((2, 3, 2, 4, 5), (1, 1, 1, 4, 5)), ((3, 5, 4, 2), (1, 1, 1, 2)),
             ((1, 4), None), ((0, 4), None), ((5,), (1,)), ((4, 3), ())]
    for shape, small in cases:
        for scale in (False, True):
            for shift in (False, True):
                small_shape = shape[-1:] if small is None else small
                r = rng("nn_batch_normalization", shape, small, scale, shift)
                inputs = [normal(r, *shape, mean=0.5), normal(r, *small_shape),
                          uniform(r, 0.2, 2, *small_shape)]
                names = ["offset"] * shift + ["scale"] * scale
                inputs += [normal(r, *small_shape) for _ in names]

                def f(x, mean, variance, *rest):
                    named = dict(zip(names, rest))
                    return tf.nn.batch_normalization(x, mean, variance, named.get("offset"),
                                                     named.get("scale"), 0.001)
                add("batch_normalization", {"offset": shift, "scale": scale, "epsilon": 0.001},
                    inputs, f)


def moments():
    shape = (2, 3, 5, 4)
    for axes in ([0], [0, 1, 2], [1, 2, 3], [0, 1, 2, 3], [-1], [-3, 2]):
        for keep in (False, True):
            r = rng("nn_moments", axes, keep)
            add("moments", {"axes": axes, "keepdims": keep}, [normal(r, *shape, mean=2)],
                lambda x: tf.nn.moments(x, axes, keepdims=keep), grad_all=True)
            for wide in ((2, 3, 5, 4), (2, 1, 1, 1), (1, 3, 1, 4), (1, 1, 1, 1), (5, 4), ()):
                r = rng("nn_weighted_moments", axes, keep, wide)
                add("weighted_moments", {"axes": axes, "keepdims": keep},
                    [normal(r, *shape, mean=2), uniform(r, 0.1, 3, *wide)],
                    lambda x, w: tf.nn.weighted_moments(x, axes, w, keepdims=keep), grad_all=True)
            for shift in (None, (), (4,), (1, 3, 1, 4)):
                r = rng("nn_sufficient_statistics", axes, keep, shift)
                inputs = [normal(r, *shape, mean=2)] + ([] if shift is None else [normal(r, *shift, mean=2)])
                add("sufficient_statistics", {"axes": axes, "keepdims": keep}, inputs,
                    lambda x, *s: tf.nn.sufficient_statistics(x, axes, *s, keepdims=keep)[:3],
                    grad=False)
    for note, x, axes in (("large mean", normal(rng("nn_moments_large"), 64, 3, mean=1e4), [0]),
                          ("one", normal(rng("nn_moments_one"), 1, 4), [0]),
                          ("none", np.zeros((0, 4), np.float32), [0]),
                          ("two columns without rows", np.zeros((2, 0), np.float32), [0])):
        add("moments", {"axes": axes, "keepdims": False}, [x], lambda x: tf.nn.moments(x, axes),
            note=note, grad=False)
        add("weighted_moments", {"axes": axes, "keepdims": False}, [x, np.ones_like(x)],
            lambda x, w: tf.nn.weighted_moments(x, axes, w), note=note, grad=False)
    r = rng("nn_weighted_moments_zero")
    w = np.array([[1, 0, 0], [2, 0, 1]], np.float32)
    add("weighted_moments", {"axes": [0], "keepdims": False}, [normal(r, 2, 3), w],
        lambda x, w: tf.nn.weighted_moments(x, [0], w), note="a column of weight 0", grad=False)
    for shape in ((), (4,), (2, 1, 3)):
        for shift in (False, True):
            r = rng("nn_normalize_moments", shape, shift)
            n, mean = np.float32(12), normal(r, *shape)
            variance = uniform(r, 0.5, 2, *shape)
            inputs = [n, n * mean, n * (variance + mean * mean)] + [normal(r, *shape)] * shift
            add("normalize_moments", {}, [np.asarray(x) for x in inputs],
                lambda n, a, b, s=None: tf.nn.normalize_moments(n, a, b, s), grad_all=True)


def move(x, source, target):
    return tf.transpose(x, [source.index(c) for c in target])


def fused_batch_norms():
    """TensorFlow's kernel for a CPU is channels last: for the others x is turned before and after."""
    shapes = [(1, 1, 6, 1), (1, 1, 6, 2), (1, 2, 1, 6), (2, 3, 4, 5), (2, 3, 2, 2), (5, 7, 11, 4),
              (1, 1, 1, 3), (2, 3, 2, 2, 4), (1, 1, 1, 1, 2)]
    for shape in shapes:
        last = "NHWC" if len(shape) == 4 else "NDHWC"
        for data_format in (last, last[0] + "C" + last[1:-1]):
            for training, factor in ((True, 1.0), (True, 0.3), (False, 1.0)):
                if shape[0] > 4 and (data_format != last or factor != 1 or not training):
                    continue  # the largest in one form only
                r = rng("nn_fused", shape, training, factor)
                c = shape[-1]
                x = normal(r, *shape, mean=0.5)
                inputs = [x, uniform(r, 0.5, 1.5, c), normal(r, c)]
                if not training or factor != 1:
                    inputs += [normal(r, c), uniform(r, 0.5, 2, c)]
                x = np.asarray(move(x, last, data_format))

                def f(x, scale, offset, mean=None, variance=None):
                    y, m, v = fused(move(x, data_format, last), scale, offset, mean, variance, 1e-3,
                                    last, training, exponential_avg_factor=factor)
                    return move(y, last, data_format), m, v
                add("fused_batch_norm", {"data_format": data_format, "is_training": training,
                                         "exponential_avg_factor": factor, "epsilon": 1e-3},
                    [x] + inputs[1:], f, computed="f32")
    for shape in ((0, 4, 3, 6), (0, 2, 2, 2, 3)):
        last = "NHWC" if len(shape) == 4 else "NDHWC"
        c = shape[-1]
        for training in (True, False):
            r = rng("nn_fused_empty", shape, training)
            inputs = [np.zeros(shape, np.float32), uniform(r, 0.5, 1.5, c), normal(r, c)]
            if not training:
                inputs += [normal(r, c), uniform(r, 0.5, 2, c)]
            add("fused_batch_norm", {"data_format": last, "is_training": training,
                                     "exponential_avg_factor": 1.0, "epsilon": 1e-3}, inputs,
                lambda x, s, o, m=None, v=None: fused(x, s, o, m, v, 1e-3, last, training),
                computed="f32", grad=False, note="empty")


def second_order(shape, training):
    """Of sum(dx * seed), by x, dy and scale."""
    r = rng("nn_fused_second", shape, training)
    c = shape[-1]
    x, dy, seed = normal(r, *shape), normal(r, *shape), normal(r, *shape)
    scale, offset = uniform(r, 0.5, 1.5, c), normal(r, c)
    given = [] if training else [normal(r, c), uniform(r, 0.5, 2, c)]
    args = [tf.constant(a.astype(np.float64)) for a in (x, dy, scale)]
    with tf.GradientTape() as outer:
        outer.watch(args)
        with tf.GradientTape() as inner:
            inner.watch(args[0])
            if training:  # not tf.nn.moments: its stop_gradient is wrong in the second order
                axes = list(range(len(shape) - 1))
                mean = tf.reduce_mean(args[0], axes)
                variance = tf.reduce_mean(tf.square(args[0] - mean), axes)
            else:
                mean, variance = (tf.constant(g.astype(np.float64)) for g in given)
            y = tf.nn.batch_normalization(args[0], mean, variance, offset.astype(np.float64),
                                          args[2], 1e-3)
        dx = inner.gradient(y, args[0], output_gradients=args[1])
    d = outer.gradient(dx, args, output_gradients=tf.constant(seed.astype(np.float64)))
    return {"is_training": training, "epsilon": 1e-3, "inputs": [tensor(a) for a in (x, scale, offset, *given)],
            "dy": tensor(dy), "seed": tensor(seed), "dx": tensor(dx),
            "gradients": [tensor(np.zeros_like(a) if g is None else g) for a, g in zip((x, dy, scale), d)]}


def large(shape, training):
    """Values by a rule that a test can repeat, since the file should stay small."""
    n, c = int(np.prod(shape)), shape[-1]
    x = ((np.arange(n, dtype=np.int64) * 7919 % 10007).astype(np.float64) / 10007 + 0.5)
    x = x.astype(np.float32).reshape(shape)
    scale, offset = np.linspace(0.5, 1.5, c, dtype=np.float32), np.linspace(-1, 1, c, dtype=np.float32)
    given = [] if training else [np.linspace(0, 2, c, dtype=np.float32), np.linspace(0.5, 2, c, dtype=np.float32)]
    y, mean, variance = fused(x, scale, offset, *(given or [None, None]), 1e-3, "NHWC", training)
    at = [int(i) for i in rng("nn_large", training).integers(0, n, 60)]
    return {"is_training": training, "shape": list(shape), "scale": tensor(scale), "offset": tensor(offset),
            "given": [tensor(g) for g in given], "at": at, "y": tensor(y.numpy().reshape(-1)[at]),
            "mean": tensor(mean), "variance": tensor(variance),
            "rule": "x[i] = (7919 i mod 10007) / 10007 + 0.5"}


def make():
    op_values.cases.clear()
    for family in (normalizations, moments, fused_batch_norms):
        family()
    write("nn.json", {
        "cases": op_values.cases,
        "second": [second_order(s, t) for s in ((2, 3, 4, 5), (2, 3, 2, 2)) for t in (True, False)],
        "large": [large((27, 131, 127, 6), t) for t in (True, False)]})
