"""Opens models that Evenflow saved with Keras, and compares what they predict.

    check_saved.py FOLDER

FOLDER has, for each model, NAME.keras, its inputs NAME.x0.npy, NAME.x1.npy, ... and what Evenflow predicted, NAME.y0.npy, ...; and a
NAME.json {"tolerance", "weights", "trainable"} with the numbers of weights that Keras should find. Each model is then saved again by Keras as
NAME.again.keras, for Evenflow to read. Prints one line a model; the exit status is 0 if all agree, 77 where Keras is not installed.
"""
import glob
import json
import os
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
try:
    import keras
    import numpy as np
except ImportError as e:
    print("Keras is not installed here:", e)
    sys.exit(77)


def read(name, kind):
    return [np.load(p) for p in sorted(glob.glob(glob.escape(name) + f".{kind}[0-9].npy"))]


def check(path):
    name = path[:-len(".json")]
    with open(path) as f:
        want = json.load(f)
    model = keras.saving.load_model(name + ".keras", compile=False)
    x, y = read(name, "x"), read(name, "y")
    got = model(x if len(x) > 1 else x[0], training=False)
    got = [np.asarray(keras.ops.cast(v, "float32")) for v in (got if isinstance(got, (list, tuple)) else [got])]
    problems = []
    if len(got) != len(y) or any(a.shape != b.shape for a, b in zip(got, y)):
        problems.append(f"shapes {[v.shape for v in got]}, expected {[v.shape for v in y]}")
    else:
        error = max(float(np.abs(a - b).max(initial=0)) for a, b in zip(got, y))
        if not error <= want["tolerance"]:
            problems.append(f"predictions differ by {error:.2e}, more than {want['tolerance']}")
    if len(model.weights) != want["weights"]:
        problems.append(f"{len(model.weights)} weights, expected {want['weights']}")
    if len(model.trainable_weights) != want["trainable"]:
        problems.append(f"{len(model.trainable_weights)} trainable weights, expected {want['trainable']}")
    model.save(name + ".again.keras")
    return problems


def main():
    paths = sorted(glob.glob(os.path.join(sys.argv[1], "*.json")))
    bad = 0
    for path in paths:
        try:
            problems = check(path)
        except Exception as e:  # what Keras says of a file that it cannot open
            problems = [f"{type(e).__name__}: {e}"]
        bad += bool(problems)
        print(os.path.basename(path)[:-5], "ok" if not problems else "; ".join(problems)[:2000])
    print(f"{len(paths)} models, {bad} differ")
    return bool(bad) or not paths


if __name__ == "__main__":
    sys.exit(main())
