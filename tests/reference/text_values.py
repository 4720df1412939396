"""texts.json: what Keras prints: summaries, the progress bar, the words of callbacks. Clocks are scripted."""
import contextlib
import io
import json
import os
import tempfile

import keras
import numpy as np
from keras import layers as L
from keras.src.utils import progbar

from values import HERE, rng, versions

NETS = os.path.join(HERE, "nets")


def printed(f):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        f()
    return out.getvalue()


def summaries():
    names = ["mlp", "cnn", "edge_nested", "edge_frozen_batch_norm", "edge_compiled", "edge_any_size", "random_00",
             "random_02", "random_28", "edge_shared_layer", "edge_two_inputs_two_outputs"]
    for name in names:
        keras.utils.clear_session()
        model = keras.saving.load_model(os.path.join(NETS, name + ".keras"), compile=False)
        # Wide, so that nothing is cut where layers are joined.
        chain = name not in ("random_02", "random_28", "edge_shared_layer", "edge_two_inputs_two_outputs")
        os.environ["COLUMNS"] = "80" if chain else "600"
        lines = []
        model.summary(line_length=None if chain else 200, print_fn=lambda s: lines.append(s))
        yield {"model": name + ".keras", "exact": chain, "text": "".join(lines)}
    os.environ["COLUMNS"] = "80"
    keras.utils.clear_session()
    lines = []
    keras.Sequential([L.Dense(3)]).summary(print_fn=lambda s: lines.append(s))
    yield {"model": None, "exact": True, "text": "".join(lines)}


def progress():
    """Each case is a script: [what, seconds, number, logs]."""
    cases = []

    def case(verbose, epochs, steps, script):
        clock = [0.0]
        progbar.time.time, kept = lambda: clock[0], progbar.time.time
        try:
            def run():
                logger = keras.callbacks.ProgbarLogger()
                logger.set_params({"verbose": verbose, "epochs": epochs, "steps": steps})
                logger.on_train_begin()
                for what, at, n, logs in script:
                    clock[0] = 1000.0 + at  # the first update is long after time 0
                    getattr(logger, "on_" + what)(*([n] if logs is None else [n, logs]))
            cases.append({"verbose": verbose, "epochs": epochs, "steps": steps, "script": script,
                          "text": printed(run)})
        finally:
            progbar.time.time = kept

    def epoch(e, steps, per_step, first, r, val=False, scale=1.0):
        script, at = [["epoch_begin", 0.0, e, None]], first
        logs = {}
        for i in range(steps):
            logs = {"accuracy": float(r.uniform(0, 1)), "loss": float(r.uniform(0, 3)) * scale}
            script.append(["train_batch_end", round(at, 6), i, logs])
            at += per_step
        if val:
            logs = logs | {"val_accuracy": float(r.uniform(0, 1)), "val_loss": float(r.uniform(0, 3))}
        return script + [["epoch_end", round(at, 6), e, logs]]

    r = rng("progress")
    for verbose in (1, 2):
        case(verbose, 3, 45, epoch(0, 45, 0.0031, 0.4, r, True) + epoch(1, 45, 0.02, 0.02, r, True))
        case(verbose, 1, 3, epoch(0, 3, 1.7, 2.0, r))
        case(verbose, 2, 1, epoch(0, 1, 0.3, 0.3, r))
        case(verbose, 1, 120, epoch(0, 120, 4.6, 9.0, r))          # minutes
        case(verbose, 1, 1000, epoch(0, 40, 11.0, 3.0, r)[:-1])     # hours
        case(verbose, 1, 12, epoch(0, 12, 0.00004, 0.00004, r, scale=1e-4))  # microseconds, small numbers
        case(verbose, 1, 4, [["epoch_begin", 0.0, 0, None]] + [
            ["train_batch_end", 0.1 * (i + 1), i, {"loss": v}] for i, v in enumerate([0.0, 0.001, 0.0010001, -0.5])]
             + [["epoch_end", 0.55, 0, {"loss": 123456.789, "val_loss": 0.0}]])
        case(verbose, 2, None, epoch(0, 9, 0.06, 0.4, r, True) + epoch(1, 9, 0.06, 0.06, r, True))  # of unknown length
    return cases


def callbacks():
    def model_of():
        keras.utils.clear_session()
        m = keras.Sequential([keras.Input((1,)), L.Dense(1, use_bias=False)])
        m.compile("sgd", "mse", metrics=["accuracy", "mae"])
        m.fit(np.ones((1, 1)), np.ones((1, 1)), verbose=0)
        return m

    cases = []

    def case(kind, config, values, name="val_loss"):
        m = model_of()
        stopped = None
        with tempfile.TemporaryDirectory() as folder:
            def run():
                nonlocal stopped
                if kind == "EarlyStopping":
                    c = keras.callbacks.EarlyStopping(**config)
                else:
                    c = keras.callbacks.ModelCheckpoint(**config | {"filepath": os.path.join(folder, config["filepath"])})
                c.set_model(m)
                c.on_train_begin()
                for e, v in enumerate(values):
                    m.set_weights([np.full((1, 1), e + 1.0)])
                    c.on_epoch_begin(e)
                    c.on_epoch_end(e, {"loss": 1.0} if v is None else {"loss": 1.0, name: v})
                    if m.stop_training:
                        stopped = e
                        break
                c.on_train_end()
            text = printed(run).replace(folder + "/", "FOLDER/")
            files = sorted(os.listdir(folder))
        cases.append({"callback": kind, "config": config, "monitor": name, "values": values, "text": text,
                      "stopped": stopped, "weight": float(m.get_weights()[0][0, 0]), "files": files})

    E, C = "EarlyStopping", "ModelCheckpoint"
    case(E, {"patience": 2, "verbose": 1}, [1, .8, .9, .85, .7])
    case(E, {"patience": 0, "verbose": 1}, [1, .8, .8, .5])
    case(E, {"patience": 2, "verbose": 1, "restore_best_weights": True}, [1, .8, .9, .85, .7])
    case(E, {"patience": 3, "verbose": 1, "restore_best_weights": True}, [1, .8, .9])
    case(E, {"patience": 2, "min_delta": .15, "verbose": 1}, [1, .9, .8, .7, .5])
    case(E, {"patience": 1, "baseline": .5, "verbose": 1, "restore_best_weights": True}, [1, .9, .8, .4])
    case(E, {"patience": 2, "baseline": .85, "verbose": 1}, [1, .9, .8, .81, .82, .83])
    case(E, {"patience": 1, "start_from_epoch": 2, "verbose": 1}, [1, 2, 3, 4, 5])
    case(E, {"monitor": "val_accuracy", "patience": 1, "verbose": 1}, [.5, .6, .6, .5, .9], "val_accuracy")
    case(E, {"monitor": "val_mae", "mode": "max", "patience": 1, "verbose": 1}, [.5, .6, .6, .5], "val_mae")
    case(E, {"patience": 1, "verbose": 1}, [1, None, .9, None, .95, .96])
    case(C, {"filepath": "m.keras", "verbose": 1}, [1, .9])
    case(C, {"filepath": "best.keras", "save_best_only": True, "verbose": 1}, [1, 1.5, .43])
    case(C, {"filepath": "best.keras", "save_best_only": True, "verbose": 1, "initial_value_threshold": .5}, [1, .49999, .5])
    case(C, {"filepath": "{epoch:02d}-{val_loss:.2f}.keras", "verbose": 1}, [1, .456])
    case(C, {"filepath": "{epoch}.keras", "save_best_only": True, "monitor": "val_accuracy"}, [.5, .4, .6], "val_accuracy")
    return cases


def make():
    dump = lambda v: json.dumps(v, separators=(",", ":"), ensure_ascii=False)
    parts = {"summaries": list(summaries()), "progress": progress(), "callbacks": callbacks()}
    with open(os.path.join(HERE, "texts.json"), "w") as f:
        f.write('{"versions":' + dump(versions()))
        for name, cases in parts.items():
            f.write(f',\n"{name}":[\n' + ",\n".join(map(dump, cases)) + "\n]")
        f.write("}\n")
    print("texts:", {k: len(v) for k, v in parts.items()})
