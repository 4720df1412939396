"""Writes digits.bin from scikit-learn's copy of the data (sklearn/datasets/data/digits.csv.gz)."""
import gzip
import sys

rows = [[int(v) for v in line.split(",")] for line in gzip.open(sys.argv[1], "rt")]
assert len(rows) == 1797 and all(len(r) == 65 and max(r[:64]) <= 16 and r[64] < 10 for r in rows)
with open(sys.argv[2], "wb") as f:
    for row in rows:
        f.write(bytes(row[:64]))
    f.write(bytes(row[64] for row in rows))
