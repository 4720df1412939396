#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same work as `evenflow bench`, done by others; the options and the JSON are the same.

    python bench/peers.py train --peer torch --model resnet20 --batch 128 --dtype f32 --weights w.npz

w.npz is what `evenflow bench train --save-weights w.npz` writes. With it, and with the same batch (drawn
here as there), the first losses are to be equal but for rounding. Only the peer that is asked for is imported:
torch, tensorflow with keras, jax, onnxruntime (with torch, onnx, onnxscript) or openvino (with torch).
"""
import argparse
import importlib
import json
import os
import re
import tempfile
import time

import numpy as np


def philox(key, stream, count):
    """Philox4x32-10 (Salmon et al. 2011) at the counters 0 to count - 1: [count, 4] words."""
    n = np.arange(count, dtype=np.uint64)
    low, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    c = [n & mask, n >> low, np.full_like(n, stream & 0xFFFFFFFF), np.full_like(n, stream >> 32)]
    k = [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> low) ^ c[1] ^ np.uint64(k[0]), b & mask, (a >> low) ^ c[3] ^ np.uint64(k[1]), a & mask]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, 1)


def normal_data(shape, seed):
    """The numbers that Evenflow's RandomNormal draws with mean 0 and deviation 1."""
    words = philox(seed, 0x696E6974, int(np.prod(shape)))
    uniform = lambda i: ((words[:, i] << np.uint64(32) | words[:, i + 1]) >> np.uint64(11)) * 2.0**-53
    x = np.sqrt(-2 * np.log(1 - uniform(0))) * np.cos(2 * np.pi * uniform(2))
    return x.astype(np.float32).reshape(shape)


def batch_of(options):
    shape = (784,) if options.model == "mlp" else (32, 32, 3)
    n = options.batch or (60 if options.model == "mlp" and options.bench == "train" else 128)
    return normal_data((n, *shape), 7), np.arange(n) % 10


def blocks_of(options):
    """Of each of a ResNet's three stages."""
    return (int(options.model.removeprefix("resnet")) - 2) // 6


def arrays(path):
    with np.load(path) as z:
        return [z[str(i)] for i in range(len(z.files))]


def softmax(logits):
    """Of the first sample, so that answers can be compared."""
    e = np.exp(logits[0] - logits[0].max())
    return (e / e.sum()).tolist()


def timed(work, seconds, least=10):
    for _ in range(2):
        work()
    ms, start = [], time.perf_counter()
    while len(ms) < least or time.perf_counter() - start < seconds:
        t = time.perf_counter()
        work()
        ms.append((time.perf_counter() - t) * 1e3)
    ms.sort()
    with open("/proc/self/status") as f:
        peak = next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))
    return {"median_ms": ms[len(ms) // 2], "best_ms": ms[0], "runs": len(ms), "peak_mb": peak}


class Torch:
    """Channels-last memory throughout. Strided convolutions pad as Keras does (one row more at the end
    than at the start), by a step of its own only when losses are compared: with --weights. As "inductor"
    it is compiled by torch.compile, which needs g++."""

    def __init__(self, options):
        import torch
        self.torch, self.options = torch, options
        self.version = torch.__version__
        torch.set_num_threads(options.threads)
        torch.manual_seed(1)

    def net(self):
        torch, nn, options = self.torch, self.torch.nn, self.options
        exact = bool(options.weights)
        parts = []

        class ConvBN(nn.Module):
            def __init__(self, c, filters, size, stride):
                super().__init__()
                self.pad = (0, 1, 0, 1) if exact and stride == 2 and size == 3 else None
                self.conv = nn.Conv2d(c, filters, size, stride, 0 if self.pad else size // 2, bias=False)
                self.bn = nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01)
                nn.init.kaiming_normal_(self.conv.weight)
                parts.extend([self.conv, self.bn])

            def forward(self, x):
                return self.bn(self.conv(nn.functional.pad(x, self.pad) if self.pad else x))

        class Block(nn.Module):
            def __init__(self, c, filters, stride):
                super().__init__()
                self.one, self.two = ConvBN(c, filters, 3, stride), ConvBN(filters, filters, 3, 1)
                self.skip = ConvBN(c, filters, 1, stride) if stride > 1 else nn.Identity()

            def forward(self, x):
                y = self.two(nn.functional.relu(self.one(x), inplace=True))
                return nn.functional.relu(y + self.skip(x), inplace=True)

        if options.model == "mlp":
            layers, c = [], 784
            for _ in range(3):
                layers += [nn.Linear(c, 100), nn.BatchNorm1d(100, eps=1e-3, momentum=0.01), nn.Sigmoid()]
                c = 100
            net = nn.Sequential(*layers, nn.Linear(c, 10))
            parts = [m for m in net if not isinstance(m, nn.Sigmoid)]
        else:
            c = 16 * options.width
            layers = [ConvBN(3, c, 3, 1), nn.ReLU(inplace=True)]
            for stage in range(3):
                for block in range(blocks_of(options)):
                    filters = (16 << stage) * options.width
                    layers.append(Block(c, filters, 2 if stage and not block else 1))
                    c = filters
            net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10))
            parts.append(net[-1])
        if options.weights:
            given = iter(arrays(options.weights))
            take = lambda: torch.tensor(next(given))
            with torch.no_grad():
                for m in parts:
                    w = take()
                    if isinstance(m, nn.Conv2d):
                        m.weight.copy_(w.permute(3, 2, 0, 1))
                    elif isinstance(m, nn.Linear):
                        m.weight.copy_(w.T)
                        m.bias.copy_(take())
                    else:
                        for target, value in zip((m.weight, m.bias, m.running_mean, m.running_var),
                                                 (w, take(), take(), take())):
                            target.copy_(value)
        net = net.to(memory_format=torch.channels_last)
        return torch.compile(net) if options.peer == "inductor" else net

    def data(self):
        x, y = (self.torch.tensor(v) for v in batch_of(self.options))
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2).contiguous(memory_format=self.torch.channels_last)
        return x, y

    def autocast(self):
        return self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.options.dtype == "bf16")

    def train(self):
        torch, net, (x, y) = self.torch, self.net(), self.data()
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0 if self.options.model == "mlp" else 0.9)
        losses = []

        def step():
            optimizer.zero_grad(set_to_none=True)
            with self.autocast():
                logits = net(x)
            loss = torch.nn.functional.cross_entropy(logits.float(), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

        return timed(step, self.options.seconds) | {"losses": losses[:10]}

    def infer(self):
        net, (x, _) = self.net().eval(), self.data()

        def work():
            with self.torch.inference_mode(), self.autocast():
                self.torch.softmax(net(x), -1)

        return timed(work, self.options.seconds) | {"output": softmax(net(x).float().detach().numpy())}

    def bn(self):
        torch, o = self.torch, self.options
        n, *rest, c = o.extents
        kind = {"f32": torch.float32, "bf16": torch.bfloat16}[o.dtype]
        form = torch.channels_last if o.layout == "nhwc" and len(rest) == 2 else torch.contiguous_format
        x, g, r = (torch.randn(n, c, *rest).to(kind).contiguous(memory_format=form) for _ in range(3))
        bn = {0: torch.nn.BatchNorm1d, 1: torch.nn.BatchNorm1d, 2: torch.nn.BatchNorm2d,
              3: torch.nn.BatchNorm3d}[len(rest)](c, eps=1e-3)
        if o.passes == "inference":
            bn.eval()
        x.requires_grad_(o.passes != "inference")
        r.requires_grad_(o.passes != "inference")

        def forward():
            y = bn(x)
            if o.add:
                y = y + r
            return torch.relu(y) if o.relu else y

        def both():
            x.grad = r.grad = None
            bn.zero_grad(set_to_none=True)
            forward().backward(g)

        if o.passes == "inference":
            def work():
                with torch.inference_mode():
                    forward()
        elif o.passes == "backward":
            y = forward()

            def work():
                x.grad = r.grad = None
                bn.zero_grad(set_to_none=True)
                y.backward(g, retain_graph=True)
        else:
            work = forward if o.passes == "forward" else both
        return timed(work, o.seconds)


class Tf:
    """Keras layers in one tf.function a step."""

    def __init__(self, options):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ["KERAS_BACKEND"] = "tensorflow"
        import keras
        import tensorflow as tf
        self.tf, self.keras, self.options = tf, keras, options
        self.version = tf.__version__
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        keras.utils.set_random_seed(1)
        if options.dtype == "bf16" and options.bench != "bn":
            keras.config.set_dtype_policy("mixed_bfloat16")

    def net(self):
        keras, L, options = self.keras, self.keras.layers, self.options
        parts = []

        def made(layer, x):
            parts.append(layer)
            return layer(x)

        def conv_bn(x, filters, size, stride):
            x = made(L.Conv2D(filters, size, stride, "same", use_bias=False,
                              kernel_initializer="he_normal"), x)
            return made(L.BatchNormalization(), x)

        if options.model == "mlp":
            x = inputs = keras.Input((784,))
            for _ in range(3):
                x = L.Activation("sigmoid")(made(L.BatchNormalization(), made(L.Dense(100), x)))
        else:
            inputs = keras.Input((32, 32, 3))
            x = L.ReLU()(conv_bn(inputs, 16 * options.width, 3, 1))
            for stage in range(3):
                for block in range(blocks_of(options)):
                    filters, stride = (16 << stage) * options.width, 2 if stage and not block else 1
                    y = conv_bn(L.ReLU()(conv_bn(x, filters, 3, stride)), filters, 3, 1)
                    x = L.ReLU()(L.Add()([y, conv_bn(x, filters, 1, stride) if stride > 1 else x]))
            x = L.GlobalAveragePooling2D()(x)
        net = keras.Model(inputs, made(L.Dense(10, dtype="float32"), x))
        if options.weights:
            given = iter(arrays(options.weights))
            for layer in parts:
                layer.set_weights([next(given) for _ in layer.weights])
        return net

    def train(self):
        tf, net = self.tf, self.net()
        x, y = (tf.constant(v) for v in batch_of(self.options))
        optimizer = self.keras.optimizers.SGD(0.1, 0.0 if self.options.model == "mlp" else 0.9)
        optimizer.build(net.trainable_variables)
        losses = []

        @tf.function(jit_compile=self.options.xla)
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, net(x, training=True)))
            variables = [v.value for v in net.trainable_variables]
            optimizer.apply(tape.gradient(loss, variables), net.trainable_variables)
            return loss

        return timed(lambda: losses.append(float(step(x, y))), self.options.seconds) | {"losses": losses[:10]}

    def infer(self):
        tf, net = self.tf, self.net()
        x = tf.constant(batch_of(self.options)[0])
        run = tf.function(lambda x: tf.nn.softmax(net(x, training=False)), jit_compile=self.options.xla)
        return timed(lambda: run(x).numpy(), self.options.seconds) | {"output": run(x).numpy()[0].tolist()}

    def bn(self):
        tf, o = self.tf, self.options
        kind = {"f32": tf.float32, "bf16": tf.bfloat16}[o.dtype]
        if len(o.extents) != 4 or o.layout != "nhwc":
            raise SystemExit("peers: TensorFlow's fused batch norm on the CPU wants four extents, channels last")
        c = o.extents[-1]
        x, g, r = (tf.cast(tf.random.normal(o.extents), kind) for _ in range(3))
        gamma, beta, mean, variance = tf.ones(c), tf.zeros(c), tf.zeros(c), tf.ones(c)
        training = o.passes != "inference"

        def forward(x, gamma, beta, r):
            y = tf.compat.v1.nn.fused_batch_norm(
                x, gamma, beta, None if training else mean, None if training else variance, 1e-3, "NHWC", training)[0]
            if o.add:
                y = y + r
            return tf.nn.relu(y) if o.relu else y

        def both(x, gamma, beta, r):
            with tf.GradientTape() as tape:
                tape.watch([x, gamma, beta, r])
                y = forward(x, gamma, beta, r)
            return y, tape.gradient(y, [x, gamma, beta] + ([r] if o.add else []), output_gradients=g)

        if o.passes == "backward":
            raise SystemExit("peers: TensorFlow's backward pass is timed together with forward: --pass both")
        run = tf.function(both if o.passes == "both" else forward, jit_compile=o.xla)
        return timed(lambda: run(x, gamma, beta, r), o.seconds)


class Jax:
    """One jitted function a step; its inputs' memory is given for its outputs."""

    def __init__(self, options):
        if options.bench != "train" or options.dtype != "f32":
            raise SystemExit("peers: JAX is timed in training steps in f32 only")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.threads])  # it has no option for this
        os.environ["JAX_PLATFORMS"] = "cpu"
        self.jax = importlib.import_module("jax")
        self.options, self.version = options, self.jax.__version__

    def logits(self, x, weight, statistic):
        """weight(shape) and statistic(shape, first, update) give the next array, in the order of the layers."""
        jax, numpy, options = self.jax, self.jax.numpy, self.options

        def bn(x):
            axes, c = tuple(range(x.ndim - 1)), (x.shape[-1],)
            gamma, beta = weight(c, 1), weight(c, 0)
            mean, variance = x.mean(axes), x.var(axes)
            statistic(c, 0, mean)
            statistic(c, 1, variance)
            return (x - mean) * jax.lax.rsqrt(variance + 1e-3) * gamma + beta

        def conv_bn(x, filters, size, stride):
            return bn(jax.lax.conv_general_dilated(
                x, weight((size, size, x.shape[-1], filters)), (stride, stride), "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC")))

        def dense(x, units):
            return x @ weight((x.shape[-1], units)) + weight((units,), 0)

        if options.model == "mlp":
            for _ in range(3):
                x = jax.nn.sigmoid(bn(dense(x, 100)))
            return dense(x, 10)
        x = numpy.maximum(conv_bn(x, 16 * options.width, 3, 1), 0)
        for stage in range(3):
            for block in range(blocks_of(options)):
                filters, stride = (16 << stage) * options.width, 2 if stage and not block else 1
                y = conv_bn(numpy.maximum(conv_bn(x, filters, 3, stride), 0), filters, 3, 1)
                x = numpy.maximum(y + (conv_bn(x, filters, 1, stride) if stride > 1 else x), 0)
        return dense(x.mean((1, 2)), 10)

    def first(self, x):
        """The weights and the statistics to start from: those that are given, or new ones."""
        random, weights, statistics = np.random.default_rng(1), [], []
        given = iter(arrays(self.options.weights)) if self.options.weights else None

        def new(shape, value=None):
            if given:
                v = next(given)
                assert v.shape == shape, (v.shape, shape)
            elif value is None:
                v = random.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)
            else:
                v = np.full(shape, value)
            return self.jax.numpy.array(v, np.float32)

        def weight(shape, value=None):
            weights.append(new(shape, value))
            return weights[-1]

        self.logits(x[:2], weight, lambda shape, value, _: statistics.append(new(shape, value)))
        return weights, statistics

    def train(self):
        jax, numpy = self.jax, self.jax.numpy
        x, y = (numpy.array(v) for v in batch_of(self.options))
        momentum = 0 if self.options.model == "mlp" else 0.9

        def loss(weights, statistics):
            w, s, moved = iter(weights), iter(statistics), []
            logits = self.logits(x, lambda *_: next(w), lambda shape, first, found:
                                 moved.append(0.99 * next(s) + 0.01 * jax.lax.stop_gradient(found)))
            return -numpy.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), moved

        def step(weights, statistics, velocities):
            (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(weights, statistics)
            velocities = [momentum * v - 0.1 * g for v, g in zip(velocities, gradients)]
            return value, [w + v for w, v in zip(weights, velocities)], statistics, velocities

        run = jax.jit(step, donate_argnums=(0, 1, 2))
        weights, statistics = self.first(x)
        state, losses = [weights, statistics, [numpy.zeros_like(w) for w in weights]], []

        def work():
            value, *state[:] = run(*state)
            jax.block_until_ready(state)
            losses.append(float(value))

        return timed(work, self.options.seconds) | {"losses": losses[:10]}


class Runtime:
    """Inference of PyTorch's net by ONNX Runtime or OpenVINO."""

    def __init__(self, options):
        if options.bench != "infer":
            raise SystemExit(f"peers: {options.peer} only infers")
        self.module = importlib.import_module(options.peer)
        self.options, self.version = options, self.module.__version__

    def infer(self):
        options, module = self.options, self.module
        donor = Torch(options)
        net, (x, _) = donor.net().eval(), donor.data()
        x = x.contiguous()
        if options.peer == "openvino":
            model = module.convert_model(net, example_input=x)
            model.reshape(list(x.shape))
            hint = {"f32": module.Type.f32, "bf16": module.Type.bf16}[options.dtype]
            run = module.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": options.threads,
                                                      "INFERENCE_PRECISION_HINT": hint})
            return timed(lambda: run(x.numpy()), options.seconds) | {"output": softmax(run(x.numpy())[0])}
        if options.dtype != "f32":
            raise SystemExit("peers: ONNX Runtime is timed in f32 only")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "net.onnx")
            donor.torch.onnx.export(net, (x,), path, input_names=["x"], external_data=False, verbose=False)
            session_options = module.SessionOptions()
            session_options.intra_op_num_threads = options.threads
            session = module.InferenceSession(path, session_options, providers=["CPUExecutionProvider"])
        return timed(lambda: session.run(None, {"x": x.numpy()}), options.seconds) | {
            "output": softmax(session.run(None, {"x": x.numpy()})[0])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", choices=["bn", "train", "infer"])
    parser.add_argument("--peer", choices=["torch", "inductor", "tf", "jax", "onnxruntime", "openvino"], default="torch")
    parser.add_argument("--model", default="resnet20", help="mlp, or resnet8, 14, 20, ...: 6n + 2 layers")
    parser.add_argument("--width", type=int, default=1, help="of a ResNet: its channels are this many times 16, 32, 64")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--weights", default="", help="weights to start from, as --save-weights writes them")
    parser.add_argument("--shape", default="32,56,56,64", help="bn: extents, channels last")
    parser.add_argument("--pass", dest="passes", choices=["forward", "backward", "both", "inference"], default="both")
    parser.add_argument("--layout", choices=["nhwc", "nchw"], default="nhwc")
    parser.add_argument("--relu", action="store_true")
    parser.add_argument("--add", action="store_true")
    parser.add_argument("--xla", action="store_true", help="tf: compile by XLA")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--json", action="store_true", help="taken for likeness; the output is JSON always")
    options = parser.parse_args()
    if options.model != "mlp" and not (re.fullmatch("resnet[0-9]+", options.model) and int(options.model[6:]) % 6 == 2
                                       and blocks_of(options) > 0):
        parser.error(f"--model is {options.model}, expected mlp or resnetD with D = 6n + 2 from 8")
    options.extents = [int(v) for v in options.shape.split(",")]
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    peer = {"torch": Torch, "inductor": Torch, "tf": Tf, "jax": Jax}.get(options.peer, Runtime)(options)
    result = getattr(peer, options.bench)()
    result |= {"bench": options.bench, "peer": options.peer, "version": peer.version, "dtype": options.dtype,
               "threads": options.threads}
    if options.bench == "bn":
        result |= {"shape": options.extents, "pass": options.passes, "layout": options.layout,
                   "relu": options.relu, "add": options.add}
    else:
        result |= {"model": options.model, "width": options.width, "batch": len(batch_of(options)[0])}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
