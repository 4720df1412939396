#!/usr/bin/env bash
# Installs the peers into build/peers when bench/requirements.txt has changed, and measures by turns:
# the bars, or with --growth as the first argument how cost grows, with --data pipelines of data.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cmp -s bench/requirements.txt build/peers/requirements.txt; then
  echo "bench-peers: installing the peers into build/peers (2 GB)"
  rm -rf build/peers
  /usr/bin/python3 -m venv build/peers
  build/peers/bin/pip install --quiet --disable-pip-version-check -r bench/requirements.txt
  cp bench/requirements.txt build/peers/requirements.txt
fi
program=compare
if [[ ${1:-} == --growth ]]; then
  program=growth
  shift
elif [[ ${1:-} == --data ]]; then
  program=data_peers
  shift
fi
exec build/peers/bin/python bench/$program.py "$@"
