"""How reference values are written: plain JSON, one case a line, every f32 exact."""
import json
import os
import zlib

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its sums depend on the machine
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["OMP_NUM_THREADS"] = "1"

import h5py
import keras
import numpy as np
import tensorflow as tf
import torch

tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.threading.set_intra_op_parallelism_threads(1)
torch.set_num_threads(1)

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64", "uint8": "u8",
         "bool": "bool", "bfloat16": "bf16", "float16": "f16"}


def versions():
    return {"tensorflow": tf.__version__, "keras": keras.__version__,
            "torch": torch.__version__.split("+")[0], "numpy": np.__version__,
            "h5py": h5py.__version__}


def rng(*key):
    """A generator that depends on its names alone, so that a new case does not move the others."""
    return np.random.default_rng(zlib.crc32("/".join(map(str, key)).encode()))


def number(v):
    """The shortest decimal that a reader, through f64, turns into the same f32."""
    v = np.float32(v)
    if not np.isfinite(v):
        return "nan" if np.isnan(v) else ("inf" if v > 0 else "-inf")
    short = float(np.format_float_scientific(v, unique=True))
    value = short if np.float32(short) == v else float(v)
    return 0 if v == 0 else int(value) if value == int(value) and abs(value) < 1e6 else value


def numpy(x):
    if isinstance(x, torch.Tensor):
        return x.detach().numpy()
    return np.asarray(x)


def tensor(x, dtype=None):
    """{"dtype", "shape", "data"}; f64 results are rounded once, to f32."""
    x = numpy(x)
    kind = dtype or NAMES[x.dtype.name]
    if kind == "f64":
        kind = "f32"
    flat = x.reshape(-1)
    if kind in ("f32", "bf16", "f16"):
        data = [number(v) for v in flat.astype(np.float32)]
    else:
        data = [int(v) for v in flat]
    return {"dtype": kind, "shape": list(x.shape), "data": data}


def write(name, sections):
    """sections: {"cases": [...], ...}; one entry of a list is one line."""
    path = os.path.join(HERE, name)
    dump = lambda v: json.dumps(v, separators=(",", ":"), allow_nan=False)
    with open(path, "w") as f:
        f.write('{"versions":' + dump(versions()))
        for key, value in sections.items():
            f.write(f',\n"{key}":')
            if isinstance(value, list):
                f.write("[\n" + ",\n".join(dump(v) for v in value) + "\n]")
            else:
                f.write(dump(value))
        f.write("}\n")
    count = sum(len(v) for v in sections.values() if isinstance(v, list))
    print(f"{name}: {count} entries, {os.path.getsize(path):,} bytes")
