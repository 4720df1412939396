"""batch_norm_layer.json: the layer as Keras, tf-keras (renorm, ghosts, adjustment) and PyTorch have it, over several steps."""
import keras
import numpy as np
import tensorflow as tf
import tf_keras
import torch

from values import numpy, rng, tensor, write


def normal(r, *shape, scale=1.0, mean=0.5):
    return (mean + scale * r.standard_normal(shape)).astype(np.float32)


def begin(layer, r):
    """gamma and beta that are not 1 and 0, and what all weights begin with."""
    start = {}
    for w in layer.weights:
        name = w.name.split("/")[-1].split(":")[0]
        if name == "gamma":
            w.assign(r.uniform(0.5, 1.5, w.shape).astype(np.float32))
        elif name == "beta":
            w.assign(normal(r, *w.shape))
        start[name] = tensor(numpy(w.numpy()).reshape(-1))
    return start


def moving(layer):
    names = {w.name.split("/")[-1].split(":")[0]: w for w in layer.weights}
    return {n: tensor(numpy(w.numpy()).reshape(-1)) for n, w in names.items() if n not in ("gamma", "beta")}


def of_keras(index, shape, config=None, mask=None, steps=4, note=None, nan=False):
    """mask: the shape of one, drawn; "none": nothing counts. nan: what is masked holds NaN."""
    r = rng("layer", "keras", index)
    config = dict(config or {})
    layer = keras.layers.BatchNormalization(**config)
    layer.build(shape)
    entry = {"from": "keras", "config": config, "initial": begin(layer, r), "steps": []}
    for step in range(steps):
        x = normal(r, *shape, scale=1 + 0.3 * step, mean=0.5 + 0.2 * step)
        call, got = {}, {}
        if mask:
            keep = np.zeros(shape[:-1], bool) if mask == "none" else r.random(mask) < 0.6
            if mask != "none":
                keep.reshape(-1)[0] = True
            if nan:
                x[~np.broadcast_to(keep, shape[:-1])] = np.nan
            call["mask"], got["mask"] = tf.constant(keep), tensor(keep)
        x = tf.constant(x)
        trained = list(layer.trainable_weights)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True, **call)
        dy = normal(r, *shape)
        grads = tape.gradient(y, [x] + [w.value for w in trained], output_gradients=tf.constant(dy))
        got |= {"x": tensor(x), "y": tensor(y), **moving(layer)}
        if not nan:
            got |= {"dy": tensor(dy), "dx": tensor(grads[0])}
            got |= {"d" + w.name: tensor(g) for w, g in zip(trained, grads[1:])}
        entry["steps"].append(got)
    x = normal(r, *shape)
    entry["inference"] = {"x": tensor(x), "y": tensor(layer(x, training=False))}
    return entry | ({"note": note} if note else {})


def of_tf_keras(index, shape, config, steps=3, scale=1.0, bias=0.0, note=None):
    """Ghosts of tf-keras are strided: its x and y are put in the order in which ghosts are blocks."""
    r = rng("layer", "tf_keras", index)
    size = config.get("virtual_batch_size")
    more = {}
    if (scale, bias) != (1.0, 0.0):
        more["adjustment"] = lambda shape: (tf.fill([1] * (len(shape) - 1) + [shape[-1]], scale),
                                            tf.fill([1] * (len(shape) - 1) + [shape[-1]], bias))
    layer = tf_keras.layers.BatchNormalization(fused=False, **config, **more)
    layer.build(shape)
    entry = {"from": "tf_keras", "config": dict(config), "initial": begin(layer, r), "steps": []}
    if more:
        entry["adjustment"] = [scale, bias]

    def strided(a):
        return a if not size else a.reshape(-1, size, *shape[1:]).swapaxes(0, 1).reshape(shape)

    def blocks(a):
        return a if not size else numpy(a).reshape(size, -1, *shape[1:]).swapaxes(0, 1).reshape(shape)

    for step in range(steps):
        x, dy = normal(r, *shape, scale=1 + 0.3 * step, mean=0.5 + 0.2 * step), normal(r, *shape)
        at = tf.constant(strided(x))
        trained = list(layer.trainable_weights)
        with tf.GradientTape() as tape:
            tape.watch(at)
            y = layer(at, training=True)
        grads = tape.gradient(y, [at] + trained, output_gradients=tf.constant(strided(dy)))
        got = {"x": tensor(x), "y": tensor(blocks(y)), **moving(layer), "dy": tensor(dy), "dx": tensor(blocks(grads[0]))}
        got |= {"d" + w.name.split("/")[-1].split(":")[0]: tensor(numpy(g).reshape(-1)) for w, g in zip(trained, grads[1:])}
        entry["steps"].append(got)
    x = normal(r, *shape)
    entry["inference"] = {"x": tensor(x), "y": tensor(layer(x, training=False))}
    return entry | ({"note": note} if note else {})


def of_torch(index, shape, momentum, steps=4, note=None):
    r = rng("layer", "torch", index)
    kind = {2: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)]
    layer = kind(shape[1], momentum=momentum)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(r.uniform(0.5, 1.5, shape[1]).astype(np.float32)))
        layer.bias.copy_(torch.tensor(normal(r, shape[1])))
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    state = lambda *which: {n: tensor(getattr(layer, names[n]).detach().clone()) for n in which}
    config = {"axis": 1, "epsilon": layer.eps, **({} if momentum is None else {"momentum": 1 - momentum})}
    entry = {"from": "torch", "config": config, "cumulative": momentum is None,
             "initial": state(*names), "steps": []}
    for step in range(steps):
        x = torch.tensor(normal(r, *shape, scale=1 + 0.3 * step, mean=0.5 + 0.2 * step), requires_grad=True)
        dy = normal(r, *shape)
        layer.zero_grad()
        y = layer(x)
        y.backward(torch.tensor(dy))
        entry["steps"].append({"x": tensor(x), "y": tensor(y), **state("moving_mean", "moving_variance"),
                               "dy": tensor(dy), "dx": tensor(x.grad), "dgamma": tensor(layer.weight.grad),
                               "dbeta": tensor(layer.bias.grad)})
    layer.eval()
    x = normal(r, *shape)
    entry["inference"] = {"x": tensor(x), "y": tensor(layer(torch.tensor(x)))}
    return entry | ({"note": note} if note else {})


def constraints():
    made = [("MaxNorm", {}), ("MaxNorm", {"max_value": 0.5, "axis": [0, 1, 2]}), ("MaxNorm", {"axis": 1}), ("NonNeg", {}),
            ("UnitNorm", {}), ("UnitNorm", {"axis": -1}), ("MinMaxNorm", {}),
            ("MinMaxNorm", {"min_value": 0.5, "max_value": 1.5, "rate": 0.3, "axis": 1})]
    cases = []
    for i, (name, config) in enumerate(made):
        r = rng("constraint", i)
        shape = (3, 3, 2, 4) if isinstance(config.get("axis"), list) else (5, 4)
        w = normal(r, *shape, mean=0)
        c = getattr(keras.constraints, name)(**config)
        cases.append({"constraint": name, "from": "keras", "config": config,
                      "serialized": keras.constraints.serialize(c), "w": tensor(w), "value": tensor(c(w))})
    # A step of the optimizer, and then what holds the weight.
    for i, name in enumerate(("SGD", "Adam")):
        r = rng("constrained", i)
        v = keras.Variable(normal(r, 5, 4, mean=0), name="kernel")
        v.constraint = keras.constraints.MaxNorm(1)
        entry = {"optimizer": name, "from": "keras", "start": tensor(v.value), "steps": []}
        opt = getattr(keras.optimizers, name)(learning_rate=0.1)
        for _ in range(3):
            g = normal(r, 5, 4)
            opt.apply([g], [v])
            entry["steps"].append({"gradient": tensor(g), "value": tensor(v.value)})
        cases.append(entry)
    return cases


def make():
    clip, two, four, sequence = {"rmax": 3.0, "rmin": 0.3, "dmax": 5.0}, (8, 3), (4, 3, 2, 3), (4, 6, 3)
    tight = {"rmax": 1.1, "rmin": 0.9, "dmax": 0.1}
    keras_cases = [
        of_keras(0, sequence, {"momentum": 0.9}, mask=sequence[:-1], nan=True, note="NaN where the mask is 0"),
        of_keras(1, (1, 2, 3, 4), mask=(1, 2, 1), note="a mask that is broadcast"),
        of_keras(2, (4, 5), {"momentum": 0.9}, mask=(4,)),
        of_keras(3, four, {"momentum": 0.9}, mask=four[:-1]),
        of_keras(4, two, {"renorm": True, "momentum": 0.9, "renorm_momentum": 0.8}),
        of_keras(5, two, {"renorm": True, "renorm_clipping": clip}),
        of_keras(6, four, {"renorm": True, "renorm_clipping": tight, "axis": 1, "momentum": 0.5, "renorm_momentum": 0.5}),
        of_keras(7, sequence, {"renorm": True, "momentum": 0.9, "center": False, "renorm_clipping": {"dmax": 1.0}},
                 mask=sequence[:-1], note="renorm of what is masked"),
        of_keras(8, two, {"renorm": True, "scale": False, "moving_variance_initializer": keras.initializers.Constant(4.0)}),
        of_keras(9, (4, 5), {"momentum": 0.9}, mask="none", steps=1,
                 note="nothing counts: Keras's averages decay; ours stay"),
        of_keras(10, (6, 1), {"momentum": 0.9}, note="one channel"),
        of_keras(11, (1, 3), {"momentum": 0.9, "renorm": True}, note="n = 1")]
    for c in keras_cases:
        if "moving_variance_initializer" in c["config"]:
            c["config"]["moving_variance_initializer"] = keras.initializers.serialize(c["config"]["moving_variance_initializer"])
    cases = keras_cases + [
        of_tf_keras(0, two, {"renorm": True, "momentum": 0.9, "renorm_momentum": 0.8}),
        of_tf_keras(1, two, {"renorm": True, "renorm_clipping": tight, "momentum": 0.9}),
        of_tf_keras(2, (8, 3), {"virtual_batch_size": 4, "momentum": 0.9}),
        of_tf_keras(3, (6, 2, 3, 4), {"virtual_batch_size": 2, "momentum": 0.5}),
        of_tf_keras(4, two, {"momentum": 0.9}, scale=1.25, bias=-0.5, note="adjustment"),
        of_tf_keras(5, two, {"momentum": 0.9, "renorm": True, "renorm_momentum": 0.7}, scale=0.75, bias=0.25,
                    note="adjustment after renorm"),
        of_torch(0, (8, 3), 0.1), of_torch(1, (4, 3, 5, 2), 0.1), of_torch(2, (8, 3), None),
        of_torch(3, (4, 3, 5, 2), None)]
    write("batch_norm_layer.json", {"tf_keras": tf_keras.__version__, "cases": cases, "constraints": constraints()})
