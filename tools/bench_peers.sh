#!/usr/bin/env bash
# Installs the peers into build/peers when bench/requirements.txt has changed, and measures by turns.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cmp -s bench/requirements.txt build/peers/requirements.txt; then
  echo "bench-peers: installing the peers into build/peers (2 GB)"
  rm -rf build/peers
  /usr/bin/python3 -m venv build/peers
  build/peers/bin/pip install --quiet --disable-pip-version-check -r bench/requirements.txt
  cp bench/requirements.txt build/peers/requirements.txt
fi
exec build/peers/bin/python bench/compare.py "$@"
