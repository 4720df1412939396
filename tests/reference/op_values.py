"""ops.json: outputs and gradients of single operations.

Inputs are f32. The peers compute in f64 wherever they can and the result is rounded once to f32, so
that what a test measures is our own error; "computed" says which it was.
"""
import inspect

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from keras.src.backend.common.backend_utils import compute_conv_transpose_output_crops_for_torch

from values import numpy, rng, tensor, write

cases = []


def normal(r, *shape, scale=1.0, mean=0.0):
    return (mean + scale * r.standard_normal(shape)).astype(np.float32)


def uniform(r, low, high, *shape):
    return r.uniform(low, high, shape).astype(np.float32)


def is_float(x):
    return np.issubdtype(x.dtype, np.floating)


def add(op, attrs, inputs, f, source="tensorflow", grad=True, computed="f64", grad_all=False,
        note=None, out_dtype=None):
    """f maps tensors to one output or several. Only the first float output has a gradient, unless
    grad_all; a null stands for none."""
    use_torch = source == "torch"
    wide = lambda x: x.astype(np.float64) if is_float(x) and computed == "f64" else x
    if use_torch:
        args = [torch.tensor(wide(x), requires_grad=is_float(x) and grad) for x in inputs]
        outs = f(*args)
        outs = list(outs) if isinstance(outs, (tuple, list)) else [outs]
        tape = None
    else:
        args = [tf.constant(wide(x)) for x in inputs]
        with tf.GradientTape(persistent=True) as tape:
            for a in args:
                if a.dtype.is_floating:
                    tape.watch(a)
            outs = f(*args)
        outs = list(outs) if isinstance(outs, (tuple, list)) else [outs]
    if computed == "f64" and any(is_float(x) for x in inputs):
        assert not any(numpy(y).dtype == np.float32 for y in outs), (op, attrs)
    entry = {"op": op, "from": source, "attrs": attrs, "computed": computed,
             "inputs": [tensor(x) for x in inputs],
             "outputs": [tensor(y if out_dtype is None else tf.cast(y, tf.float32), out_dtype)
                         for y in outs]}
    if grad:
        r = rng("grad", op, len(cases))
        seeds, chosen = [], []
        for y in outs:
            y_np = numpy(y)
            if is_float(y_np) and (grad_all or not chosen):
                seeds.append(normal(r, *y_np.shape))
                chosen.append((y, seeds[-1].astype(y_np.dtype)))
            else:
                seeds.append(None)
        if use_torch:
            torch.autograd.backward([y for y, _ in chosen], [torch.tensor(g) for _, g in chosen])
            grads = [a.grad for a in args]
        else:
            floats = [a for a in args if a.dtype.is_floating]
            got = tape.gradient([y for y, _ in chosen], floats,
                                output_gradients=[tf.constant(g) for _, g in chosen])
            got = iter(got)
            grads = [tf.convert_to_tensor(g) if a.dtype.is_floating and (g := next(got)) is not None
                     else None for a in args]
        entry["grad_outputs"] = [None if g is None else tensor(g) for g in seeds]
        entry["grad_inputs"] = [None if g is None else tensor(g) for g in grads]
    if note:
        entry["note"] = note
    cases.append(entry)


def unary():
    wide = lambda r: uniform(r, -3, 3, 3, 7)
    above = lambda r: uniform(r, 0.05, 4, 3, 7)
    unit = lambda r: uniform(r, -0.95, 0.95, 3, 7)
    table = [("abs", tf.abs, wide), ("neg", tf.negative, wide), ("exp", tf.exp, wide),
             ("expm1", tf.math.expm1, wide), ("log", tf.math.log, above),
             ("log1p", tf.math.log1p, above), ("sqrt", tf.sqrt, above),
             ("rsqrt", tf.math.rsqrt, above), ("square", tf.square, wide),
             ("reciprocal", tf.math.reciprocal, above), ("sin", tf.sin, wide),
             ("cos", tf.cos, wide), ("tan", tf.tan, unit), ("asin", tf.asin, unit),
             ("acos", tf.acos, unit), ("atan", tf.atan, wide), ("sinh", tf.sinh, wide),
             ("cosh", tf.cosh, wide), ("tanh", tf.tanh, wide), ("asinh", tf.asinh, wide),
             ("acosh", tf.acosh, lambda r: uniform(r, 1.1, 5, 3, 7)), ("atanh", tf.atanh, unit),
             ("sigmoid", tf.sigmoid, wide), ("softplus", tf.math.softplus, wide),
             ("erf", tf.math.erf, wide), ("sign", tf.sign, wide), ("floor", tf.floor, wide),
             ("ceil", tf.math.ceil, wide), ("round", tf.round, wide),
             ("relu", tf.nn.relu, wide)]
    for op, f, draw in table:
        add(op, {}, [draw(rng(op))], f, grad=op not in ("sign", "floor", "ceil", "round"))
    far = np.array([-104, -88, -50, -20, -1e-4, 1e-4, 20, 50, 88, 104], np.float32)
    for op, f in [("sigmoid", tf.sigmoid), ("tanh", tf.tanh), ("softplus", tf.math.softplus),
                  ("erf", tf.math.erf), ("expm1", tf.math.expm1)]:
        x = far[far < 80] if op == "expm1" else far
        add(op, {}, [x], f)
    add("exp", {}, [np.array([-87, -10, -1e-6, 0, 1e-6, 10, 88], np.float32)], tf.exp)
    add("log", {}, [np.array([1e-38, 1e-10, 0.999999, 1, 1.000001, 1e10, 3e38], np.float32)],
        tf.math.log)
    halves = np.array([-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 3.5], np.float32)
    for op, f in [("round", tf.round), ("floor", tf.floor), ("ceil", tf.math.ceil),
                  ("sign", tf.sign)]:
        add(op, {}, [halves], f, grad=False)
    x = np.array([-2, -1, 0, 1, 2], np.float32)
    for op, f in [("abs", tf.abs), ("relu", tf.nn.relu)]:
        add(op, {}, [x], f, note="the gradient at 0 is 0")


def binary():
    table = {"add": tf.add, "sub": tf.subtract, "mul": tf.multiply, "div": tf.divide,
             "pow": tf.pow, "maximum": tf.maximum, "minimum": tf.minimum,
             "squared_difference": tf.math.squared_difference, "atan2": tf.atan2}
    shapes = [((3, 5), (3, 5)), ((2, 3, 4), (3, 1)), ((4, 1), (1, 6)), ((), (2, 3)), ((0, 3), (3,))]
    for op, f in table.items():
        for i, (a, b) in enumerate(shapes):
            r = rng(op, i)
            x, y = normal(r, *a), normal(r, *b)
            if op == "pow":
                x = np.abs(x) + np.float32(0.2)
            if op == "div":
                y = (np.sign(y) * (np.abs(y) + 0.3)).astype(np.float32)
            add(op, {}, [x, y], f)
    x, y = np.array([1, 2, 3, 3], np.float32), np.array([1, 3, 2, 3], np.float32)
    for op in ("maximum", "minimum"):
        add(op, {}, [x, y], table[op],
            note="ties: TensorFlow gives the whole gradient to the first, PyTorch half to each")
        add(op, {}, [x, y], getattr(torch, op), source="torch",
            note="ties: TensorFlow gives the whole gradient to the first, PyTorch half to each")
    x = np.array([-7, -7, 7, 7, -6, 5.5, -5.5], np.float32)
    y = np.array([2, -2, 2, -2, 3, 2, 2], np.float32)
    add("floordiv", {}, [x, y], tf.math.floordiv, grad=False)
    add("mod", {}, [x, y], tf.math.floormod, grad=False, note="the sign of the divisor, as Python")
    xi, yi = np.array([-7, -7, 7, 7, 5], np.int32), np.array([2, -2, 2, -2, 5], np.int32)
    add("floordiv", {}, [xi, yi], tf.math.floordiv, grad=False)
    add("mod", {}, [xi, yi], tf.math.floormod, grad=False)
    for op, f in [("equal", tf.equal), ("not_equal", tf.not_equal), ("less", tf.less),
                  ("less_equal", tf.less_equal), ("greater", tf.greater),
                  ("greater_equal", tf.greater_equal)]:
        add(op, {}, [np.array([1, 2, 3, np.nan], np.float32),
                     np.array([1, 3, 2, np.nan], np.float32)], f, grad=False)
    r = rng("select")
    add("select", {}, [r.integers(0, 2, (3, 1)).astype(bool), normal(r, 3, 4), normal(r, 4)],
        tf.where)
    add("clip", {"min": -0.5, "max": 0.75}, [normal(r, 4, 5)],
        lambda v: tf.clip_by_value(v, -0.5, 0.75))
    x = np.array([0, 0.5, 1, 255.4, -1.5, 1.5, 2.5, 3.999, -0.5], np.float32)
    add("cast", {"dtype": "i32"}, [x], lambda v: tf.cast(v, tf.int32), grad=False)
    add("cast", {"dtype": "bool"}, [x], lambda v: tf.cast(v, tf.bool), grad=False)
    x = np.array([1, 1.00390625, 1.01171875, 1.005859375, 3.14159274, -65504, 1e-8, 1e-41, 7e4,
                  3.3895314e38], np.float32)
    add("cast", {"dtype": "bf16"}, [x], lambda v: tf.cast(v, tf.bfloat16), grad=False,
        computed="f32", out_dtype="bf16")
    add("cast", {"dtype": "f16"}, [x[:-1]], lambda v: tf.cast(v, tf.float16), grad=False,
        computed="f32", out_dtype="f16")


def activations():
    options = {"relu": [{}, {"negative_slope": 0.1}, {"max_value": 1.5},
                        {"threshold": 0.4}, {"negative_slope": 0.2, "max_value": 1.2,
                                             "threshold": 0.3}],
               "leaky_relu": [{}, {"negative_slope": 0.05}], "elu": [{}, {"alpha": 0.5}],
               "celu": [{}, {"alpha": 0.7}], "gelu": [{}, {"approximate": True}],
               "soft_shrink": [{}, {"threshold": 0.9}], "hard_shrink": [{}, {"threshold": 0.9}],
               "squareplus": [{}, {"b": 1}], "softmax": [{}, {"axis": 0}],
               "log_softmax": [{}, {"axis": 0}], "glu": [{}, {"axis": 0}],
               "threshold": [{"threshold": 0.5, "default_value": -1.0}],
               "sparsemax": [{}, {"axis": 0}]}
    aliases = {"hard_swish": "hard_silu", "swish": "silu"}
    names = [n for n in dir(keras.activations)
             if not n.startswith("_") and inspect.isfunction(getattr(keras.activations, n))
             and n not in ("get", "serialize", "deserialize")]
    for name in sorted(names):
        f = getattr(keras.activations, name)
        for i, attrs in enumerate(options.get(name, [{}])):
            r = rng("activation", aliases.get(name, name), i)
            x = np.concatenate([normal(r, 4, 6, scale=2), uniform(r, -7, 7, 2, 6)])
            add("activation", {"name": name, **attrs}, [x], lambda v: f(v, **attrs),
                source="keras")
    far = np.array([[-1000, -100, -30, -1e-3], [1e-3, 30, 100, 1000]], np.float32)
    for name in ("softplus", "log_sigmoid", "sigmoid", "silu", "mish", "tanh", "gelu", "selu",
                 "elu", "softsign", "softmax", "log_softmax", "hard_sigmoid"):
        add("activation", {"name": name}, [far],
            lambda v: getattr(keras.activations, name)(v), source="keras", note="far values")


def corners():
    x = np.array([-6, -3, -1, -0.5, -0.0, 0, 0.5, 1, 3, 6], np.float32)
    for name in ("elu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
                 "relu", "relu6", "selu", "soft_shrink", "softsign", "sparse_plus",
                 "sparse_sigmoid"):
        add("activation", {"name": name}, [x], lambda v: getattr(keras.activations, name)(v),
            source="keras", note="corners")


def reductions():
    sets = [((3, 4, 5), None, False), ((3, 4, 5), [0], False), ((3, 4, 5), [-1], True),
            ((3, 4, 5), [0, 2], False), ((7, 1, 3, 5), [1, 2], True), ((63,), [0], False)]
    table = {"reduce_sum": tf.reduce_sum, "reduce_mean": tf.reduce_mean,
             "reduce_max": tf.reduce_max, "reduce_min": tf.reduce_min,
             "reduce_prod": tf.reduce_prod, "reduce_variance": tf.math.reduce_variance,
             "reduce_std": tf.math.reduce_std, "reduce_logsumexp": tf.reduce_logsumexp}
    for op, f in table.items():
        for i, (shape, axis, keep) in enumerate(sets):
            x = normal(rng(op, i), *shape)
            if op == "reduce_std" and i == 4:
                continue
            add(op, {"axis": axis, "keepdims": keep}, [x],
                lambda v: f(v, axis=axis, keepdims=keep))
    tie = np.array([[1, 3, 3, 2], [5, 5, 5, 5]], np.float32)
    for op in ("reduce_max", "reduce_min"):
        add(op, {"axis": [1], "keepdims": False}, [tie], lambda v: table[op](v, axis=1),
            note="ties share the gradient equally")
    add("reduce_prod", {"axis": [1], "keepdims": False},
        [np.array([[1, 0, 3], [0, 0, 2], [2, 3, 4]], np.float32)],
        lambda v: tf.reduce_prod(v, axis=1), note="zeros")
    flags = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
    add("reduce_all", {"axis": [1], "keepdims": False}, [flags],
        lambda v: tf.reduce_all(v, axis=1), grad=False)
    add("reduce_any", {"axis": [1], "keepdims": False}, [flags],
        lambda v: tf.reduce_any(v, axis=1), grad=False)
    ints = rng("ints").integers(-9, 9, (4, 5)).astype(np.int32)
    add("reduce_sum", {"axis": [0], "keepdims": False}, [ints],
        lambda v: tf.reduce_sum(v, axis=0), grad=False)
    ties = np.array([[1, 3, 3, 2], [5, 5, 5, 5], [0, -1, -1, 0], [2, 9, 1, 9]], np.float32)
    for axis in (0, 1, -1):
        add("argmax", {"axis": axis}, [ties], lambda v: tf.argmax(v, axis, tf.int32), grad=False,
            note="the first of equal values")
        add("argmin", {"axis": axis}, [ties], lambda v: tf.argmin(v, axis, tf.int32), grad=False,
            note="the first of equal values")
    for k in (1, 2, 4):
        add("top_k", {"k": k}, [ties], lambda v: tuple(tf.math.top_k(v, k)),
            note="equal values: the lower index first")
    add("top_k", {"k": 3}, [normal(rng("top_k"), 2, 3, 9)], lambda v: tuple(tf.math.top_k(v, 3)))
    x = normal(rng("cumsum"), 3, 6)
    for exclusive in (False, True):
        for reverse in (False, True):
            add("cumsum", {"axis": 1, "exclusive": exclusive, "reverse": reverse}, [x],
                lambda v: tf.cumsum(v, 1, exclusive=exclusive, reverse=reverse))


def shapes():
    r = rng("shapes")
    x, y = normal(r, 2, 3, 4), normal(r, 2, 5, 4)
    add("transpose", {"perm": [2, 0, 1]}, [x], lambda v: tf.transpose(v, [2, 0, 1]))
    add("reshape", {"shape": [4, -1]}, [x], lambda v: tf.reshape(v, [4, -1]))
    add("concat", {"axis": 1}, [x, y], lambda a, b: tf.concat([a, b], 1))
    add("concat", {"axis": -1}, [x, x[:, :, :1]], lambda a, b: tf.concat([a, b], -1))
    add("stack", {"axis": 1}, [x, x + 1], lambda a, b: tf.stack([a, b], 1))
    pads = [[0, 1], [2, 0], [1, 1]]
    add("pad", {"paddings": pads, "mode": "constant", "value": 0.5}, [x],
        lambda v: tf.pad(v, pads, constant_values=0.5))
    for mode in ("reflect", "symmetric"):
        add("pad", {"paddings": pads, "mode": mode}, [x], lambda v: tf.pad(v, pads, mode))
    add("slice", {"begin": [0, 1, 2], "size": [2, 2, 1]}, [x],
        lambda v: tf.slice(v, [0, 1, 2], [2, 2, 1]))
    add("strided_slice", {"begin": [0, 2, 3], "end": [2, 0, 0], "strides": [1, -1, -2]}, [x],
        lambda v: v[0:2, 2:0:-1, 3:0:-2])
    add("reverse", {"axis": [0, 2]}, [x], lambda v: tf.reverse(v, [0, 2]))
    add("tile", {"multiples": [2, 1, 3]}, [x], lambda v: tf.tile(v, [2, 1, 3]))
    ids = np.array([[0, 2], [2, 1]], np.int32)
    for axis in (0, 1, -1):
        i = ids % x.shape[axis]
        add("gather", {"axis": axis}, [x, i], lambda v, j: tf.gather(v, j, axis=axis),
            note="an index that comes twice adds its gradients")
    labels = np.array([0, 3, 2, 4, -1, 7], np.int32)
    add("one_hot", {"depth": 5}, [labels], lambda v: tf.one_hot(v, 5), grad=False,
        note="TensorFlow gives zeros for indices out of range")
    add("one_hot", {"depth": 3, "axis": 0, "on_value": 2.0, "off_value": -1.0}, [ids],
        lambda v: tf.one_hot(v, 3, 2.0, -1.0, axis=0), grad=False)


def matmuls():
    sets = [((3, 5), (5, 4), False, False), ((5, 3), (5, 4), True, False),
            ((3, 5), (4, 5), False, True), ((5, 3), (4, 5), True, True),
            ((2, 3, 5), (2, 5, 4), False, False), ((2, 1, 3, 5), (3, 5, 2), False, False),
            ((2, 3, 5), (5, 4), False, False), ((3, 5), (2, 4, 5), False, True),
            ((1, 1), (1, 1), False, False), ((0, 3), (3, 2), False, False),
            ((2, 0), (0, 3), False, False), ((17, 33), (33, 9), False, False)]
    for i, (a, b, ta, tb) in enumerate(sets):
        r = rng("matmul", i)
        add("matmul", {"transpose_a": ta, "transpose_b": tb}, [normal(r, *a), normal(r, *b)],
            lambda x, y: tf.matmul(x, y, transpose_a=ta, transpose_b=tb))


def same_pad(n, k, s, d):
    span = (k - 1) * d + 1
    total = max((-(-n // s) - 1) * s + span - n, 0)
    return total // 2, total - total // 2


def torch_conv(x, w, strides, padding, dilation, groups):
    x = x.permute(0, 3, 1, 2)
    if padding == "same":
        top = same_pad(x.shape[2], w.shape[0], strides[0], dilation[0])
        left = same_pad(x.shape[3], w.shape[1], strides[1], dilation[1])
        x = F.pad(x, (*left, *top))
    return F.conv2d(x, w.permute(3, 2, 0, 1), None, strides, 0, dilation,
                    groups).permute(0, 2, 3, 1)


def convolutions():
    # (input, kernel, strides, padding, dilation, groups)
    sets = [((2, 6, 6, 3), (3, 3, 3, 4), 1, "same", 1, 1), ((2, 6, 6, 3), (3, 3, 3, 4), 1, "valid", 1, 1),
            ((2, 7, 7, 2), (3, 3, 2, 3), 2, "same", 1, 1), ((2, 8, 8, 2), (3, 3, 2, 3), 2, "same", 1, 1),
            ((2, 7, 5, 2), (3, 3, 2, 3), 2, "valid", 1, 1), ((1, 9, 9, 2), (3, 3, 2, 3), 1, "same", 2, 1),
            ((1, 9, 8, 2), (3, 3, 2, 2), 1, "valid", (2, 3), 1), ((2, 5, 5, 4), (3, 3, 2, 6), 1, "same", 1, 2),
            ((2, 5, 6, 4), (3, 3, 1, 4), 2, "same", 1, 4), ((1, 6, 6, 6), (3, 2, 2, 3), 1, "valid", 1, 3),
            ((2, 5, 5, 7), (1, 1, 7, 5), 1, "same", 1, 1), ((2, 5, 6, 3), (1, 1, 3, 4), 2, "same", 1, 1),
            ((2, 6, 7, 3), (2, 4, 3, 2), 1, "same", 1, 1), ((1, 9, 11, 1), (5, 3, 1, 2), (2, 3), "same", 1, 1),
            ((1, 9, 11, 1), (5, 3, 1, 2), (3, 1), "valid", 1, 1), ((2, 4, 4, 2), (4, 4, 2, 3), 1, "valid", 1, 1),
            ((1, 3, 3, 2), (5, 5, 2, 2), 1, "same", 1, 1), ((1, 1, 1, 3), (3, 3, 3, 2), 1, "same", 1, 1),
            ((1, 12, 12, 1), (7, 7, 1, 2), 2, "same", 1, 1), ((1, 6, 6, 16), (3, 3, 16, 17), 1, "same", 1, 1),
            ((2, 6, 6, 4), (3, 3, 2, 4), 1, "same", 2, 2)]
    pair = lambda v: list(v) if isinstance(v, tuple) else [v, v]
    for i, (xs, ws, s, p, d, g) in enumerate(sets):
        r = rng("conv2d", i)
        s, d = pair(s), pair(d)
        x, w = normal(r, *xs), normal(r, *ws, scale=0.3)
        add("conv2d", {"strides": s, "padding": p, "dilation_rate": d, "groups": g}, [x, w],
            lambda a, b: torch_conv(a, b, s, p, d, g), source="torch")
        twin = tf.nn.conv2d(x, w, s, p.upper(), dilations=d).numpy()
        got = np.array(cases[-1]["outputs"][0]["data"], np.float32).reshape(twin.shape)
        assert np.abs(twin - got).max() < 1e-5, ("TensorFlow disagrees", i)
    sets = [((2, 6, 6, 3), (3, 3, 3, 1), 1, "same", 1), ((2, 6, 6, 3), (3, 3, 3, 2), 1, "valid", 1),
            ((1, 7, 7, 2), (3, 3, 2, 1), 2, "same", 1), ((1, 8, 8, 2), (3, 3, 2, 2), 2, "same", 1),
            ((1, 9, 9, 2), (3, 3, 2, 2), 1, "same", 2), ((1, 9, 9, 2), (3, 3, 2, 1), 1, "valid", 2),
            ((2, 5, 7, 3), (1, 1, 3, 2), 1, "same", 1), ((1, 7, 6, 2), (2, 4, 2, 3), 1, "same", 1),
            ((1, 8, 9, 16), (5, 5, 16, 1), 2, "valid", 1)]
    for i, (xs, ws, s, p, d) in enumerate(sets):
        r = rng("depthwise_conv2d", i)
        add("depthwise_conv2d", {"strides": [s, s], "padding": p, "dilation_rate": [d, d]},
            [normal(r, *xs), normal(r, *ws, scale=0.4)],
            lambda a, b: tf.nn.depthwise_conv2d(a, b, [1, s, s, 1], p.upper(), dilations=[d, d]))


def pools():
    sets = [((2, 6, 6, 3), 2, 2, "valid"), ((2, 7, 7, 2), 2, 2, "same"), ((2, 7, 7, 2), 2, 2, "valid"),
            ((1, 8, 8, 2), 3, 2, "same"), ((1, 8, 9, 2), 3, 1, "same"), ((1, 7, 6, 3), (3, 2), (1, 2), "valid"),
            ((1, 9, 9, 1), 2, 3, "same"), ((1, 5, 5, 2), (1, 5), 1, "valid"), ((1, 2, 2, 2), 3, 2, "same")]
    pair = lambda v: list(v) if isinstance(v, tuple) else [v, v]
    for op, f in [("max_pool2d", keras.ops.max_pool), ("average_pool2d", keras.ops.average_pool)]:
        for i, (xs, k, s, p) in enumerate(sets):
            k, s = pair(k), pair(s)
            add(op, {"pool_size": k, "strides": s, "padding": p}, [normal(rng(op, i), *xs)],
                lambda v: f(v, k, s, p), source="keras", computed="f32",
                note=None if op[0] == "m" else "padding is left out of the average")
    tie = np.array([[1, 2, 2, 0], [2, 1, 0, 2], [-3, -3, 5, 5], [-3, -3, 5, 5]], np.float32)
    add("max_pool2d", {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"},
        [tie.reshape(1, 4, 4, 1)], lambda v: keras.ops.max_pool(v, 2, 2, "valid"), source="keras",
        computed="f32", note="equal values: the first in row order has the whole gradient")
    add("max_pool2d", {"pool_size": [3, 3], "strides": [2, 2], "padding": "same"},
        [-np.abs(normal(rng("neg"), 1, 4, 5, 2)) - 1], lambda v: keras.ops.max_pool(v, 3, 2, "same"),
        source="keras", computed="f32", note="all negative: padding is not zero here")
    x = normal(rng("global"), 2, 5, 7, 3)
    add("global_average_pool2d", {"keepdims": False}, [x], lambda v: tf.reduce_mean(v, [1, 2]))
    add("global_max_pool2d", {"keepdims": False}, [x], lambda v: tf.reduce_max(v, [1, 2]))
    add("global_average_pool2d", {"keepdims": True}, [x],
        lambda v: tf.reduce_mean(v, [1, 2], keepdims=True))


def softmaxes():
    for i, (shape, axis) in enumerate([((3, 5), -1), ((2, 3, 4), 1), ((2, 3, 4), 0), ((4, 1), -1),
                                       ((2, 63), -1)]):
        x = normal(rng("softmax", i), *shape, scale=2)
        add("softmax", {"axis": axis}, [x], lambda v: tf.nn.softmax(v, axis))
        add("log_softmax", {"axis": axis}, [x], lambda v: tf.nn.log_softmax(v, axis))
    far = np.array([[1000, 999, -1000], [-1e4, -1e4, -1e4], [88, 0, -88]], np.float32)
    add("softmax", {"axis": -1}, [far], tf.nn.softmax)
    add("log_softmax", {"axis": -1}, [far], tf.nn.log_softmax)
    for i, (shape, source) in enumerate([((4, 5), "tensorflow"), ((2, 3, 7), "tensorflow"), ((6, 10), "torch")]):
        r = rng("xent", i)
        x = normal(r, *shape, scale=3)
        labels = r.integers(0, shape[-1], shape[:-1]).astype(np.int32)
        dense = r.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)
        if source == "torch":
            sparse = lambda a, b: F.cross_entropy(a, b.long(), reduction="none")
            soft = lambda a, b: F.cross_entropy(a, b, reduction="none")
        else:
            sparse = lambda a, b: tf.nn.sparse_softmax_cross_entropy_with_logits(b, a)
            soft = lambda a, b: tf.nn.softmax_cross_entropy_with_logits(b, a)
        add("sparse_softmax_cross_entropy", {}, [x, labels], sparse, source=source)
        add("softmax_cross_entropy", {}, [x, dense], soft, source=source)
    add("sparse_softmax_cross_entropy", {}, [far, np.array([2, 1, 0], np.int32)],
        lambda a, b: tf.nn.sparse_softmax_cross_entropy_with_logits(b, a))
    r = rng("sigmoid_xent")
    x = np.concatenate([normal(r, 3, 4, scale=3), [[-1000, 1000, -50, 50]]]).astype(np.float32)
    z = np.concatenate([uniform(r, 0, 1, 3, 4), [[0, 0, 1, 1]]]).astype(np.float32)
    f = lambda a, b: tf.nn.sigmoid_cross_entropy_with_logits(b, a)
    add("sigmoid_cross_entropy", {}, [x, z], f)
    add("sigmoid_cross_entropy", {}, [x, z], lambda a, b: F.binary_cross_entropy_with_logits(
        a, b, reduction="none"), source="torch")


def batch_norm(axis, epsilon):
    def f(x, gamma, beta):
        rank = len(x.shape)
        at = axis % rank
        rest = [i for i in range(rank) if i != at]
        mean, variance = tf.nn.moments(x, rest, keepdims=True)
        wide = [x.shape[i] if i == at else 1 for i in range(rank)]
        y = tf.nn.batch_normalization(x, mean, variance, tf.reshape(beta, wide),
                                      tf.reshape(gamma, wide), epsilon)
        return y, tf.reshape(mean, [-1]), tf.reshape(variance, [-1])
    return f


def batch_norms():
    shapes = [(8, 5), (63, 3), (4, 6, 3), (2, 3, 5, 4), (2, 3, 4, 2, 3), (1, 5), (1, 1, 1, 3),
              (2, 1), (3, 3, 3, 17)]
    for i, shape in enumerate(shapes):
        for axis in (-1, 1):
            for epsilon in ((1e-3, 1e-5) if i in (0, 3) else (1e-3,)):
                r = rng("batch_norm", i, axis)
                c = shape[axis]
                x = normal(r, *shape, scale=1.5, mean=0.7)
                gamma, beta = uniform(r, -1.5, 1.5, c), normal(r, c)
                note = "n = 1: variance 0, y = beta" if x.size == c else None
                add("batch_norm", {"axis": axis, "epsilon": epsilon}, [x, gamma, beta],
                    batch_norm(axis, epsilon), note=note)
                if i in (0, 2, 3):
                    add("batch_norm", {"axis": axis, "epsilon": epsilon}, [x, gamma, beta],
                        batch_norm(axis, epsilon), grad_all=True,
                        note="gradients of mean and variance too")
    for i, (mean, scale, shape) in enumerate([(1e4, 1, (32, 4)), (1e4, 1, (4, 5, 5, 3)),
                                              (-1e3, 0.1, (64, 2)), (1e4, 0, (16, 3)),
                                              (0, 1e-4, (16, 3)), (0, 1e6, (16, 3))]):
        r = rng("batch_norm_mean", i)
        x = normal(r, *shape, scale=scale, mean=mean)
        add("batch_norm", {"axis": -1, "epsilon": 1e-3},
            [x, uniform(r, 0.5, 1.5, shape[-1]), normal(r, shape[-1])], batch_norm(-1, 1e-3),
            note=f"mean {mean:g}, standard deviation {scale:g}")
    for i, (shape, axis) in enumerate([((8, 5), -1), ((2, 3, 5, 4), -1), ((2, 3, 5, 4), 1)]):
        r = rng("batch_norm_inference", i)
        c = shape[axis]
        wide = [-1 if k == axis % len(shape) else 1 for k in range(len(shape))]
        inputs = [normal(r, *shape), uniform(r, -1.5, 1.5, c), normal(r, c), normal(r, c),
                  uniform(r, 0.1, 3, c)]
        add("batch_norm_inference", {"axis": axis, "epsilon": 1e-3}, inputs,
            lambda x, g, b, m, v: tf.nn.batch_normalization(
                x, *(tf.reshape(t, wide) for t in (m, v, b, g)), 1e-3))
    r = rng("batch_norm_torch")
    x, gamma, beta = normal(r, 6, 4, 3, 5), normal(r, 4), normal(r, 4)
    add("batch_norm", {"axis": 1, "epsilon": 1e-5}, [x, gamma, beta],
        lambda a, g, b: (F.batch_norm(a, None, None, g, b, True, 0.1, 1e-5), a.mean((0, 2, 3)),
                         a.var((0, 2, 3), correction=0)), source="torch")


def transposed_convolutions():
    # (input, kernel, strides, padding, output_padding, dilation)
    sets = [((2, 4, 5, 3), (3, 3, 4, 3), 1, "valid", None, 1), ((2, 4, 5, 3), (3, 3, 4, 3), 1, "same", None, 1),
            ((2, 4, 5, 3), (3, 3, 2, 3), 2, "same", None, 1), ((2, 4, 5, 3), (3, 3, 2, 3), 2, "valid", None, 1),
            ((1, 3, 4, 2), (4, 2, 3, 2), (2, 3), "same", None, 1), ((1, 3, 4, 2), (2, 5, 3, 2), (3, 2), "valid", None, 1),
            ((1, 3, 3, 2), (3, 3, 2, 2), 2, "same", 0, 1), ((1, 3, 3, 2), (3, 4, 2, 2), 3, "same", (1, 2), 1),
            ((1, 3, 3, 2), (3, 2, 2, 2), 3, "valid", (0, 2), 1), ((2, 4, 3, 2), (3, 3, 2, 2), 1, "same", None, (2, 1)),
            ((2, 4, 3, 2), (2, 3, 2, 2), 1, "valid", None, (2, 3)), ((2, 4, 4, 17), (1, 1, 5, 17), 2, "same", None, 1)]
    pair = lambda v: list(v) if isinstance(v, tuple) else [v, v]
    for i, (xs, ws, s, p, more, d) in enumerate(sets):
        r = rng("conv2d_transpose", i)
        s, d, more = pair(s), pair(d), [] if more is None else pair(more)
        (top, bottom), (left, right) = compute_conv_transpose_output_crops_for_torch(
            xs, ws, s, p, more or None, d)

        def f(x, w):  # without padding, then cut, or grown where a crop is negative
            y = F.conv_transpose2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), None, s, dilation=d)
            return F.pad(y, (-left, -right, -top, -bottom)).permute(0, 2, 3, 1)

        x, w = normal(r, *xs), normal(r, *ws, scale=0.3)
        add("conv2d_transpose", {"strides": s, "padding": p, "output_padding": more, "dilation_rate": d}, [x, w],
            f, source="torch")
        if max(d) == 1:  # TensorFlow has no dilated ones on CPUs
            twin = keras.ops.conv_transpose(x, w, s, p, more or None).numpy()
            got = np.array(cases[-1]["outputs"][0]["data"], np.float32).reshape(twin.shape)
            assert np.abs(twin - got).max() < 1e-5, ("Keras disagrees", i)


def make():
    for family in (unary, binary, activations, reductions, shapes, matmuls, convolutions, pools,
                   softmaxes, batch_norms, corners, transposed_convolutions):
        family()
    write("ops.json", {"cases": cases})
