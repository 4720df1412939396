"""nets/: small models saved by Keras, what they predict, and what ten steps of training make of them."""
import json
import os
import re
import shutil
import tempfile
import zipfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L

from values import HERE, number, rng, versions

FOLDER = os.path.join(HERE, "nets")
nets = []
seen = set()


def save_npy(name, x):
    np.save(os.path.join(FOLDER, name), np.ascontiguousarray(x))
    return name


def save(model, name):
    """As Keras saves it, but for dates and object numbers, so that the bytes are the same each time."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m.keras")
        model.save(path)
        with zipfile.ZipFile(path) as source, \
                zipfile.ZipFile(os.path.join(FOLDER, name), "w") as target:
            for member in source.infolist():
                data = source.read(member)
                if member.filename == "metadata.json":
                    data = json.dumps(json.loads(data) | {"date_saved": "2026-01-01@00:00:00"}).encode()
                if member.filename == "config.json":
                    ids = {}  # Keras writes addresses
                    data = re.sub(rb'("shared_object_id": )(\d+)', lambda m: m[1] + str(
                        ids.setdefault(m[2], len(ids) + 1)).encode(), data)
                info = zipfile.ZipInfo(member.filename, (2026, 1, 1, 0, 0, 0))
                info.compress_type = member.compress_type
                target.writestr(info, data)
    return name


def wide_copy(model):
    """The same in f64: how far Keras's own f32 is from the truth."""
    def retype(config):
        if isinstance(config, dict):
            return {k: retype(v) for k, v in config.items()}
        if isinstance(config, list):
            return [retype(v) for v in config]
        return "float64" if config == "float32" else config

    config = retype(keras.saving.serialize_keras_object(model))
    config.pop("compile_config", None)
    copy = keras.saving.deserialize_keras_object(config)
    if not copy.built:
        copy.build(model.input_shape)
    copy.set_weights([np.asarray(w, np.float64) for w in model.get_weights()])
    for layer in copy.layers:
        if isinstance(layer, L.Normalization):
            layer.finalize_state()  # set_weights alone leaves it at its first mean
    return copy


def call(model, x):
    y = model(x, training=False)
    return [np.asarray(v) for v in y] if isinstance(y, (list, tuple)) else np.asarray(y)


def stir(model, r):
    """Weights that are not where initialisers leave them."""
    for w in model.weights:
        name, shape = w.path.split("/")[-1], w.shape
        if name == "gamma":
            w.assign(r.uniform(0.5, 1.5, shape))
        elif name in ("beta", "bias"):
            w.assign(r.normal(0, 0.2, shape))
        elif name == "moving_mean":
            w.assign(r.normal(0, 0.4, shape))
        elif name == "moving_variance":
            w.assign(r.uniform(0.3, 2, shape))
        elif "kernel" in name:
            w.assign(np.asarray(w) + r.normal(0, 0.05, shape))


def note_layers(model):
    for layer in model.layers:
        seen.add(type(layer).__name__)
        if hasattr(layer, "activation"):
            seen.add("activation " + keras.activations.serialize(layer.activation)
                     if callable(layer.activation) else "")
        if isinstance(layer, keras.Model):
            note_layers(layer)


def keep(model, name, x, files=None, **more):
    """files: the start of the files' names, where several nets share them."""
    net, name = name, files or name
    save(model, name + ".keras")
    y = call(model, x)
    entry = {"name": net, "model": name + ".keras", "expect": "predict",
             "layers": [type(v).__name__ for v in model.layers]}
    if isinstance(x, list):
        entry["x"] = [save_npy(f"{name}_x{i}.npy", v) for i, v in enumerate(x)]
    else:
        entry["x"] = save_npy(name + "_x.npy", x)
    if isinstance(y, list):
        entry["prediction"] = [save_npy(f"{name}_y{i}.npy", v.astype(np.float32)) for i, v in enumerate(y)]
    else:
        entry["prediction"] = save_npy(name + "_y.npy", y.astype(np.float32))
        assert np.isfinite(y).all() and np.abs(y).max() < 100, (name, np.abs(y).max())
        if more.pop("check", True):
            error = np.abs(call(wide_copy(model), x.astype(np.float64)) - y).max()
            assert error < 5e-6, (name, error)
            entry["keras_error"] = number(np.format_float_scientific(error, 2))
    note_layers(model)
    nets.append(entry | more)
    return entry | more


def train(model, entry, x, y, loss, optimizer, config, epochs=5, batch=32, files=None):
    """Ten steps in the order of the data; also in f64, since a step that divides a gradient by its
    own size makes rounding errors as large as the learning rate where the gradient should be 0."""
    name = entry["name"]
    made = lambda m: m.compile(getattr(keras.optimizers, optimizer)(**config), loss, jit_compile=False)
    start = model.get_weights()
    wide = wide_copy(model)
    made(wide)
    wide.fit(x.astype(np.float64), y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0)
    made(model)
    history = model.fit(x, y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0)
    error = max((np.abs(a - b).max() for a, b in zip(model.get_weights(), wide.get_weights())), default=0)
    moved = max(np.abs(a - b).max() for a, b in zip(model.get_weights(), start))
    if not error < 2e-5:
        model.set_weights(start)
        return f"{name}: f32 and f64 differ by {error:.1e}"
    trained = keras.saving.deserialize_keras_object(
        {k: v for k, v in keras.saving.serialize_keras_object(model).items() if k != "compile_config"})
    if not trained.built:
        trained.build(model.input_shape)
    trained.set_weights(model.get_weights())
    kept = next(n for n in nets if n["name"] == name)
    kept["train"] = {
        "x": save_npy((files or name) + "_train_x.npy", x),
        "y": save_npy((files or name) + "_train_y.npy", y), "loss": loss,
        "optimizer": {"name": optimizer, "config": config}, "batch_size": batch, "epochs": epochs,
        "steps": epochs * -(-len(x) // batch), "trained": save(trained, name + "_trained.keras"),
        "losses": [number(v) for v in history.history["loss"]],
        "keras_error": number(np.format_float_scientific(error, 2)),
        "moved": number(np.format_float_scientific(moved, 2))}
    model.set_weights(start)
    return None


class Deck:
    """Hands out every item once before any comes twice."""

    def __init__(self, name, items):
        self.r, self.items, self.left = rng("deck", name), list(items), []

    def draw(self):
        if not self.left:
            self.left = [self.items[i] for i in self.r.permutation(len(self.items))]
        return self.left.pop()


SMOOTH = ["elu", "gelu", "linear", "mish", "relu", "selu", "sigmoid", "silu", "softplus", "softsign",
          "tanh", "celu", "leaky_relu", "log_sigmoid", "tanh_shrink", "squareplus", "hard_silu"]
ACTIVATIONS = SMOOTH + ["exponential", "hard_sigmoid", "log_softmax", "relu6", "softmax", "hard_tanh",
                        "soft_shrink", "hard_shrink", "sparse_plus", "sparse_sigmoid", "sparsemax",
                        "hard_swish", "swish"]  # not glu: Keras's Activation misstates its shape
BLOCKS = ["conv", "conv", "depthwise", "separable", "max_pool", "average_pool", "batch_norm",
          "batch_norm", "activation", "activation", "activation", "relu", "leaky_relu", "softmax", "dropout",
          "zero_padding", "rescaling", "residual", "branches"]
FRIENDLY = ["conv", "conv", "conv_bn", "depthwise", "separable", "max_pool", "average_pool", "conv_bn",
            "activation", "relu", "leaky_relu", "zero_padding", "residual", "branches"]
decks = {"all": Deck("blocks", BLOCKS), "friendly": Deck("friendly", FRIENDLY),
         "activation": Deck("activation", ACTIVATIONS), "smooth": Deck("smooth", SMOOTH),
         "relu": Deck("relu", [{}, {"max_value": 1.5}, {"negative_slope": 0.2}, {"threshold": 0.3},
                               {"max_value": 2.0, "negative_slope": 0.1, "threshold": 0.2}]),
         "bn": Deck("bn", [{}, {"momentum": 0.9}, {"epsilon": 1e-5}, {"center": False}, {"scale": False},
                           {"center": False, "scale": False}, {"axis": 1}, {"axis": 2}]),
         "head": Deck("head", ["flatten", "average", "max", "reshape", "keepdims"])}


def conv(r, channels, same=False):
    options = {"filters": int(r.integers(2, 7)), "kernel_size": tuple(int(v) for v in r.integers(1, 4, 2)),
               "padding": "same" if same else str(r.choice(["same", "valid"])),
               "use_bias": bool(r.random() < 0.7)}
    kind = r.integers(0, 4)
    if kind == 1 and not same:
        options["strides"] = 2
    if kind == 2:
        options["dilation_rate"] = (2, 2)
    groups = [g for g in (2, 3) if channels % g == 0]
    if kind == 3 and groups:
        options["groups"] = groups[0]
        options["filters"] = groups[0] * int(r.integers(1, 4))
    return options


def block(kind, x, r, friendly, functional):
    """x → x; a plain layer for a Sequential model, where there is no branching."""
    _, h, w, c = x.shape
    act = decks["smooth" if friendly else "activation"]
    if kind in ("conv", "conv_bn"):
        options = conv(r, c, min(h, w) < 5)
        if kind == "conv_bn":
            x = L.Conv2D(**options | {"use_bias": False})(x)
            return L.BatchNormalization(momentum=0.9, gamma_initializer="ones")(x)
        return L.Conv2D(**options, activation=act.draw())(x)
    if kind == "depthwise":
        return L.DepthwiseConv2D(int(r.integers(1, 4)), padding="same", depth_multiplier=int(r.integers(1, 3)),
                                 strides=int(r.integers(1, 3)) if min(h, w) > 4 else 1,
                                 activation=[None, "relu"][r.integers(0, 2)])(x)
    if kind == "separable":
        return L.SeparableConv2D(int(r.integers(2, 6)), int(r.integers(2, 4)), padding="same",
                                 depth_multiplier=int(r.integers(1, 3)),
                                 use_bias=bool(r.integers(0, 2)))(x)
    if kind in ("max_pool", "average_pool"):
        layer = L.MaxPooling2D if kind == "max_pool" else L.AveragePooling2D
        if min(h, w) < 4:
            return layer(2, strides=1, padding="same")(x)
        return layer(int(r.integers(2, 4)), strides=[None, 1, 2][r.integers(0, 3)],
                     padding=str(r.choice(["same", "valid"])))(x)
    if kind == "batch_norm":
        return L.BatchNormalization(**decks["bn"].draw())(x)
    if kind == "activation":
        name = act.draw()
        if name == "exponential":
            x = L.Rescaling(0.2)(L.Activation("tanh")(x))
        return L.Activation(name)(x)
    if kind == "relu":
        return L.ReLU(**decks["relu"].draw())(x)
    if kind == "leaky_relu":
        return L.LeakyReLU(**[{}, {"negative_slope": 0.1}][r.integers(0, 2)])(x)
    if kind == "softmax":
        return L.Softmax(**[{}, {"axis": 1}][r.integers(0, 2)])(x)
    if kind == "dropout":
        return L.Dropout(0.4)(x)
    if kind == "zero_padding":
        return L.ZeroPadding2D([1, (1, 2), ((1, 0), (0, 2))][r.integers(0, 3)])(x)
    if kind == "rescaling":
        return L.Rescaling(0.5, offset=float(r.choice([0.0, -0.25])))(x)
    if not functional:
        return L.ReLU()(x)
    if kind == "residual":
        y = L.Conv2D(c, 3, padding="same", use_bias=False)(x)
        y = L.BatchNormalization(momentum=0.9)(y)
        if r.integers(0, 2):
            return L.ReLU()(L.Add()([x, y, L.Conv2D(c, 1)(x)]))
        return L.ReLU()(L.Add()([x, y]))
    return L.Concatenate(axis=-1 if r.integers(0, 2) else 3)(
        [L.Conv2D(3, 1, activation="relu")(x), L.DepthwiseConv2D(3, padding="same")(x),
         L.MaxPooling2D(3, strides=1, padding="same")(x)])


def head(x, r, kind):
    if kind == "average":
        return L.GlobalAveragePooling2D()(x)
    if kind == "max":
        return L.GlobalMaxPooling2D()(x)
    if kind == "keepdims":
        layer = L.GlobalMaxPooling2D if r.integers(0, 2) else L.GlobalAveragePooling2D
        return L.Flatten()(layer(keepdims=True)(x))
    if x.shape[1] * x.shape[2] * x.shape[3] > 300:
        x = L.AveragePooling2D(3, padding="same")(x)
    if kind == "reshape":
        x = L.Reshape((-1, x.shape[3]))(x)
        x = L.Dense(4, activation="tanh")(x)
    return L.Flatten()(x)


def random_image_model(i, r, friendly, functional):
    shape = [(8, 8, 3), (9, 7, 2), (12, 12, 1), (6, 10, 4), (7, 7, 3), (5, 5, 6)][i % 6]
    x = inputs = keras.Input(shape)
    if i % 5 == 1:
        norm = L.Normalization(axis=-1)
        norm.adapt(r.normal(1.5, 2.0, (40, *shape)).astype(np.float32))
        x = norm(x)
    for _ in range(r.integers(4, 8)):
        if min(x.shape[1:3]) < 2:
            break
        x = block(decks["friendly" if friendly else "all"].draw(), x, r, friendly, functional)
    x = head(x, r, decks["head"].draw())
    if not friendly and r.integers(0, 2):
        x = L.Dropout(0.3)(x)
    x = L.Dense(5, activation="softmax" if friendly or r.integers(0, 2) else decks["activation"].draw()
                if r.integers(0, 2) else None)(x)
    return inputs, x, shape


def random_dense_model(i, r, friendly, functional):
    shape = (int(r.integers(4, 13)),)
    x = inputs = keras.Input(shape)
    if i % 2:
        norm = [L.Normalization(), L.Normalization(axis=None),
                L.Normalization(mean=0.5, variance=2.0), L.Normalization(axis=-1)][i // 2 % 4]
        if norm.input_mean is None:
            norm.adapt(r.normal(1.0, 3.0, (50, *shape)).astype(np.float32))
        x = norm(x)
    else:
        x = L.Rescaling(1 / 16, offset=-0.5)(x) if not friendly else x
    for _ in range(r.integers(2, 5)):
        bn = r.random() < 0.6
        y = L.Dense(int(r.integers(2, 9)) * 2, use_bias=not bn)(x)
        if bn:
            y = L.BatchNormalization(**{"momentum": 0.9} if friendly else decks["bn"].draw() | {"axis": -1})(y)
        name = decks["smooth" if friendly else "activation"].draw()
        y = L.Activation("tanh" if name == "exponential" else name)(y)
        if not friendly and r.random() < 0.4:
            y = L.Dropout(0.5)(y)
        if functional and r.random() < 0.5:
            y = L.Concatenate()([x, y])
        elif functional and r.random() < 0.4:
            y = L.Add()([y, L.Dense(y.shape[-1])(x)])
        x = y
    if not friendly:
        x = L.Reshape((x.shape[-1] // 2, 2) if x.shape[-1] % 2 == 0 else (x.shape[-1], 1))(x)
        x = L.BatchNormalization(axis=1)(x)
        x = L.Flatten()(x)
    x = L.Dense(4, activation="softmax")(x)
    return inputs, x, shape


def random_models():
    settings = [("SGD", {"learning_rate": 0.05, "momentum": 0.9}), ("Adam", {"learning_rate": 0.002}),
                ("RMSprop", {"learning_rate": 0.001}),
                ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True})]
    trained, refused = 0, []
    for i in range(30):
        r = rng("random", i)
        keras.utils.clear_session()
        keras.utils.set_random_seed(1000 + i)
        friendly, functional = i < 14, i % 3 != 0
        draw = random_dense_model if i % 4 == 3 else random_image_model
        inputs, outputs, shape = draw(i, r, friendly, functional)
        model = keras.Model(inputs, outputs, name=f"net_{i}")
        if not functional:
            model = keras.Sequential(model.layers, name=f"net_{i}")
        stir(model, r)
        x = r.normal(0.3, 1, (4, *shape)).astype(np.float32)
        entry = keep(model, f"random_{i:02d}", x)
        classes = outputs.shape[-1]
        if friendly:
            name, config = settings[trained % len(settings)]
            n = 44 if i % 2 else 64
            labels = r.integers(0, classes, n)
            x = (r.normal(0, 1, (n, *shape)) + (labels / classes).reshape(-1, *[1] * len(shape)))
            x = (np.round(x * 32) / 32).astype(np.float32)
            loss = "sparse_categorical_crossentropy"
            y = labels.astype(np.int32)
            if i % 7 == 5:
                loss, y = "categorical_crossentropy", np.eye(classes, dtype=np.float32)[labels]
            if i % 7 == 6:
                loss, y = "mean_squared_error", np.eye(classes, dtype=np.float32)[labels]
            why = train(model, entry, x, y, loss, name, config)
            if why is None:
                trained += 1
            else:
                refused.append(why)
    print(f"{trained} random nets trained;", *refused, sep="\n  ")
    wanted = {"activation " + a for a in ACTIVATIONS} - {"activation swish", "activation hard_swish"}
    wanted |= {"Dense", "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D",
               "GlobalMaxPooling2D", "GlobalAveragePooling2D", "Flatten", "Reshape", "Dropout", "Activation",
               "ReLU", "LeakyReLU", "Softmax", "Add", "Concatenate", "ZeroPadding2D", "Normalization",
               "Rescaling", "BatchNormalization"}
    print("not among the random nets:", sorted(wanted - seen) or "nothing")


def named_nets():
    for net in ("mlp", "cnn"):
        for optimizer, config in [("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
                                  ("Adam", {"learning_rate": 0.001}), ("RMSprop", {"learning_rate": 0.001})]:
            r = rng(net)
            keras.utils.clear_session()
            keras.utils.set_random_seed(7)
            if net == "mlp":
                parts = [keras.Input((784,))]
                for units in (20, 16, 16):
                    parts += [L.Dense(units, use_bias=False), L.BatchNormalization(), L.Activation("sigmoid")]
                parts += [L.Dense(10, activation="softmax")]
                shape, loss = (784,), "sparse_categorical_crossentropy"
            else:
                parts = [keras.Input((8, 8, 1))]
                for _ in range(2):
                    parts += [L.Conv2D(8, 3, padding="same", use_bias=False), L.BatchNormalization(), L.ReLU()]
                parts += [L.MaxPooling2D(), L.Flatten(), L.Dense(10, activation="softmax")]
                shape, loss = (8, 8, 1), "sparse_categorical_crossentropy"
            model = keras.Sequential(parts, name=net)
            n = 44 if net == "mlp" else 64
            labels = r.integers(0, 10, n).astype(np.int32)
            ink = r.integers(0, 17, (10, *shape)) * (r.random((10, *shape)) < 0.25)
            x = np.clip(ink[labels] + r.integers(-3, 4, (n, *shape)) * (r.random((n, *shape)) < 0.1), 0, 16)
            x = (x / 16).astype(np.float32)
            name = f"{net}_{optimizer.lower()}"
            entry = keep(model, name, x[:5], files=net)
            why = train(model, entry, x, labels, loss, optimizer, config, files=net)
            assert why is None, why


def edge_models():
    def fresh(i):
        keras.utils.clear_session()
        keras.utils.set_random_seed(2000 + i)
        return rng("edge", i)

    def image(r, *shape):
        return r.normal(0.3, 1, shape).astype(np.float32)

    r = fresh(0)
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(4, 3, use_bias=False)(inputs)
    x = L.ReLU()(L.BatchNormalization(trainable=False)(x))
    x = L.Dense(3, activation="softmax")(L.BatchNormalization(momentum=0.9)(L.GlobalAveragePooling2D()(x)))
    model = keras.Model(inputs, x)
    stir(model, r)
    entry = keep(model, "edge_frozen_batch_norm", image(r, 4, 6, 6, 2),
                 note="the first batch norm has trainable = False: inference, even while training")
    labels = r.integers(0, 3, 44).astype(np.int32)
    why = train(model, entry, image(r, 44, 6, 6, 2), labels, "sparse_categorical_crossentropy", "SGD",
                {"learning_rate": 0.05, "momentum": 0.9})
    assert why is None, why

    r = fresh(1)
    inner = lambda: keras.Sequential([keras.Input((6,)), L.Dense(6, name="dense"), L.BatchNormalization(name="bn"),
                                      L.ReLU(name="relu")])
    inputs = keras.Input((6,))
    x = inner()(inputs)
    x = inner()(L.Dense(6, name="dense")(x))
    model = keras.Model(inputs, L.Dense(2, name="out")(x))
    stir(model, r)
    keep(model, "edge_nested", image(r, 3, 6), check=False, note="models inside a model, with equal layer names")

    r = fresh(2)
    inputs = keras.Input((5,))
    shared, other = L.Dense(5, activation="tanh"), L.Dense(5)
    model = keras.Model(inputs, L.Add()([shared(shared(inputs)), other(inputs), inputs]))
    stir(model, r)
    keep(model, "edge_shared_layer", image(r, 3, 5), note="one layer called twice: two nodes, one kernel")

    r = fresh(3)
    model = keras.Sequential([keras.Input((5,)), L.Dense(8, use_bias=False), L.BatchNormalization(), L.ReLU(),
                              L.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(image(r, 32, 5), r.integers(0, 3, 32), epochs=2, verbose=0, shuffle=False)
    keep(model, "edge_compiled", image(r, 4, 5), note="compiled and trained: optimizer state and a compile_config are in the file")

    for i, policy in enumerate(["mixed_bfloat16", "mixed_float16", "bfloat16"]):
        r = fresh(4 + i)
        keras.config.set_dtype_policy(policy)
        model = keras.Sequential([keras.Input((6, 6, 2)), L.Conv2D(3, 3), L.BatchNormalization(), L.ReLU(),
                                  L.Flatten(), L.Dense(3, activation="softmax", dtype="float32")])
        keras.config.set_dtype_policy("float32")
        stir(model, r)
        keep(model, "edge_" + policy, image(r, 4, 6, 6, 2), check=False, expect="predict_or_refuse",
             tolerance=0.02, note="dtype policy " + policy + "; the last layer is float32")

    class Doubler(L.Layer):
        def call(self, x):
            return 2 * x

    keras.saving.register_keras_serializable("example")(Doubler)
    twice = lambda x: x * 2
    twice.__code__ = twice.__code__.replace(co_filename="twice.py")  # the file holds its byte code
    for i, (name, layer, why) in enumerate([
            ("edge_lambda", lambda: L.Lambda(twice), "Lambda"), ("edge_custom", Doubler, "Doubler"),
            ("edge_unknown_layer", lambda: L.Masking(7.0), "Masking"),
            ("edge_regularized", lambda: L.Dense(4, kernel_regularizer="l2"), "kernel_regularizer")]):
        r = fresh(10 + i)
        model = keras.Sequential([keras.Input((4,)), L.Dense(4), layer(), L.Dense(2)])
        save(model, name + ".keras")
        entry = {"name": name, "model": name + ".keras", "expect": "refuse", "because": why,
                 "layers": [type(v).__name__ for v in model.layers]}
        if name == "edge_regularized":
            entry = keep(model, name, image(r, 3, 4), note="predicts like any other; training it without the "
                         "regularizer would be a silent wrong answer")
            continue
        nets.append(entry)

    r = fresh(20)
    a, b = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    x = L.Concatenate()([L.Dense(4, activation="relu")(a), b])
    model = keras.Model([a, b], [L.Dense(2, name="first")(x), L.Dense(1, activation="sigmoid", name="second")(x)])
    stir(model, r)
    keep(model, "edge_two_inputs_two_outputs", [image(r, 3, 4), image(r, 3, 3)], check=False)

    r = fresh(21)
    model = keras.Sequential([L.Conv2D(3, 3, strides=2, name="conv-1.x"), L.BatchNormalization(name="Size-2.b"),
                              L.Flatten(), L.Dense(2)])
    x = image(r, 3, 7, 7, 2)
    model(x)
    stir(model, r)
    keep(model, "edge_no_input_layer", x, check=False, note="a Sequential without an Input, built by its first "
         "call; names with dots and dashes")

    r = fresh(22)
    inputs = keras.Input(batch_shape=(4, 5))
    model = keras.Model(inputs, L.Dense(2)(L.Activation("relu")(inputs)))
    stir(model, r)
    keep(model, "edge_fixed_batch", image(r, 4, 5), note="the input has a fixed batch of 4")

    r = fresh(23)
    model = keras.Sequential([keras.Input((3, 4)), L.Dense(6, activation="gelu"), L.BatchNormalization(axis=1),
                              L.Dense(2)])
    stir(model, r)
    keep(model, "edge_dense_rank_3", image(r, 3, 3, 4), note="Dense on the last axis of a rank 3 tensor")

    r = fresh(24)
    model = keras.Sequential([keras.Input((None, None, 2)), L.Conv2D(3, 3, padding="same"), L.ReLU(),
                              L.GlobalMaxPooling2D(), L.Dense(2)])
    stir(model, r)
    keep(model, "edge_any_size", image(r, 3, 9, 5, 2), note="height and width are not stated")

    r = fresh(25)
    held = keras.constraints
    clip = {"rmax": 1.5, "rmin": 0.5, "dmax": 0.5}
    model = keras.Sequential([
        keras.Input((6, 6, 2)), L.Conv2D(4, 3, use_bias=False, kernel_constraint=held.MaxNorm(0.7, [0, 1, 2])),
        L.BatchNormalization(renorm=True, momentum=0.9, renorm_momentum=0.8), L.ReLU(),
        L.DepthwiseConv2D(3, depthwise_constraint=held.MinMaxNorm(0.3, 0.6, 0.5, [0, 1]), bias_constraint="non_neg"),
        L.BatchNormalization(renorm=True, renorm_clipping=clip, gamma_constraint=held.UnitNorm(),
                             beta_constraint=held.NonNeg()),
        L.ReLU(), L.GlobalAveragePooling2D(), L.Dense(3, activation="softmax", kernel_constraint=held.MaxNorm(1, 1))])
    stir(model, r)
    entry = keep(model, "edge_renorm_and_constraints", image(r, 4, 6, 6, 2), note="renorm, and weights that are held")
    why = train(model, entry, image(r, 44, 6, 6, 2), r.integers(0, 3, 44).astype(np.int32),
                "sparse_categorical_crossentropy", "SGD", {"learning_rate": 0.05, "momentum": 0.9})
    assert why is None, why


def norm_models():
    """Each of the normalisations besides batch norm."""
    def dense():
        return [keras.Input((6,)), L.Dense(8, use_bias=False), L.LayerNormalization(),
                L.Activation("tanh"), L.GroupNormalization(4, epsilon=1e-2), L.Dense(8, activation="relu"),
                L.RMSNormalization(), L.Dense(5), L.UnitNormalization(), L.Dense(3, activation="softmax")]

    def image():
        return [keras.Input((7, 6, 3)), L.Conv2D(8, 3), L.GroupNormalization(2), L.ReLU(),
                L.Conv2D(6, 3), L.GroupNormalization(3, axis=1, epsilon=0.1, center=False),
                L.LayerNormalization(axis=[1, 3], epsilon=1e-2), L.ReLU(),
                L.RMSNormalization(axis=[3, 2]), L.GroupNormalization(-1, epsilon=0.1, scale=False),
                L.Flatten(), L.UnitNormalization(axis=[1]), L.Dense(3, activation="softmax")]

    def spectral():
        return [keras.Input((6, 6, 2)), L.SpectralNormalization(L.Conv2D(4, 3), power_iterations=2), L.ReLU(),
                L.Flatten(), L.SpectralNormalization(L.Dense(8, activation="relu")),
                L.LayerNormalization(scale=False), L.Dense(3, activation="softmax")]

    def sequence():
        return [keras.Input((5, 8)), L.LayerNormalization(epsilon=1e-5), L.Dense(8),
                L.LayerNormalization(center=False, scale=False), L.Dense(6), L.LayerNormalization(rms_scaling=True),
                L.RMSNormalization(epsilon=1e-4), L.Flatten(), L.Dense(3, activation="softmax")]

    for i, layers in enumerate((dense, image, spectral, sequence)):
        keras.utils.clear_session()
        keras.utils.set_random_seed(3000 + i)
        r = rng("norms", i)
        model = keras.Sequential(layers())
        stir(model, r)
        shape = model.input_shape[1:]
        entry = keep(model, "norms_" + layers.__name__, r.normal(0.3, 1, (4, *shape)).astype(np.float32))
        x, y = r.normal(0.3, 1, (44, *shape)).astype(np.float32), r.integers(0, 3, 44).astype(np.int32)
        why = train(model, entry, x, y, "sparse_categorical_crossentropy", "SGD",
                    {"learning_rate": 0.02, "momentum": 0.9})
        assert why is None, (layers.__name__, why)


def residual_net():
    """He et al. 2016, section 4.2, n = 3, with a quarter of the channels."""
    r = rng("resnet20")
    keras.utils.clear_session()
    keras.utils.set_random_seed(8)

    def conv_bn(x, filters, size, stride):
        x = L.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(x)
        return L.BatchNormalization()(x)

    inputs = keras.Input((16, 16, 3))
    x = L.ReLU()(conv_bn(inputs, 4, 3, 1))
    for stage in range(3):
        for block in range(3):
            filters, stride = 4 << stage, 2 if stage and not block else 1
            y = conv_bn(L.ReLU()(conv_bn(x, filters, 3, stride)), filters, 3, 1)
            skip = conv_bn(x, filters, 1, stride) if stride > 1 else x
            x = L.ReLU()(L.Add()([y, skip]))
    model = keras.Model(inputs, L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(x)), name="resnet20")
    stir(model, r)
    keep(model, "resnet20", r.normal(0.3, 1, (9, 16, 16, 3)).astype(np.float32), note="ResNet-20's blocks, narrower")


def transposed_nets():
    """A decoder and a U-shaped net, as in Dumoulin and Visin 2016 and Ronneberger et al. 2015."""
    def decoder(inputs):
        x = L.Reshape((3, 3, 4))(L.Dense(36)(inputs))
        x = L.Conv2DTranspose(6, 4, strides=2, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
        x = L.Conv2DTranspose(3, 3, strides=2, output_padding=(1, 0), activation="tanh")(x)
        return L.GlobalAveragePooling2D()(x)

    def u_net(inputs):
        down = L.ReLU()(L.BatchNormalization(momentum=0.9)(L.Conv2D(4, 3, padding="same", use_bias=False)(inputs)))
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(L.Conv2D(6, 3, strides=2, padding="same")(down)))
        x = L.BatchNormalization(momentum=0.9)(L.Conv2DTranspose(4, (2, 3), strides=2, padding="same")(x))
        x = L.Conv2DTranspose(4, 3)(L.Concatenate()([down, L.ReLU()(x)]))
        return L.Dense(3)(L.GlobalAveragePooling2D()(x))

    for i, (net, shape) in enumerate(((decoder, (5,)), (u_net, (8, 6, 2)))):
        keras.utils.clear_session()
        keras.utils.set_random_seed(4000 + i)
        r = rng("transposed", i)
        inputs = keras.Input(shape)
        model = keras.Model(inputs, L.Softmax()(net(inputs)))
        stir(model, r)
        entry = keep(model, "transposed_" + net.__name__, r.normal(0.3, 1, (4, *shape)).astype(np.float32))
        x, y = r.normal(0.3, 1, (44, *shape)).astype(np.float32), r.integers(0, 3, 44).astype(np.int32)
        why = train(model, entry, x, y, "sparse_categorical_crossentropy", "SGD",
                    {"learning_rate": 0.02, "momentum": 0.9})
        assert why is None, (net.__name__, why)


def sequence_nets():
    """A text classifier as in Kim 2014, a causal net as in van den Oord et al. 2016, two towers with a cosine."""
    def text_cnn(ids):
        x = L.SpatialDropout1D(0.0)(L.Embedding(17, 6)(ids))
        parts = [L.GlobalMaxPooling1D()(L.BatchNormalization(momentum=0.9)(L.Conv1D(4, k, padding="same")(x))) for k in (2, 3)]
        return L.Dense(3)(L.Concatenate()(parts + [L.GlobalAveragePooling1D()(x)]))

    def wave_net(inputs):
        x = L.Conv1D(6, 2, padding="causal")(inputs)
        for d in (1, 2):
            y = L.BatchNormalization(momentum=0.9)(L.Conv1D(6, 2, padding="causal", dilation_rate=d, use_bias=False)(x))
            x = L.Add()([x, L.Multiply()([L.Activation("tanh")(y), L.Activation("sigmoid")(y)])])
        x = L.MaxPooling1D(2)(L.PReLU(shared_axes=[1])(x))
        x = L.SeparableConv1D(5, 3, padding="same")(L.UpSampling1D(2)(x))
        return L.Dense(3)(L.Flatten()(L.Cropping1D((1, 2))(L.ELU(0.5)(x))))

    def towers(inputs):
        a, b = L.Dense(6, activation="tanh")(inputs), L.Dense(6)(inputs)
        cosine = L.Dot(-1, normalize=True)([a, b])
        x = L.Concatenate()([cosine, L.Subtract()([a, b]), L.Maximum()([a, b]), L.Average()([a, b])])
        return L.Dense(3)(L.BatchNormalization(momentum=0.9)(L.GaussianNoise(0.0)(x)))

    for i, (net, shape, ids) in enumerate(((text_cnn, (9,), 17), (wave_net, (8, 2), 0), (towers, (5,), 0))):
        keras.utils.clear_session()
        keras.utils.set_random_seed(5000 + i)
        r = rng("sequences", i)
        inputs = keras.Input(shape, dtype="int32" if ids else None)
        model = keras.Model(inputs, L.Softmax()(net(inputs)))
        stir(model, r)
        draw = lambda n: r.integers(0, ids, (n, *shape)).astype(np.int32) if ids else r.normal(0.3, 1, (n, *shape)).astype(np.float32)
        entry = keep(model, net.__name__, draw(4), check=not ids)
        x, y = draw(44), r.integers(0, 3, 44).astype(np.int32)
        if not ids:
            why = train(model, entry, x, y, "sparse_categorical_crossentropy", "SGD", {"learning_rate": 0.02, "momentum": 0.9})
            assert why is None, (net.__name__, why)


def make():
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    keras.config.disable_traceback_filtering()
    random_models()
    named_nets()
    edge_models()
    norm_models()
    residual_net()
    transposed_nets()
    sequence_nets()
    dump = lambda v: json.dumps(v, separators=(",", ":"), ensure_ascii=False)
    with open(os.path.join(FOLDER, "nets.json"), "w") as f:
        f.write('{"versions":' + dump(versions()) + ',\n"nets":[\n' + ",\n".join(map(dump, nets)) + "\n]}\n")
    sizes = [os.path.getsize(os.path.join(FOLDER, n)) for n in os.listdir(FOLDER)]
    print(f"nets: {len(nets)} nets, {sum(sizes):,} bytes, the largest {max(sizes):,}")
