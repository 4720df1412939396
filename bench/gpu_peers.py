#!/usr/bin/env python3
"""Evenflow and PyTorch on one CUDA device by turns: batch normalisation and training steps.

    python bench/gpu_peers.py --evenflow build/evenflow [--quick] [--json out.json]

Times are medians of runs of 20 calls each between events; Evenflow's come from `evenflow bench`, in
processes between those of PyTorch's. A share is that of the device's own copy: the time in which it
moves as many bytes as must be read and written once.
"""
import argparse
import json
import statistics
import subprocess
import sys

import torch
import torch.nn.functional as F

SHAPES = [(256, 56, 56, 64), (256, 28, 28, 256), (64, 112, 112, 64), (1048576, 128)]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# name, arguments of evenflow bench, tensors that must be read or written once
WORKS = [("forward", ["--pass", "forward"], 3), ("inference", ["--pass", "inference"], 2),
         ("backward", ["--pass", "backward"], 5),
         ("both +add +relu", ["--pass", "both", "--relu", "--add"], 11)]


def timed(f, calls=20, runs=7):
    for _ in range(3):
        f()
    times = []
    for _ in range(runs):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            f()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / calls)
    return statistics.median(times)


def tensors(shape, dtype):
    if len(shape) == 2:
        make = lambda: torch.randn(shape, device="cuda", dtype=dtype)
    else:
        n, h, w, c = shape
        make = lambda: torch.randn(n, c, h, w, device="cuda", dtype=dtype).to(
            memory_format=torch.channels_last)
    return make(), make(), make()


def torch_work(work, shape, dtype):
    """The same in PyTorch, and its compiled form."""
    x, g, r = tensors(shape, dtype)
    c = shape[-1]
    gamma, beta = (torch.randn(c, device="cuda", requires_grad=True) for _ in range(2))
    mean, var = torch.zeros(c, device="cuda"), torch.ones(c, device="cuda")
    if work == "inference":
        def f():
            with torch.no_grad():
                return F.batch_norm(x, mean, var, gamma, beta, False)
    elif work == "forward":
        def f():
            with torch.no_grad():
                return F.batch_norm(x, mean, var, gamma, beta, True, 0.01, 1e-3)
    else:
        x.requires_grad_(), r.requires_grad_()
        if work == "backward":
            y = F.batch_norm(x, mean, var, gamma, beta, True, 0.01, 1e-3)
            def f():
                return torch.autograd.grad(y, (x, gamma, beta), g, retain_graph=True)
        else:
            def forward(x, r, gamma, beta):
                return torch.relu(F.batch_norm(x, mean, var, gamma, beta, True, 0.01, 1e-3) + r)
            compiled = torch.compile(forward)
            def eager():
                torch.autograd.grad(forward(x, r, gamma, beta), (x, r, gamma, beta), g)
            def f():
                torch.autograd.grad(compiled(x, r, gamma, beta), (x, r, gamma, beta), g)
            return eager, f
    return f, None


def evenflow(command, *args):
    out = subprocess.run([command, "--device", "cuda", "bench", *args, "--json"],
                         capture_output=True, text=True)
    if out.returncode:
        return {"error": out.stderr.strip()[:300]}
    return json.loads(out.stdout)


def batch_norm(a, rows):
    for shape in SHAPES[:1] if a.quick else SHAPES:
        for name, dtype in DTYPES.items():
            for work, args, moves in WORKS:
                if a.quick and work == "inference":
                    continue
                eager, compiled = torch_work(work, shape, dtype)
                peer = [timed(eager)]
                text = ",".join(map(str, shape))
                ours = evenflow(a.evenflow, "bn", "--shape", text, "--dtype", name,
                                "--seconds", "0.2", *args)
                peer.append(timed(eager))
                row = {"work": work, "shape": text, "dtype": name, "torch_ms": min(peer)}
                if compiled and not a.no_compile:
                    row["torch_compiled_ms"] = timed(compiled)
                row |= {k: ours[k] for k in ("median_ms", "best_ms", "share_of_copy", "gb_per_s",
                                             "copy_gb_per_s", "error") if k in ours}
                best = min(row["torch_ms"], row.get("torch_compiled_ms", 1e9))
                if "median_ms" in ours:
                    row["times_as_fast"] = best / ours["median_ms"]
                rows.append(row)
                print(json.dumps(row), flush=True)
                torch.cuda.empty_cache()


class Block(torch.nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        n = torch.nn
        self.a = n.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.an = n.BatchNorm2d(c_out, 1e-3, 0.01)
        self.b = n.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn = n.BatchNorm2d(c_out, 1e-3, 0.01)
        self.s = n.Sequential(n.Conv2d(c_in, c_out, 1, stride, bias=False),
                              n.BatchNorm2d(c_out, 1e-3, 0.01)) if stride > 1 else n.Identity()

    def forward(self, x):
        return torch.relu(self.s(x) + self.bn(self.b(torch.relu(self.an(self.a(x))))))


def resnet20():
    n = torch.nn
    layers = [n.Conv2d(3, 16, 3, 1, 1, bias=False), n.BatchNorm2d(16, 1e-3, 0.01), n.ReLU()]
    c = 16
    for stage in range(3):
        for block in range(3):
            layers.append(Block(c, 16 << stage, 2 if stage and not block else 1))
            c = 16 << stage
    return n.Sequential(*layers, n.AdaptiveAvgPool2d(1), n.Flatten(), n.Linear(64, 10))


def training(a, rows):
    for name in DTYPES:
        net = resnet20().cuda().to(memory_format=torch.channels_last)
        x = torch.randn(128, 3, 32, 32, device="cuda").to(memory_format=torch.channels_last)
        y = torch.arange(128, device="cuda") % 10
        optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9)

        def step():
            with torch.autocast("cuda", torch.bfloat16, enabled=name == "bf16"):
                loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.item()

        row = {"work": "ResNet-20 step, batch 128", "dtype": name, "torch_ms": timed(step, 10)}
        ours = evenflow(a.evenflow, "train", "--model", "resnet20", "--dtype", name,
                        "--seconds", "2")
        row["torch_ms"] = min(row["torch_ms"], timed(step, 10))
        row |= {k: ours[k] for k in ("median_ms", "best_ms", "losses", "device_peak_mb", "error")
                if k in ours}
        row["torch_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
        if "median_ms" in ours:
            row["times_as_fast"] = row["torch_ms"] / ours["median_ms"]
        rows.append(row)
        print(json.dumps(row), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--evenflow", default="build/evenflow")
    p.add_argument("--quick", action="store_true", help="one shape")
    p.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    p.add_argument("--only", choices=["bn", "train"])
    p.add_argument("--json")
    a = p.parse_args()
    rows = []
    print(torch.cuda.get_device_name(), torch.__version__, file=sys.stderr)
    if a.only != "train":
        batch_norm(a, rows)
    if a.only != "bn":
        training(a, rows)
    if a.json:
        json.dump(rows, open(a.json, "w"), indent=1)


main()
