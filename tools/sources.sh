#!/usr/bin/env bash
# Lists the C++ sources that are laid out by clang-format.
cd "$(dirname "$0")/.."
find evenflow cli tests examples bench -regex '.*\.\(cc\|h\)' 2>/dev/null | sort
