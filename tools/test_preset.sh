#!/usr/bin/env bash
# Builds one preset beside the release and runs its fast tests: tools/test_preset.sh asan [ctest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset" -j"${JOBS:-$(nproc)}"
ctest --preset "$preset" -L fast -j"${JOBS:-$(nproc)}" "$@"
