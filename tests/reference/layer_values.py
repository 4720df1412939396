"""batch_norm.json, optimizers.json, losses.json, metrics.json and initializers.json."""
import inspect

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F

from values import number, numpy, rng, tensor, write


def normal(r, *shape, scale=1.0, mean=0.0):
    return (mean + scale * r.standard_normal(shape)).astype(np.float32)


def layer_steps(index, shape, steps=10, options=None, dtype=None, mask=False, frozen=False,
                scale=1.0, mean=0.5, note=None):
    options = dict(options or {})
    r = rng("batch_norm", index)
    layer = keras.layers.BatchNormalization(dtype=dtype, **options)
    layer.build(shape)
    start = {}
    for w in layer.weights:
        if w.name in ("gamma", "beta"):
            w.assign(r.uniform(0.5, 1.5, w.shape) if w.name == "gamma" else normal(r, *w.shape))
        start[w.name] = tensor(w.value)
    if frozen:
        layer.moving_mean.assign(normal(r, *layer.moving_mean.shape))
        layer.moving_variance.assign(r.uniform(0.5, 2, layer.moving_variance.shape))
        start |= {w.name: tensor(w.value) for w in layer.weights}
        layer.trainable = False
    entry = {"kind": "layer", "from": "keras", "computed": "f32", "config": {
        k: layer.get_config()[k] for k in ("axis", "momentum", "epsilon", "center", "scale")},
        "trainable": not frozen, "dtype": dtype or "float32", "initial": start, "steps": []}
    if options.get("renorm"):
        entry["config"] |= {k: options[k] for k in options if k.startswith("renorm")}
    in_type = {"bfloat16": tf.bfloat16, "float16": tf.float16}.get(
        (dtype or "").replace("mixed_", ""), tf.float32)
    for step in range(steps):
        x = tf.cast(normal(r, *shape, scale=scale * (1 + 0.1 * step), mean=mean + 0.2 * step), in_type)
        call = {}
        if mask:
            keep = r.random(shape[:-1]) < 0.6
            keep.reshape(-1)[0] = True
            call["mask"] = tf.constant(keep)
        trained = [w for w in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True, **call)
        dy = tf.cast(normal(r, *shape), y.dtype)
        grads = tape.gradient(y, [x] + [w.value for w in trained], output_gradients=dy)
        got = {"x": tensor(x), **({"mask": tensor(call["mask"])} if mask else {}), "y": tensor(y)}
        got |= {w.name: tensor(w.value) for w in layer.non_trainable_weights
                if w.name not in ("gamma", "beta")}
        if step == steps - 1:
            got |= {"dy": tensor(dy), "dx": tensor(grads[0])}
            got |= {"d" + w.name: tensor(g) for w, g in zip(trained, grads[1:])}
        entry["steps"].append(got)
    x = tf.cast(normal(r, *shape, scale=scale, mean=mean), in_type)
    entry["inference"] = {"x": tensor(x), "y": tensor(layer(x, training=False))}
    if note:
        entry["note"] = note
    return entry


def fused(source, shape=(8, 5, 5, 4), epsilon=1e-3, new=0.1, mean=0.5):
    r = rng("fused", source, shape, mean)
    x, dy = normal(r, *shape, mean=mean), normal(r, *shape)
    c = shape[-1]
    gamma, beta = r.uniform(0.5, 1.5, c).astype(np.float32), normal(r, c)
    run_mean, run_var = normal(r, c), r.uniform(0.5, 2, c).astype(np.float32)
    if source == "torch":
        move = lambda a: np.ascontiguousarray(np.moveaxis(a, -1, 1))
        back = lambda a: np.moveaxis(numpy(a), 1, -1)
        args = [torch.tensor(a, requires_grad=True) for a in (move(x), gamma, beta)]
        running = [torch.tensor(run_mean.copy()), torch.tensor(run_var.copy())]
        y = F.batch_norm(args[0], *running, args[1], args[2], True, new, epsilon)
        y.backward(torch.tensor(move(dy)))
        y, dx, dgamma, dbeta = back(y), back(args[0].grad), args[1].grad, args[2].grad
    else:
        args = [tf.constant(a) for a in (x, gamma, beta)]
        with tf.GradientTape() as tape:
            tape.watch(args)
            y, *running = tf.compat.v1.nn.fused_batch_norm(
                *args, tf.constant(run_mean), tf.constant(run_var), epsilon, "NHWC", True,
                exponential_avg_factor=new)
        dx, dgamma, dbeta = tape.gradient(y, args, output_gradients=tf.constant(dy))
    wide = x.astype(np.float64).reshape(-1, c)
    return {"kind": "fused", "from": source, "computed": "f32", "axis": -1, "epsilon": epsilon,
            "share_of_new": new, "x": tensor(x), "gamma": tensor(gamma), "beta": tensor(beta),
            "running_mean_before": tensor(run_mean), "running_variance_before": tensor(run_var),
            "y": tensor(y), "mean": tensor(wide.mean(0)), "variance": tensor(wide.var(0)),
            "running_mean": tensor(running[0]), "running_variance": tensor(running[1]),
            "dy": tensor(dy), "dx": tensor(dx), "dgamma": tensor(dgamma), "dbeta": tensor(dbeta),
            "note": "mean and variance (population) are computed here in f64; the running variance "
                    "takes the sample variance, n/(n-1) times as large"}


def batch_norm():
    two, four = (8, 5), (2, 4, 5, 3)
    cases = [
        layer_steps(0, two), layer_steps(1, two, options={"momentum": 0.9}),
        layer_steps(2, four), layer_steps(3, four, options={"momentum": 0.9, "axis": 1}),
        layer_steps(4, four, options={"axis": 1}),
        layer_steps(5, two, options={"center": False, "momentum": 0.9}),
        layer_steps(6, two, options={"scale": False, "momentum": 0.9}),
        layer_steps(7, two, options={"center": False, "scale": False}),
        layer_steps(8, two, options={"epsilon": 1e-5, "momentum": 0.0}),
        layer_steps(9, two, options={"momentum": 1.0}, steps=3),
        layer_steps(10, (3, 6, 4), options={"momentum": 0.9}),
        layer_steps(11, (3, 6, 4), options={"momentum": 0.9, "axis": 1}),
        layer_steps(12, (2, 2, 3, 2, 3), options={"momentum": 0.9}, steps=4),
        layer_steps(13, (1, 4), options={"momentum": 0.9}, steps=3, note="n = 1"),
        layer_steps(14, two, frozen=True, steps=2,
                    note="trainable = False: inference, even in training; gradients through it"),
        layer_steps(15, (4, 6, 3), mask=True, options={"momentum": 0.9}, steps=4,
                    note="mask: Keras divides by n + 1e-7"),
        layer_steps(16, (16, 4), mean=1e4, options={"momentum": 0.9}, steps=3,
                    note="large mean: Keras's own f32 is off by up to 1e-3 in y"),
        layer_steps(17, four, dtype="mixed_bfloat16", options={"momentum": 0.9}, steps=3,
                    note="bf16 in and out, statistics and weights f32")]
    if "renorm" in inspect.signature(keras.layers.BatchNormalization).parameters:
        clip = {"rmax": 1.1, "rmin": 0.9, "dmax": 0.1}
        cases += [layer_steps(18, two, options={"renorm": True, "momentum": 0.9}, steps=5),
                  layer_steps(19, two, options={"renorm": True, "renorm_clipping": clip,
                                                "renorm_momentum": 0.8}, steps=5)]
    cases += [fused("torch"), fused("tensorflow"), fused("torch", mean=1e3, shape=(4, 3, 3, 4)),
              fused("tensorflow", mean=1e3, shape=(4, 3, 3, 4)), fused("torch", new=1.0, epsilon=1e-5)]
    write("batch_norm.json", {"cases": cases})


def optimizers():
    # float32 of the learning rate is what Keras computes with.
    settings = [
        ("SGD", {}), ("SGD", {"learning_rate": 0.1}), ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
        ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
        ("SGD", {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.01}),
        ("SGD", {"learning_rate": 0.1, "clipnorm": 1.0}), ("SGD", {"learning_rate": 0.1, "clipvalue": 0.5}),
        ("SGD", {"learning_rate": 0.1, "global_clipnorm": 1.0}),
        ("RMSprop", {}), ("RMSprop", {"learning_rate": 0.01, "momentum": 0.9}),
        ("RMSprop", {"learning_rate": 0.01, "centered": True}),
        ("RMSprop", {"learning_rate": 0.01, "rho": 0.8, "momentum": 0.5, "centered": True, "epsilon": 1e-4}),
        ("Adam", {}), ("Adam", {"learning_rate": 0.01}),
        ("Adam", {"learning_rate": 0.01, "amsgrad": True}),
        ("Adam", {"learning_rate": 0.05, "beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
        ("Adam", {"learning_rate": 0.01, "weight_decay": 0.1}),
        ("AdamW", {}), ("AdamW", {"learning_rate": 0.01, "weight_decay": 0.1}),
        ("AdamW", {"learning_rate": 0.01, "weight_decay": 0.1, "amsgrad": True})]
    cases = []
    for i, (name, config) in enumerate(settings):
        r = rng("optimizer", i)
        start = [normal(r, 3, 4), normal(r, 5)]
        variables = [keras.Variable(v, name=n) for v, n in zip(start, ("kernel", "bias"))]
        opt = getattr(keras.optimizers, name)(**config)
        whole = {k: v for k, v in opt.get_config().items()
                 if isinstance(v, (int, float)) and k not in ("use_ema", "ema_momentum")}
        whole = {k: v if isinstance(v, (bool, int)) else float(f"{v:.7g}") for k, v in whole.items()}
        steps = []
        for step in range(6):
            grads = [normal(r, *v.shape, scale=1 + step % 3) for v in start]
            if step == 3:
                grads[1][:] = 0
            opt.apply(grads, variables)
            steps.append({"gradients": [tensor(g) for g in grads],
                          "variables": [tensor(v.value) for v in variables]})
        slots = {v.path.split("/")[-1]: tensor(v.value) for v in opt.variables
                 if v.name != "learning_rate"}
        cases.append({"optimizer": name, "from": "keras", "config": config, "whole_config": whole,
                      "variables": [tensor(v) for v in start], "steps": steps, "slots": slots})
    write("optimizers.json", {"cases": cases})


def losses():
    r = rng("losses")
    c = keras.losses
    logits = normal(r, 6, 5, scale=2)
    probs = keras.ops.softmax(logits).numpy()
    sparse = r.integers(0, 5, 6).astype(np.int32)
    dense = np.eye(5, dtype=np.float32)[sparse]
    soft = r.dirichlet(np.ones(5), 6).astype(np.float32)
    scores = normal(r, 6, 3, scale=2)
    chances = keras.ops.sigmoid(scores).numpy()
    bits = r.integers(0, 2, (6, 3)).astype(np.float32)
    real, guess = normal(r, 6, 3), normal(r, 6, 3)
    seq_logits, seq = normal(r, 2, 4, 5), r.integers(0, 5, (2, 4)).astype(np.int32)
    edge = np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0.2, 0.2, 0.2, 0.2, 0.2], [1e-9, 0.5, 0.5, 0, 0],
                     [0.5, 0.3, 0.1, 0.05, 0.05], [0, 0, 0, 0, 1]], np.float32)
    edge_bits = np.array([[0, 1, 1e-9], [0, 1, 0.5]], np.float32)
    raw = np.array([[1, 2, 3, 4, 5]] * 6, np.float32) * np.arange(1, 7, dtype=np.float32)[:, None]
    S, C = "sparse_categorical_crossentropy", "categorical_crossentropy"
    B, M, A = "binary_crossentropy", "mean_squared_error", "mean_absolute_error"
    classes = {S: c.SparseCategoricalCrossentropy, C: c.CategoricalCrossentropy,
               B: c.BinaryCrossentropy, M: c.MeanSquaredError, A: c.MeanAbsoluteError}
    from_logits, smooth = {"from_logits": True}, {"label_smoothing": 0.1}
    sets = [(S, from_logits, sparse, logits), (S, {}, sparse, probs), (S, from_logits, seq, seq_logits),
            (S, {}, sparse[:, None], probs), (S, from_logits | {"ignore_class": int(sparse[0])}, sparse, logits),
            (C, from_logits, dense, logits), (C, {}, dense, probs), (C, {}, soft, probs),
            (C, from_logits | smooth, dense, logits), (C, smooth, dense, probs),
            (B, from_logits, bits, scores), (B, {}, bits, chances), (B, from_logits | smooth, bits, scores),
            (B, smooth, bits, chances), (B, {}, bits[:, :1], chances[:, :1]),
            (M, {}, real, guess), (M, {}, real[:, 0], guess[:, 0]), (A, {}, real, guess), (A, {}, real, real),
            (S, {}, sparse, edge), (C, {}, dense, edge), (B, {}, np.array([[1, 0, 1], [0, 1, 0]], np.float32), edge_bits),
            (C, {}, dense, raw), (S, {}, sparse, raw)]
    notes = {19: "probabilities of 0 and 1: Keras clips to [1e-7, 1-1e-7] in f32 and the gradient is 0 there",
             22: "not normalised: divided by the sum, then clipped",
             23: "not normalised: clipped, then divided by the sum"}
    notes |= {20: notes[19], 21: notes[19]}
    cases = []
    for i, (name, attrs, y_true, y_pred) in enumerate(sets):
        weights = [None]
        if i < 19:
            # Keras wants a weight for every value of the loss; [2] for a [2,4] loss is an error.
            shape = y_true.shape if i == 2 else y_true.shape[:1]
            weights.append(r.uniform(0, 2, shape).astype(np.float32))
        if i in (0, 5, 15):
            weights.append(np.array([0, 1, 0, 2, 0, 1], np.float32))
        reductions = ["sum_over_batch_size"]
        if i in (0, 10, 15):
            reductions += ["sum", "mean_with_sample_weight", "none"]
        for weight in weights:
            for reduction in reductions:
                loss = classes[name](reduction=reduction, **attrs)
                x = tf.constant(y_pred)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    value = loss(y_true, x, sample_weight=weight)
                    total = tf.reduce_sum(value)
                entry = {"loss": name, "from": "keras", "computed": "f32", "attrs": attrs,
                         "reduction": reduction, "y_true": tensor(y_true), "y_pred": tensor(y_pred),
                         "sample_weight": None if weight is None else tensor(weight),
                         "value": tensor(value), "gradient": tensor(tape.gradient(total, x))}
                if i in notes:
                    entry["note"] = notes[i]
                cases.append(entry)
    write("losses.json", {"cases": cases})


def metrics():
    m = keras.metrics
    r = rng("metrics")
    cases = []

    def run(name, metric, batches, attrs=None, note=None):
        steps = []
        for y_true, y_pred, weight in batches:
            metric.update_state(y_true, y_pred, sample_weight=weight)
            steps.append({"y_true": tensor(y_true), "y_pred": tensor(y_pred),
                          "sample_weight": None if weight is None else tensor(weight),
                          "result": number(metric.result())})
        entry = {"metric": name, "from": "keras", "attrs": attrs or {}, "updates": steps}
        if note:
            entry["note"] = note
        cases.append(entry)

    def batches(draw, weighted):
        sizes = (6, 6, 3)
        return [(*draw(n), r.uniform(0, 2, n).astype(np.float32) if weighted else None) for n in sizes]

    softmax = lambda n: keras.ops.softmax(normal(r, n, 8, scale=2)).numpy()
    sparse = lambda n: (r.integers(0, 8, n).astype(np.int32), softmax(n))
    sparse1 = lambda n: (r.integers(0, 8, (n, 1)).astype(np.int32), softmax(n))
    dense = lambda n: (np.eye(8, dtype=np.float32)[r.integers(0, 8, n)], softmax(n))
    bits = lambda n: (r.integers(0, 2, (n, 3)).astype(np.float32), r.uniform(0, 1, (n, 3)).astype(np.float32))
    bit = lambda n: (r.integers(0, 2, (n, 1)).astype(np.float32), r.uniform(0, 1, (n, 1)).astype(np.float32))
    same = lambda n: (r.integers(0, 3, (n, 4)).astype(np.float32), r.integers(0, 3, (n, 4)).astype(np.float32))
    real = lambda n: (normal(r, n, 3), normal(r, n, 3))
    seq = lambda n: (r.integers(0, 8, (n, 4)).astype(np.int32),
                     keras.ops.softmax(normal(r, n, 4, 8)).numpy())
    for weighted in (False, True):
        run("sparse_categorical_accuracy", m.SparseCategoricalAccuracy(), batches(sparse, weighted))
        run("sparse_categorical_accuracy", m.SparseCategoricalAccuracy(), batches(sparse1, weighted))
        run("categorical_accuracy", m.CategoricalAccuracy(), batches(dense, weighted))
        run("binary_accuracy", m.BinaryAccuracy(), batches(bits, weighted))
        run("binary_accuracy", m.BinaryAccuracy(threshold=0.8), batches(bit, weighted), {"threshold": 0.8})
        run("accuracy", m.Accuracy(), batches(same, weighted), note="equal values, as the class Accuracy counts")
        run("top_k_categorical_accuracy", m.TopKCategoricalAccuracy(k=3), batches(dense, weighted), {"k": 3})
        run("top_k_categorical_accuracy", m.TopKCategoricalAccuracy(), batches(dense, weighted), {"k": 5})
        run("sparse_top_k_categorical_accuracy", m.SparseTopKCategoricalAccuracy(k=2), batches(sparse, weighted), {"k": 2})
        run("mean_squared_error", m.MeanSquaredError(), batches(real, weighted))
        run("mean_absolute_error", m.MeanAbsoluteError(), batches(real, weighted))
        run("sparse_categorical_crossentropy", m.SparseCategoricalCrossentropy(), batches(sparse, weighted))
        run("categorical_crossentropy", m.CategoricalCrossentropy(), batches(dense, weighted))
        run("binary_crossentropy", m.BinaryCrossentropy(), batches(bits, weighted))
    run("sparse_categorical_accuracy", m.SparseCategoricalAccuracy(), batches(seq, False), note="sequences")
    ties = np.array([[0.25, 0.25, 0.25, 0.25], [0.4, 0.4, 0.1, 0.1], [0.1, 0.4, 0.4, 0.1], [0.1, 0.2, 0.3, 0.4]], np.float32)
    labels = np.array([3, 1, 1, 2], np.int32)
    for k in (1, 2, 3):
        run("sparse_top_k_categorical_accuracy", m.SparseTopKCategoricalAccuracy(k=k),
            [(labels, ties, None)], {"k": k}, "ties")
    run("sparse_categorical_accuracy", m.SparseCategoricalAccuracy(), [(labels, ties, None)], None, "ties")
    half = np.array([[0.5], [0.5], [0.50001]], np.float32)
    run("binary_accuracy", m.BinaryAccuracy(), [(np.array([[1], [0], [1]], np.float32), half, None)],
        {"threshold": 0.5}, "0.5 is not above 0.5")
    write("metrics.json", {"cases": cases})


def initializers():
    k = keras.initializers
    from keras.src.initializers.random_initializers import compute_fans
    made = [("GlorotUniform", {}), ("GlorotNormal", {}), ("HeUniform", {}), ("HeNormal", {}),
            ("LecunUniform", {}), ("LecunNormal", {}), ("RandomNormal", {}), ("RandomUniform", {}),
            ("TruncatedNormal", {}), ("RandomNormal", {"mean": 1.0, "stddev": 0.5}),
            ("RandomUniform", {"minval": -1.0, "maxval": 3.0}),
            ("TruncatedNormal", {"mean": -1.0, "stddev": 2.0}), ("VarianceScaling", {}),
            ("VarianceScaling", {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}),
            ("VarianceScaling", {"scale": 0.5, "mode": "fan_avg", "distribution": "uniform"})]
    cases = []
    for name, config in made:
        for shape in [(40, 25), (3, 3, 4, 10), (5, 5, 8, 2), (3, 2, 5), (64,), (2, 3, 3, 4, 5)]:
            draws = np.concatenate([numpy(getattr(k, name)(seed=seed, **config)(shape)).reshape(-1)
                                    for seed in range(max(1, 60000 // int(np.prod(shape))))])
            fans = compute_fans(shape)
            wide = draws.astype(np.float64)
            cases.append({"initializer": name, "from": "keras", "config": config, "shape": list(shape),
                          "fan_in": int(fans[0]), "fan_out": int(fans[1]), "drawn": len(draws),
                          "mean": number(wide.mean()), "variance": number(wide.var()),
                          "min": number(wide.min()), "max": number(wide.max())})
    for config, shape in [({}, (6, 4)), ({}, (4, 6)), ({"gain": 2.0}, (3, 3, 2, 5))]:
        w = numpy(k.Orthogonal(seed=1, **config)(shape)).reshape(-1, shape[-1]).astype(np.float64)
        gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
        cases.append({"initializer": "Orthogonal", "from": "keras", "config": config, "shape": list(shape),
                      "gram_diagonal": number(np.round(gram.diagonal().mean(), 5)),
                      "gram_off_diagonal": number(np.round(np.abs(gram - np.diag(gram.diagonal())).max(), 4)),
                      "note": "the matrix is [everything but the last, last]; rows or columns are orthogonal, whichever are fewer"})
    for name, config, shape in [("Zeros", {}, (2, 2)), ("Ones", {}, (2, 2)), ("Constant", {"value": 0.5}, (3,)),
                                ("Identity", {}, (2, 3)), ("Identity", {"gain": 2.0}, (3, 3))]:
        cases.append({"initializer": name, "from": "keras", "config": config, "shape": list(shape),
                      "value": tensor(getattr(k, name)(**config)(shape))})
    write("initializers.json", {"cases": cases})


def make():
    batch_norm()
    optimizers()
    losses()
    metrics()
    initializers()
