#!/usr/bin/env bash
# Builds one preset beside the release and runs its fast tests, or only those whose names match:
#   tools/test_preset.sh asan [--only REGEX]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
only=.
[[ ${2:-} == --only ]] && only=$3
jobs=${JOBS:-$(nproc)}

tools/setup.sh
[[ $preset == neon ]] && tools/setup_neon.sh
cmake --preset "$preset" >/dev/null
if [[ $only == . ]]; then
  cmake --build --preset "$preset" -j"$jobs"
  ctest --preset "$preset" -L fast -j"$jobs"
else
  # A test program's name is its test's name, or within it; what nobody runs is not built.
  mapfile -t tests < <(ctest --preset "$preset" -L fast -N -R "$only" |
    sed -n 's/^ *Test *#[0-9]*: //p' | sed 's/^isa_[a-z0-9]*_\(.*\)_fast$/\1_test/' | sort -u)
  cmake --build --preset "$preset" -j"$jobs" --target "${tests[@]}"
  ctest --preset "$preset" -L fast -j"$jobs" -R "$only"
fi
