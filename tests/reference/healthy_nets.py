"""healthy/: four nets that Keras trained on the first 1000 digits of data/digits.bin. The doctor should find nothing wrong with them.

    build/reference/bin/python tests/reference/healthy_nets.py

Each file's metadata.json has the version of Keras. Nets differ a little where TensorFlow's sums do.
"""
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
import keras
import numpy as np
from keras import layers as L

HERE = os.path.dirname(os.path.abspath(__file__))


def digits():
    data = np.fromfile(os.path.join(HERE, "..", "..", "data", "digits.bin"), np.uint8)
    return data[:1797 * 64].reshape(1797, 8, 8, 1).astype("float32") / 16, data[1797 * 64:].astype("int64")


def stack(x, *layers):
    for layer in layers:
        x = layer(x)
    return x


def conv_net(x):
    return stack(x, L.Conv2D(8, 3), L.BatchNormalization(), L.ReLU(), L.Conv2D(16, 3), L.BatchNormalization(), L.ReLU(), L.Flatten(),
                 L.Dropout(0.3))


def dense_net(x):  # some pixels are always 0
    return stack(x, L.Flatten(), L.BatchNormalization(), L.Dense(24), L.BatchNormalization(), L.Activation("relu"), L.Dense(24),
                 L.BatchNormalization(), L.Activation("relu"))


def residual_net(x):
    def conv():
        return L.Conv2D(8, 3, padding="same", use_bias=False)

    x = stack(x, conv(), L.BatchNormalization(), L.ReLU())
    for _ in range(3):
        y = stack(x, conv(), L.BatchNormalization(), L.ReLU(), conv(), L.BatchNormalization(gamma_initializer="zeros"))
        x = L.ReLU()(L.Add()([x, y]))
    return L.GlobalAveragePooling2D()(x)


def mobile_net(x):  # the first 1x1 convolution makes small numbers: epsilon is larger than some variances
    for filters in (12, 16, 24):
        x = stack(x, L.Conv2D(filters, 1, use_bias=False), L.BatchNormalization(), L.ReLU(6.0),
                  L.DepthwiseConv2D(3, padding="same", use_bias=False), L.BatchNormalization(), L.ReLU(6.0))
    return L.GlobalAveragePooling2D()(x)


def main():
    x, y = digits()
    for net in (conv_net, dense_net, residual_net, mobile_net):
        keras.utils.set_random_seed(1)
        start = L.Input((8, 8, 1))
        model = keras.Model(start, L.Dense(10, activation="softmax")(net(start)), name=net.__name__)
        model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(x[:1000], y[:1000], epochs=30, batch_size=32, verbose=0)
        print(net.__name__, model.evaluate(x[1000:], y[1000:], verbose=0))
        inference = keras.Model(model.inputs, model.outputs, name=net.__name__)  # without the optimizer
        inference.save(os.path.join(HERE, "healthy", net.__name__ + ".keras"))


if __name__ == "__main__":
    main()
