#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What lesser instruction sets cost, and what the build without oneDNN costs, by turns in one run; prints the
tables of docs/design/portable-speed.md.

    make bench-portable      builds the preset `own` too, then five minutes
"""
import argparse
import json
import os
import statistics
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OURS, OWN = os.path.join(ROOT, "build/evenflow"), os.path.join(ROOT, "build/own/evenflow")
SETS = ["avx512", "avx2", "sse4", "neon"]
STEP, INFER = ["train", "--model", "resnet20", "--batch"], ["infer", "--model", "resnet20", "--batch"]
MLP = ("MLP with batch norm, step, batch 60", ["train", "--model", "mlp", "--batch", "60"])
OF_SETS = [("ResNet-20 step, batch 32, f32", [*STEP, "32"]), ("ResNet-20 inference, batch 32", [*INFER, "32"]), MLP]
OF_BUILDS = [("ResNet-20 step, batch 128, f32", [*STEP, "128"]),
             ("the same in bf16", [*STEP, "128", "--dtype", "bf16"]), MLP,
             ("ResNet-20 inference, batch 128", [*INFER, "128"]), ("ResNet-20 inference, batch 1", [*INFER, "1"])]


def bench(program, arguments, **environment):
    done = subprocess.run([program, "bench", *arguments, "--seconds", "1", "--json"], capture_output=True, text=True,
                          env=os.environ | environment)
    return json.loads(done.stdout) if not done.returncode else None


def table(works, columns, rounds, threads):
    """{work: {column: (median, best)}}; a column is a program and the instruction set that it may use."""
    for title, arguments in works:
        runs = {name: [] for name in columns}
        for _ in range(rounds):
            for name, (program, isa) in columns.items():
                more = {"EVENFLOW_ISA": isa} if isa else {}
                if found := bench(program, arguments, EVENFLOW_NUM_THREADS=str(threads), **more):
                    runs[name].append((found["median_ms"], found["best_ms"]))
        yield title, {name: (statistics.median(m for m, _ in r), min(b for _, b in r))
                      for name, r in runs.items() if r}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    here = [s for s in SETS if bench(OURS, ["bn", "--shape", "4,4"], EVENFLOW_ISA=s)]
    print(f"Best times of one thread; sets in turn, of {here[0]}'s\n")
    print("| work | " + " | ".join(here) + " |\n|---" + "|---" * len(here) + "|")
    for title, found in table(OF_SETS, {s: (OURS, s) for s in here}, options.rounds, 1):
        first = found[here[0]][1]
        print(f"| {title} | {first:.3g} ms | " + " | ".join(f"{found[s][1] / first:.2f}" for s in here[1:]) + " |",
              flush=True)
    for command in (["cmake", "--preset", "own"], ["cmake", "--build", "build/own", "--target", "evenflow_cli"]):
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    print("\nThe build without oneDNN over the build with it, two threads\n\n| work | median | best |\n|---|---|---|")
    for title, found in table(OF_BUILDS, {"with": (OURS, ""), "without": (OWN, "")}, options.rounds, 2):
        print(f"| {title} | " + " | ".join(f"{found['without'][i] / found['with'][i]:.2f}" for i in (0, 1)) + " |",
              flush=True)


if __name__ == "__main__":
    main()
