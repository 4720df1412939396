#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How cost grows: time against batch, channels, depth and threads, of Evenflow and its peers by turns; writes
docs/benchmarks-growth.md with a plot an axis.

    tools/bench_peers.sh --growth                  all axes, half an hour
    tools/bench_peers.sh --growth --only depth     this axis again, the others as they were measured

The work of a point is counted in multiply-adds of its convolutions and products. Where time grows faster than
the work from one point to the next, by more than ALLOWED, the page says so.
"""
import argparse
import dataclasses
import json
import math
import os
import statistics
import sys

import compare

ALLOWED = 1.15  # growth of time over growth of work: caches end, machines are noisy
SECONDS = 0.5


def multiply_adds(depth=20, width=1, batch=1):
    """Of a forward pass of the ResNet of `evenflow bench`; a training step has three times as many."""
    c, extent = 16 * width, 32 * 32
    total, blocks = extent * 9 * 3 * c, (depth - 2) // 6
    for stage in range(3):
        filters = (16 << stage) * width
        for block in range(blocks):
            if stage and not block:
                extent //= 4
                total += extent * c * filters
            total += extent * 9 * (c + filters) * filters
            c = filters
    return batch * (total + c * 10)


@dataclasses.dataclass
class Axis:
    name: str
    title: str
    label: str
    points: list
    arguments: object  # of the commands of both sides, from a point
    work: object       # relative, from a point
    peers: list
    threads: object = lambda point, options: options.threads


def train(depth=20, width=1, batch=128):
    return ["train", "--model", f"resnet{depth}", "--width", str(width), "--batch", str(batch)]


AXES = [
    Axis("batch", "ResNet-20 training step, f32", "batch", [1 << i for i in range(10)],
         lambda n: train(batch=n), lambda n: multiply_adds(batch=n), ["torch", "tf"]),
    Axis("batch-inference", "ResNet-20 inference, f32", "batch", [1 << i for i in range(10)],
         lambda n: ["infer", "--model", "resnet20", "--batch", str(n)], lambda n: multiply_adds(batch=n),
         ["onnxruntime", "openvino"]),
    Axis("channels", "ResNet-20 training step, batch 32, f32", "channels of the first stage", [16, 32, 64, 128],
         lambda n: train(width=n // 16, batch=32), lambda n: multiply_adds(width=n // 16), ["torch", "tf"]),
    Axis("depth", "ResNet training step, batch 32, f32", "layers", [8, 14, 20, 32, 56, 110],
         lambda n: train(depth=n, batch=32), lambda n: multiply_adds(depth=n), ["torch", "tf"]),
    Axis("threads", "ResNet-20 training step, batch 128, f32", "threads", [1, 2],
         lambda n: train(), lambda n: 1 / n, ["torch", "tf"], lambda n, options: n),
]


def growths(times, works):
    """Of each point after the first: growth of time over growth of work; 1 is linear, below it sublinear."""
    return [(b / a) / (v / u) for a, b, u, v in zip(times, times[1:], works, works[1:])]


def exponent(times, works):
    """p of the least-squares fit time ~ work^p in logarithms."""
    x, y = [math.log(w) for w in works], [math.log(t) for t in times]
    mx, my = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def surprises(points, times, works):
    """The steps from one point to the next in which time grows faster than the work by more than ALLOWED."""
    return [f"{a} to {b}: {g:.2f}" for a, b, g in zip(points, points[1:], growths(times, works)) if g > ALLOWED]


def measure(axis, options):
    """{side: [milliseconds at each point]}: the best of all runs, which others on the machine disturb least."""
    times = {}
    for point in axis.points:
        arguments, threads = axis.arguments(point), axis.threads(point, options)
        found = {"evenflow": []} | {peer: [] for peer in axis.peers}
        for _ in range(options.rounds):
            for side, runs in found.items():
                command = ([compare.OURS, "bench", *arguments, "--json"] if side == "evenflow" else
                           [sys.executable, compare.PEERS, *arguments, "--peer", side, "--threads", str(threads)])
                runs.append(compare.run([*command, "--seconds", str(SECONDS)], threads)["best_ms"])
        for side, runs in found.items():
            times.setdefault(side, []).append(min(runs))
        print(f"{axis.name} {point}: " + ", ".join(f"{s} {compare.ms(t[-1])} ms" for s, t in times.items()),
              flush=True)
    return times


def best_peer(times):
    return [min(v) for v in zip(*(t for side, t in times.items() if side != "evenflow"))]


def plot(axis, times, path):
    import matplotlib
    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    plt.rcParams |= {"svg.hashsalt": axis.name, "svg.fonttype": "none", "font.family": "sans-serif"}
    figure, panel = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    colours = {"evenflow": "#0b6e4f", "torch": "#c8553d", "tf": "#e09f3e", "onnxruntime": "#5b6c9d",
               "openvino": "#8e6c8a"}
    for side, ms in times.items():
        panel.plot(axis.points, ms, "o-", color=colours[side], markersize=4, label=compare.NAMES.get(side, "Evenflow"),
                   linewidth=2 if side == "evenflow" else 1.2)
    works = [axis.work(p) for p in axis.points]
    panel.plot(axis.points, [times["evenflow"][-1] * w / works[-1] for w in works], ":", color="#888",
               label="as the multiply-adds" if axis.name != "threads" else "as the threads")
    panel.set(xscale="log", yscale="log", xlabel=axis.label, ylabel="ms", title=axis.title)
    panel.set_xticks(axis.points, [str(p) for p in axis.points])
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def page(record):
    lines = ["# How cost grows", "",
             "Written by `make bench-peers` (bench/growth.py): Evenflow and its peers by turns in one run, "
             f"{record['threads']} threads each where the axis is not the threads, best times of {record['rounds']} rounds, "
             "milliseconds. `ratio` is Evenflow's time over the best peer's. `growth` is that of Evenflow's time over "
             "that of the multiply-adds, from the point before: 1 is linear, below it cost grows less than the work. "
             f"Above {ALLOWED} it is a surprise.", "", f"Machine: {record['machine']}.", ""]
    for axis in AXES:
        times = record["axes"].get(axis.name)
        if not times:
            continue
        works = [axis.work(p) for p in axis.points]
        ours, others = times["evenflow"], best_peer(times)
        peers = [s for s in times if s != "evenflow"]
        lines += [f"## {axis.title}: {axis.label}", "", f"![{axis.title}](benchmarks-growth-{axis.name}.svg)", "",
                  f"| {axis.label} | Evenflow | " + " | ".join(compare.NAMES[s] for s in peers) + " | ratio | growth |",
                  "|---" * (4 + len(peers)) + "|"]
        for i, (point, growth) in enumerate(zip(axis.points, ["", *(f"{g:.2f}" for g in growths(ours, works))])):
            lines.append(f"| {point} | {compare.ms(ours[i])} | " + " | ".join(compare.ms(times[s][i]) for s in peers) +
                         f" | {ours[i] / others[i]:.2f} | {growth} |")
        found = surprises(axis.points, ours, works)
        fit = "" if axis.name == "threads" else (
            f"Time grows as the multiply-adds to the power {exponent(ours, works):.2f} "
            f"(best peer {exponent(others, works):.2f}). ")
        lines += ["", fit + ("Surprises: " + "; ".join(found) + "." if found else "No surprise."), ""]
    return "\n".join(lines)


def earlier(path, record):
    """The axes of an earlier run with the same settings on the same machine."""
    if not os.path.exists(path):
        return {}
    with open(path) as f:
        found = json.load(f)
    return found["axes"] if all(found[key] == value for key, value in record.items()) else {}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="the axis of this name: " + ", ".join(a.name for a in AXES))
    parser.add_argument("--no-page", action="store_true", help="write no page and no plots (they want all axes)")
    parser.add_argument("--record", default=os.path.join(compare.ROOT, "build/bench-growth.json"))
    options = parser.parse_args()
    if options.only and options.only not in [a.name for a in AXES]:
        parser.error(f"--only is {options.only}, expected one of " + ", ".join(a.name for a in AXES))
    record = {"machine": compare.machine(), "threads": options.threads, "rounds": options.rounds}
    record |= {"axes": earlier(options.record, record) if options.only else {}}
    for axis in AXES:
        if options.only in ("", axis.name):
            record["axes"][axis.name] = times = measure(axis, options)
            found = surprises(axis.points, times["evenflow"], [axis.work(p) for p in axis.points])
            print(f"{axis.name}: " + ("surprises: " + "; ".join(found) if found else "no surprise"), flush=True)
    with open(options.record, "w") as f:
        json.dump(record, f, indent=1)
    if not options.no_page and all(axis.name in record["axes"] for axis in AXES):
        docs = os.path.join(compare.ROOT, "docs")
        for axis in AXES:
            plot(axis, record["axes"][axis.name], os.path.join(docs, f"benchmarks-growth-{axis.name}.svg"))
        with open(os.path.join(docs, "benchmarks-growth.md"), "w") as f:
            f.write(page(record))


if __name__ == "__main__":
    main()
