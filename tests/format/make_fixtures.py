#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the HDF5 and .keras files beside this script: what h5py and Keras really write.

Made with h5py 3.16.0 (HDF5 2.0.0), Keras 3.15.0 on its JAX backend, NumPy 2.4.6.
  pip install h5py==3.16.0 keras==3.15.0 jax ml_dtypes numpy scipy
  KERAS_BACKEND=jax python3 tests/format/make_fixtures.py
hdf5_reader_test.cc holds what is read from them against libhdf5's own reading. In the files whose
names start with `refused_` the dataset or group "x" is of a kind that the reader refuses by name;
"good" beside it is [1, 2, 3] in float32.
"""
import os
import pathlib
import zipfile

os.environ.setdefault("KERAS_BACKEND", "jax")
import h5py
import numpy as np

HERE = pathlib.Path(__file__).parent


def ramp(shape, dtype):
    return np.arange(1, 1 + int(np.prod(shape))).reshape(shape).astype(dtype)


def types(f):
    for order in "<>":
        for code in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4"]:
            name = ("little" if order == "<" else "big") + "/" + code
            f[name] = ramp((2, 3), order + code)
    f["scalar"] = np.float32(2.5)
    f["empty"] = np.zeros((0, 3), np.float32)
    f["bool"] = np.array([True, False, True])
    f["rank8"] = ramp((1, 2, 1, 2, 1, 2, 1, 2), np.float32)
    f.attrs["text"] = "grüße"
    f.attrs["fixed"] = np.bytes_("fixed")
    f.attrs["number"] = 3


def chunked(f):
    data = ramp((5, 7), np.float32)
    f.create_dataset("plain", data=data, chunks=(2, 3))
    f.create_dataset("deflate", data=data, chunks=(2, 3), compression="gzip")
    f.create_dataset("all", data=data, chunks=(5, 2), compression="gzip", shuffle=True, fletcher32=True)
    f.create_dataset("sum", data=data, chunks=(5, 7), fletcher32=True)
    f.create_dataset("growing", data=data, chunks=(4, 4), maxshape=(None, None))
    f.create_dataset("many", data=ramp((300,), np.int16), chunks=(2,))
    f.create_dataset("wide", data=ramp((2, 2, 3), np.float64), chunks=(1, 2, 2), compression="gzip")
    space = h5py.h5s.create_simple((2, 3))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    d = h5py.h5d.create(f.id, b"compact", h5py.h5t.IEEE_F32LE, space, plist)
    d.write(h5py.h5s.ALL, h5py.h5s.ALL, ramp((2, 3), np.float32))


def many(f):
    for i in range(120):
        f[f"layers/layer_{i}"] = np.float32(i)


def newer(f):
    f["a/b/0"] = ramp((2, 3), np.float32)
    f["a/b"].attrs["name"] = "b"
    f["half"] = ramp((3,), np.float16)
    f["bool"] = np.array([True, False])
    f.create_dataset("one_chunk", data=ramp((3, 4), np.float32), chunks=(3, 4))
    f.create_dataset("one_deflated", data=ramp((3, 4), np.float32), chunks=(3, 4), compression="gzip")


def write(name, fill, **options):
    with h5py.File(HERE / name, "w", **options) as f:
        fill(f)


def refused(name, fill, **options):
    def both(f):
        f["good"] = np.array([1, 2, 3], np.float32)
        fill(f)

    write("refused_" + name + ".h5", both, **options)


def link(f, value):
    f["x"] = value


def dense(f):
    for i in range(20):
        f[f"x/{i}"] = np.float32(i)


def unwritten(f):
    f.create_dataset("x", (1 << 20, 1 << 10), "f4")


def bomb(f):
    f.create_dataset("x", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")


def overflow(f):
    f.create_dataset("x", (1 << 40, 1 << 20), "f4")


def external(f):
    f.create_dataset("x", (4,), "f4", external=[("other.bin", 0, 16)])


def fixed_array(f):
    f.create_dataset("x", data=ramp((6,), np.float32), chunks=(2,))


def keras_model():
    import keras

    keras.utils.set_random_seed(1)
    return keras.Sequential([
        keras.layers.Input((6, 6, 1)),
        keras.layers.Conv2D(2, 3),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.5),
        keras.layers.Dense(2, dtype="bfloat16"),
        keras.layers.Dense(2, name="head"),
    ])


def main():
    write("types.h5", types)
    write("chunked.h5", chunked)
    write("many.h5", many)
    write("v110.h5", newer, libver=("v110", "v110"))
    write("latest.h5", newer, libver="latest")
    refused("soft_link", lambda f: link(f, h5py.SoftLink("/good")))
    refused("external_link", lambda f: link(f, h5py.ExternalLink("other.h5", "/")))
    refused("dense", dense, libver="v110")
    refused("complex", lambda f: link(f, np.ones(2, np.complex64)))
    refused("uint64", lambda f: link(f, np.ones(2, np.uint64)))
    refused("string", lambda f: link(f, "text"))
    refused("struct", lambda f: link(f, np.zeros(2, [("a", "f4"), ("b", "i4")])))
    refused("opaque", lambda f: link(f, np.zeros(2, "V2")))
    refused("rank9", lambda f: link(f, np.zeros((1,) * 9, np.float32)))
    refused("null", lambda f: link(f, h5py.Empty("f4")))
    refused("lzf", lambda f: f.create_dataset("x", data=np.ones(9), compression="lzf"))
    refused("external_storage", external)
    refused("unwritten", unwritten)
    refused("fixed_array", fixed_array, libver="v110")
    write("bomb.h5", bomb)
    write("overflow.h5", overflow)
    keras_model().save(HERE / "model.keras")
    with zipfile.ZipFile(HERE / "model.keras") as z:
        (HERE / "model.weights.h5").write_bytes(z.read("model.weights.h5"))


if __name__ == "__main__":
    main()
