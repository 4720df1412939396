#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Evenflow and its peers by turns, in one run on one machine; writes docs/benchmarks.md.

    tools/bench_peers.sh                          all rows, half an hour
    tools/bench_peers.sh --only train --rounds 1 --no-page

Each round runs every side of a row in a process of its own, one after the other: what disturbs the machine
disturbs all. A row's figure is the median of the rounds' medians, and the best of all runs. Answers are
compared first: the losses of the first steps from the same weights, or the output for the first sample.
"""
import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OURS, PEERS = os.path.join(ROOT, "build/evenflow"), os.path.join(ROOT, "bench/peers.py")
TRAIN, INFER = ["train", "--model"], ["infer", "--model", "resnet20", "--batch"]
BN_SHAPES = ["32,56,56,64", "32,28,28,128", "32,14,14,256", "8,112,112,64", "128,1024", "4096,256"]
# title, arguments of both, peers, bar, what DESIGN.md has from another machine (best of the peers, ms)
ROWS = [
    ("ResNet-20 step, batch 128, f32", TRAIN + ["resnet20", "--batch", "128"], ["torch", "inductor", "tf", "jax"], 0.42, 198),
    ("ResNet-20 step, batch 128, bf16", TRAIN + ["resnet20", "--batch", "128", "--dtype", "bf16"], ["torch"], 0.45, 92),
    ("MLP with BN step, batch 60, f32", TRAIN + ["mlp", "--batch", "60"], ["torch", "inductor", "tf", "jax"], 0.30, 0.83),
    ("ResNet-20 inference, batch 128, f32", INFER + ["128"], ["torch", "tf", "onnxruntime", "openvino"], 0.65, 31.5),
    ("ResNet-20 inference, batch 1, f32", INFER + ["1"], ["torch", "tf", "onnxruntime", "openvino"], 0.90, 0.34),
    ("ResNet-20 inference, batch 128, bf16", INFER + ["128", "--dtype", "bf16"], ["openvino"], 1.0, 7.1),
]
NAMES = {"torch": "PyTorch", "inductor": "torch.compile", "tf": "TensorFlow", "jax": "JAX",
         "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
BN_ROWS = [("BN+ReLU forward and backward", ["--pass", "both", "--relu"], 0.50),
           ("BN forward", ["--pass", "forward"], 1.0),
           ("BN inference", ["--pass", "inference"], 1.05)]


def run(command, threads):
    env = os.environ | {"EVENFLOW_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"compare: {' '.join(command)} failed\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def agree(ours, theirs, dtype):
    """The largest difference of the answers; of losses only the first three, for trainings part ways."""
    key = "losses" if "losses" in ours else "output"
    if key not in ours:
        return None
    pairs = list(zip(ours[key], theirs[key]))[:3 if key == "losses" else None]
    worst = max(abs(a - b) / max(1, abs(b)) for a, b in pairs)
    if not worst <= (0.06 if dtype == "bf16" else 2e-3):
        raise SystemExit(f"compare: the answers differ by {worst}: {pairs}")
    return worst


def measure(options, arguments, peers):
    """{side: [result of each round]}, and the worst difference of answers."""
    dtype = "bf16" if "bf16" in arguments else "f32"
    worst = None
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "w.npz")
        theirs = lambda peer, *more: [sys.executable, PEERS, *arguments, "--peer", peer, "--threads",
                                      str(options.threads), *more]
        ours = [OURS, "bench", *arguments, "--json"]
        if arguments[0] != "bn":
            mine = run([*ours, "--seconds", "0.1", "--save-weights", weights], options.threads)
            for peer in peers:
                other = run(theirs(peer, "--seconds", "0.1", "--weights", weights), options.threads)
                worst = max(worst or 0, agree(mine, other, dtype))
        sides = {"evenflow": []} | {p: [] for p in peers}
        for _ in range(options.rounds):
            sides["evenflow"].append(run([*ours, "--seconds", str(options.seconds)], options.threads))
            for peer in peers:
                sides[peer].append(run(theirs(peer, "--seconds", str(options.seconds)), options.threads))
    return sides, worst


def summary(results):
    return {"median": statistics.median(r["median_ms"] for r in results),
            "best": min(r["best_ms"] for r in results),
            "peak_mb": statistics.median(r["peak_mb"] for r in results),
            "version": results[0].get("version", "")}


def ratio(sides, key):
    return sides["evenflow"][key] / min(s[key] for name, s in sides.items() if name != "evenflow")


def ms(v):
    return f"{v:.3g}" if v < 100 else f"{v:.0f}"


def cell(s):
    return f"{ms(s['median'])} / {ms(s['best'])}"


def verdict(value, bar):
    return f"{value:.2f}" + ("" if value <= bar else " (missed)")


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "")
    has = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx512_fp16") if f" {f}" in flags]
    return f"{model}, {os.cpu_count()} cores, {', '.join(has)}; {platform.system()} {platform.release()}"


def page(record):
    versions = {}
    lines = ["# Benchmarks", "",
             "Written by `make bench-peers` (bench/compare.py): Evenflow and its peers by turns in one run, "
             f"{record['threads']} threads each, {record['rounds']} rounds. Milliseconds, median / best. A ratio is "
             "Evenflow's time over the best peer's; the bar is the least that is wanted of it. Only ratios carry over "
             "from machine to machine.", "",
             f"Machine: {record['machine']}.", ""]
    for row in record["rows"]:
        for name, s in row["sides"].items():
            if s["version"]:
                versions[NAMES[name]] = s["version"]
    lines += ["Peers: " + ", ".join(f"{k} {v}" for k, v in sorted(versions.items())) + ".", "",
              "## Nets", "",
              "| work | Evenflow | " + " | ".join(NAMES.values()) +
              " | ratio of medians | of bests | bar | best peer in DESIGN.md |",
              "|---|---|" + "---|" * len(NAMES) + "---|---|---|---|"]
    for row in (r for r in record["rows"] if "reference" in r):
        s = row["sides"]
        lines.append(f"| {row['title']} | {cell(s['evenflow'])} | " +
                     " | ".join(cell(s[n]) if n in s else "" for n in NAMES) +
                     f" | {verdict(row['median'], row['bar'])} | {verdict(row['best'], row['bar'])} | "
                     f"{row['bar']} | {row['reference']} |")
    lines += ["", "Peak memory of the process (MB): " + "; ".join(
        f"{row['title']} {row['sides']['evenflow']['peak_mb']:.0f} (peers " +
        ", ".join(f"{s['peak_mb']:.0f}" for n, s in row["sides"].items() if n != "evenflow") + ")"
        for row in record["rows"] if "step" in row["title"]) + ".", "",
        "Largest difference of answers: " + "; ".join(
            f"{row['title']} {row['worst']:.1e}" for row in record["rows"] if row.get("worst") is not None) + ".", ""]
    lines += ["## Batch normalisation against PyTorch, f32, channels last", "",
              "`share` is that of the machine's streaming limit: the time of a copy of as many bytes as must be read "
              "and written once, measured in turn with it, over ours.", "",
              "| shape | " + " | ".join(f"{t} | ratio | share" for t, _, _ in BN_ROWS) + " |",
              "|---|" + "---|---|---|" * len(BN_ROWS)]
    for shape in BN_SHAPES:
        cells = []
        for title, _, _ in BN_ROWS:
            row = next((r for r in record["rows"] if r["title"] == title and r.get("shape") == shape), None)
            if row:
                s = row["sides"]
                cells += [f"{cell(s['evenflow'])} ({cell(s['torch'])})", f"{row['median']:.2f} / {row['best']:.2f}",
                          f"{row['share']:.2f}"]
            else:
                cells += ["", "", ""]
        lines.append(f"| {shape.replace(',', '×')} | " + " | ".join(cells) + " |")
    means = []
    for title, _, bar in BN_ROWS:
        rows = [r for r in record["rows"] if r["title"] == title]
        if rows:
            mean = lambda key: math.exp(statistics.fmean(math.log(r[key]) for r in rows))
            means.append(f"{title} {verdict(mean('median'), bar)} / {verdict(mean('best'), bar)}, bar {bar}")
    lines += ["", "Geometric means of the ratios (medians / bests): " + "; ".join(means) + ".", ""]
    if "single" in record:
        lines += ["## Alone", "", "| work | Evenflow |", "|---|---|"]
        for title, text in record["single"]:
            lines.append(f"| {title} | {text} |")
        lines.append("")
    lines += ["The limits of this work, worked out: [benchmarks-limits.md](benchmarks-limits.md). How cost grows with "
              "batch, channels, depth and threads: [benchmarks-growth.md](benchmarks-growth.md).", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each side in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="rows whose title or arguments hold this")
    parser.add_argument("--no-page", action="store_true", help="write no page")
    parser.add_argument("--record", default=os.path.join(ROOT, "build/bench-peers.json"))
    options = parser.parse_args()
    wanted = lambda title, arguments: options.only.lower() in (title + " " + " ".join(arguments)).lower()
    record = {"machine": machine(), "threads": options.threads, "rounds": options.rounds, "rows": []}

    def add(row, arguments, peers):
        sides, worst = measure(options, arguments, peers)
        row["share"] = statistics.median(r.get("share_of_copy", 0) for r in sides["evenflow"])
        row["sides"] = sides = {name: summary(r) for name, r in sides.items()}
        row |= {"median": ratio(sides, "median"), "best": ratio(sides, "best"), "worst": worst}
        record["rows"].append(row)
        print(f"{row['title']} {row.get('shape', '')}: " + ", ".join(f"{n} {cell(s)}" for n, s in sides.items()) +
              f" ms; ratio {row['median']:.2f} / {row['best']:.2f}, bar {row['bar']}", flush=True)

    for title, arguments, peers, bar, reference in ROWS:
        if wanted(title, arguments):
            add({"title": title, "bar": bar, "reference": reference}, arguments, peers)
    for title, arguments, bar in BN_ROWS:
        for shape in BN_SHAPES:
            arguments_here = ["bn", "--shape", shape, *arguments]
            if wanted(title, arguments_here):
                add({"title": title, "bar": bar, "shape": shape}, arguments_here, ["torch"])
    if not options.only:
        eager = run([OURS, "bench", "eager", "--json"], options.threads)
        startup = run([OURS, "bench", "startup", "--json"], options.threads)
        record["single"] = [
            ("addition of four floats, asked for at once (bar 10 µs)",
             f"{eager['add_us']:.2f} / {eager['best_add_us']:.2f} µs"),
            ("a million unasked additions grow the process by", f"{eager['million_adds_grew_bytes']} bytes"),
            ("`evenflow predict` of a small model, whole process (bar 50 ms)",
             f"{ms(startup['median_ms'])} / {ms(startup['best_ms'])} ms")]
    with open(options.record, "w") as f:
        json.dump(record, f, indent=1)
    if not options.no_page and not options.only:
        with open(os.path.join(ROOT, "docs/benchmarks.md"), "w") as f:
            f.write(page(record))


if __name__ == "__main__":
    main()
