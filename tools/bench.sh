#!/usr/bin/env bash
# The figures of docs/benchmarks.md, measured in one run so that they can be compared: one JSON object a line, in
# build/bench.jsonl. They hold on a quiet machine only.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build/bench.jsonl
: >"$out"
bench() {
  printf '%s\n' "bench $*"
  build/evenflow bench "$@" --json | tee -a "$out"
}
for dtype in f32 bf16; do
  bench bn --shape 32,56,56,64 --dtype $dtype --pass both
  bench bn --shape 32,56,56,64 --dtype $dtype --pass both --relu
  bench bn --shape 32,56,56,64 --dtype $dtype --pass both --relu --add
  bench bn --shape 32,56,56,64 --dtype $dtype --pass inference
  bench train --model resnet20 --batch 128 --dtype $dtype
done
bench train --model mlp --batch 60 --dtype f32
bench infer --model resnet20 --batch 1
bench infer --model resnet20 --batch 128
bench eager
bench startup
echo "written to $out"
