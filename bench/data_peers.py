#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Data pipelines by turns: `evenflow bench data --pipeline` and tf.data over the same files.

    python bench/data_peers.py [--evenflow build/evenflow] [--rounds 5] [--only jpeg] [--markdown docs/benchmarks-data.md]

The files are made once, in build/bench-data. Sums of all values are compared first; where an order is random the
sum is the same. Of each work: rows a second of a pass, and the time from making the pipeline to its first batch.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "build", "bench-data")
BARS = {"jpeg": 1.3, "tfrecord": 3.0, "csv": 20.0, "memory": 5.0, "numbers": 50.0}
FIRST_BAR = 10.0
TITLES = {"jpeg": "1,000 JPEG 300×400, decoded, resized to 224×224 (bilinear), batch 32",
          "tfrecord": "TFRecord of Examples with 64 floats and a label, batch 256",
          "csv": "CSV of 21 numeric columns, batch 256",
          "memory": "200,000×64 floats in memory, shuffled whole, batch 256",
          "numbers": "range, map, filter, map, batch 256 of single numbers"}


def make_files():
    done = os.path.join(FOLDER, "done")
    if os.path.exists(done):
        return
    os.makedirs(os.path.join(FOLDER, "jpeg"), exist_ok=True)
    r = np.random.default_rng(1)
    for i in range(1000):
        # Smooth, with some grain: as large as a photograph's file.
        small = tf.image.resize(r.uniform(0, 255, (12, 16, 3)), (300, 400), "bicubic").numpy()
        image = np.clip(small + r.normal(0, 8, small.shape), 0, 255).astype(np.uint8)
        tf.io.write_file(os.path.join(FOLDER, "jpeg", "%04d.jpg" % i), tf.io.encode_jpeg(image, quality=90))
    x, y = r.normal(size=(100_000, 64)).astype(np.float32), r.integers(0, 10, 100_000)
    with tf.io.TFRecordWriter(os.path.join(FOLDER, "examples.tfrecord")) as w:
        for a, b in zip(x, y):
            w.write(tf.train.Example(features=tf.train.Features(feature={
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=a)),
                "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[b]))})).SerializeToString())
    table = np.round(r.normal(size=(50_000, 21)), 4)
    np.savetxt(os.path.join(FOLDER, "table.csv"), table, "%.4f", ",", header=",".join("c%d" % k for k in range(21)),
               comments="")
    np.save(os.path.join(FOLDER, "memory.npy"), r.normal(size=(200_000, 64)).astype(np.float32))
    open(done, "w").close()


AUTO = tf.data.AUTOTUNE


def picture(path):
    return tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), (224, 224))


def example(records):
    f = tf.io.parse_example(records, {"x": tf.io.FixedLenFeature([64], tf.float32),
                                      "y": tf.io.FixedLenFeature([], tf.int64)})
    return f["x"], f["y"]


def triple(i):
    return i * 3


def is_even(i):
    return i % 2 == 0


def next_one(i):
    return i + 1


MEMORY = None


def pipeline(work):
    """The faster of the ways that tf.data's guide to performance gives."""
    file = lambda name: os.path.join(FOLDER, name)
    if work == "jpeg":
        paths = sorted(os.path.join(FOLDER, "jpeg", f) for f in os.listdir(os.path.join(FOLDER, "jpeg")))
        d = tf.data.Dataset.from_tensor_slices(paths).map(picture, AUTO).batch(32)
    elif work == "tfrecord":
        d = tf.data.TFRecordDataset(file("examples.tfrecord")).batch(256).map(example, AUTO)
    elif work == "csv":
        d = tf.data.experimental.make_csv_dataset(file("table.csv"), 256, label_name="c20", num_epochs=1, shuffle=False)
        return d
    elif work == "memory":
        d = tf.data.Dataset.from_tensor_slices(MEMORY).shuffle(200_000).batch(256)
    else:
        d = tf.data.Dataset.range(1_000_000).map(triple, AUTO).filter(is_even).map(next_one, AUTO).batch(256)
    return d.prefetch(AUTO)


def leaves(batch):
    return tf.nest.flatten(batch)


def theirs(work, with_sum):
    start = time.perf_counter()
    rows, first, total = 0, None, 0.0
    for batch in pipeline(work):
        parts = leaves(batch)
        if first is None:
            first = time.perf_counter() - start
        rows += int(parts[0].shape[0])
        if with_sum:
            total += sum(float(np.asarray(p, np.float64).sum()) for p in parts)
    return rows / (time.perf_counter() - start), first * 1e3, total


def ours(evenflow, work, passes):
    out = subprocess.run([evenflow, "bench", "data", "--pipeline", work, "--folder", FOLDER, "--passes", str(passes),
                          "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def seconds_of(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--evenflow", default=os.path.join(ROOT, "build", "evenflow"))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--only", choices=list(BARS))
    p.add_argument("--markdown")
    p.add_argument("--first", choices=list(BARS), help="tf.data's first batch, and nothing else")
    o = p.parse_args()
    make_files()
    global MEMORY
    MEMORY = np.load(os.path.join(FOLDER, "memory.npy"))
    if o.first:
        next(iter(pipeline(o.first)))
        os._exit(0)  # leaves out how long the end takes
    lines = []
    for work in [o.only] if o.only else BARS:
        a, b = ours(o.evenflow, work, 1)["sum"], theirs(work, True)[2]
        scale = max(abs(b), 1.0) if work != "csv" else 1e3
        assert abs(a - b) <= 2e-4 * scale, f"{work}: our sum is {a}, theirs {b}"
        rates, firsts, their_rates, their_firsts = [], [], [], []
        for _ in range(o.rounds):
            us = ours(o.evenflow, work, 3)
            rates.append(us["rows_per_second"]), firsts.append(us["first_batch_cold_ms"])
            rate, first, _ = theirs(work, False)
            their_rates.append(rate), their_firsts.append(first)
        med = statistics.median
        ratio, best = med(rates) / med(their_rates), max(rates) / max(their_rates)
        processes = [(seconds_of([o.evenflow, "bench", "data", "--pipeline", work, "--folder", FOLDER, "--passes", "0"]),
                      seconds_of([sys.executable, __file__, "--first", work])) for _ in range(min(o.rounds, 3))]
        start, their_start = (med(t) for t in zip(*processes))
        first = their_start / start
        verdict = lambda v, bar: "met" if v >= bar else "missed"
        lines.append(f"| {TITLES[work]} | {med(rates):,.0f} | {med(their_rates):,.0f} | {ratio:.2f} ({best:.2f}) | "
                     f"{BARS[work]:g} {verdict(min(ratio, best), BARS[work])} | {med(firsts):.2f} | "
                     f"{med(their_firsts):.2f} | {start:.2f} | {their_start:.1f} | {first:.0f} | {verdict(first, FIRST_BAR)} |")
        print(lines[-1], flush=True)
    if o.markdown:
        with open(o.markdown, "w") as f:
            f.write("# Data pipelines beside tf.data\n\n"
                    f"Made by `make bench-data`: TensorFlow {tf.__version__}, {os.cpu_count()} cores, "
                    f"{platform.machine()}, {o.rounds} rounds by turns, the same files, sums of all values compared first. "
                    "Rows a second: medians; ratios of medians and, in brackets, of bests. The first batch, from making the "
                    "pipeline on: in the first pass of a process for us, in every pass for tf.data. Start: from the start "
                    "of a process to its first batch, TensorFlow's import included.\n\n"
                    "| work | Evenflow rows/s | tf.data rows/s | ratio | bar | first batch ms | tf.data's | start s | "
                    "tf.data's | sooner by | bar 10 |\n|---|---|---|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n")


main()
