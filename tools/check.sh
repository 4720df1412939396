#!/usr/bin/env bash
# What a reviewer need not look at: layout, the direction of includes, words, generated pages.
set -uo pipefail
cd "$(dirname "$0")/.."
status=0
tools/check_includes.py || status=1
tools/check_words.py || status=1
tools/check_pages.py || status=1
build/bin/manual_test --gtest_brief=1 >build/manual.txt || { cat build/manual.txt; status=1; }
if ! command -v clang-format >/dev/null; then
  echo "check_format: skipped, clang-format is not installed"
elif tools/sources.sh | xargs -r clang-format --dry-run --Werror 2>build/format.txt; then
  echo "check_format: all as clang-format lays it out"
else
  sed -n 's/^\([^ :]*\):.*Wclang-format.*/\1/p' build/format.txt | uniq -c
  echo "check_format: run \`make format\`"
  status=1
fi
exit $status
