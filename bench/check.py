#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the instructions that this tree runs with those that are recorded; fails on a loss above 10 %.

    make bench-check                     all cases, a few minutes
    python3 bench/check.py --record      records what is found, after a change that is meant

Callgrind counts what one thread runs, in AVX2 (EVENFLOW_ISA: valgrind knows no AVX-512), within the measured
work alone where `evenflow bench` repeats it. Time is not compared: counts repeat, on a busy machine too.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RECORDED = os.path.join(ROOT, "bench/recorded.json")
LIMIT = 1.10
BN = ["bn", "--shape", "2,28,28,64", "--pass"]
NETS = os.path.join(ROOT, "tests/reference/nets")
PREDICT = "prediction of a .keras file from the start of the process"
WHOLE = {"inference of an MLP from the start of the process, batch 1", PREDICT}
# name: arguments of `evenflow bench`, or of `evenflow predict`.
CASES = {
    "ResNet-20 step, batch 4, f32": ["train", "--model", "resnet20", "--batch", "4"],
    "MLP with BN step, batch 60, f32": ["train", "--model", "mlp", "--batch", "60"],
    "ResNet-20 inference, batch 4, f32": ["infer", "--model", "resnet20", "--batch", "4"],
    "ResNet-20 inference, batch 1, f32": ["infer", "--model", "resnet20", "--batch", "1"],
    "MLP inference, batch 128, f32": ["infer", "--model", "mlp", "--batch", "128"],
    "BN forward": [*BN, "forward"],
    "BN backward": [*BN, "backward"],
    "BN inference": [*BN, "inference"],
    "BN+add+ReLU forward and backward": [*BN, "both", "--relu", "--add"],
    "BN+ReLU forward and backward of rows": ["bn", "--shape", "128,256", "--pass", "both", "--relu"],
    "BN+ReLU forward and backward, bf16": [*BN, "both", "--relu", "--dtype", "bf16"],
    "an epoch of shuffled batches": ["data", "--batch", "32"],
    "additions asked for at once": ["eager"],
    "inference of an MLP from the start of the process, batch 1": ["infer", "--model", "mlp", "--batch", "1"],
    PREDICT: [os.path.join(NETS, "cnn.keras"), "--input", os.path.join(NETS, "cnn_x.npy")],
}


class Broken(Exception):
    """What keeps the comparison from being made; its text is for the user."""


def compiler(build):
    """The compiler of that build folder, as CMake knows it."""
    for folder in sorted(os.listdir(os.path.join(build, "CMakeFiles")), reverse=True):
        path = os.path.join(build, "CMakeFiles", folder, "CMakeCXXCompiler.cmake")
        if os.path.exists(path):
            with open(path) as f:
                text = f.read()
            return " ".join(re.search(rf'CMAKE_CXX_COMPILER_{key} "([^"]*)"', text)[1] for key in ("ID", "VERSION"))
    raise Broken(f"{build} has no CMakeCXXCompiler.cmake, expected a configured build")


def count(command, name, folder):
    """Instructions of a case."""
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + os.path.join(folder, "out")]
    if name not in WHOLE:
        tool.append("--toggle-collect=*measured_work*")
    words = (["predict", *CASES[name], "--output", os.path.join(folder, "y.npy")] if name == PREDICT else
             ["bench", *CASES[name], "--seconds", "1e-9"])  # as few runs as there may be
    env = os.environ | {"EVENFLOW_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "EVENFLOW_ISA": "avx2"}
    done = subprocess.run([*tool, command, *words], capture_output=True, text=True, env=env)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found or not int(found[1]):
        raise Broken(f"{' '.join([command, *words])} under callgrind gave no count:\n{done.stderr[-1500:]}")
    return int(found[1])


def read_recorded(path):
    """What --record has written; Broken says what is wrong with it."""
    again = "expected what `bench/check.py --record` writes"
    try:
        with open(path) as f:
            recorded = json.load(f)
    except (OSError, ValueError) as e:
        raise Broken(f"{path} cannot be read ({e}), {again}") from e
    if not isinstance(recorded, dict) or not isinstance(recorded.get("compiler"), str):
        raise Broken(f"{path} names no compiler, {again}")
    counts = recorded.get("instructions")
    if not isinstance(counts, dict) or not counts:
        raise Broken(f"{path} has no instructions, {again}")
    for name, value in counts.items():
        if type(value) is not int or value <= 0:
            raise Broken(f"{path}: case \"{name}\" has {value!r} instructions, {again}")
    return recorded


def compare(found, recorded, limit=LIMIT):
    """Two maps from case to count: a line of text for each case that fails."""
    failures = []
    for name in recorded | found:
        if name not in found:
            failures.append(f"{name}: recorded, and not measured any more")
        elif name not in recorded:
            failures.append(f"{name}: measured, and not recorded; `bench/check.py --record` records it")
        elif found[name] > recorded[name] * limit:
            failures.append(f"{name}: found {found[name]} instructions, recorded {recorded[name]}, "
                            f"limit {int(recorded[name] * limit)} ({found[name] / recorded[name] - 1:+.1%})")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="record what is found")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), help="the build folder")
    parser.add_argument("--recorded", default=RECORDED, help="the record")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    if options.only and options.record:
        parser.error("--record takes all cases, --only some of them")
    if not shutil.which("valgrind"):
        raise Broken("there is no valgrind, whose callgrind counts; on Debian: apt-get install valgrind")
    mine = compiler(options.build)
    if not options.record:
        recorded = read_recorded(options.recorded)
        if recorded["compiler"] != mine:
            raise Broken(f"this build is by {mine}, the record by {recorded['compiler']}: counts of two compilers "
                         "are not compared; --record records this one's")
    found = {}
    names = [name for name in CASES if options.only.lower() in name.lower()]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = count(os.path.join(options.build, "evenflow"), name, folder)
        beside = "" if options.record or name not in recorded["instructions"] else \
            f" ({found[name] / recorded['instructions'][name] - 1:+.1%})"
        print(f"{name}: {found[name]}{beside}", flush=True)
    if options.record:
        with open(options.recorded, "w") as f:
            json.dump({"compiler": mine, "instructions": found}, f, indent=1)
            f.write("\n")
        return
    wanted = {k: v for k, v in recorded["instructions"].items() if options.only.lower() in k.lower()}
    failures = compare(found, wanted)
    for line in failures:
        print(f"bench-check: {line}", file=sys.stderr)
    if failures:
        raise SystemExit(1)
    print("bench-check: no case lost more than 10 %")


if __name__ == "__main__":
    try:
        main()
    except (Broken, OSError) as e:
        raise SystemExit(f"bench-check: {e}")
