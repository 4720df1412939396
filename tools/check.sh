#!/usr/bin/env bash
# What a reviewer need not look at: layout and the direction of includes.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
tools/sources.sh | xargs -r clang-format --dry-run --Werror || status=1
exit $status
