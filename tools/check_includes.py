#!/usr/bin/env python3
"""Holds the includes to the arrows of the house: a room sees only the rooms below it, a library only its keeper."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# room: the rooms that it may include, itself apart
BELOW = {
    "core": "",
    "format": "core",
    "backends": "core",
    "graph": "core",
    "ops": "core graph backends",
    "data": "core graph ops format",
    "model": "core graph ops format",
    "train": "core graph ops format data model",
    "doctor": "core graph backends ops format data model train",
    "lab": "core graph ops format data model train doctor",
    "serve": "core graph ops format",
}
RUNTIME = set("core format graph ops backends".split())

# header: the only files that may include it
KEEPERS = {
    r"omp\.h": r"evenflow/backends/cpu/",
    r"(oneapi/dnnl/)?dnnl\w*\.hp*": r"_onednn(_test|\.cpu)?\.(cc|h)$",
    r"hdf5\w*\.h": r"evenflow/format/hdf5_writer\.cc$|_test\.cc$",
    r"zip\.h": r"evenflow/format/",
    r"zlib\.h": r"evenflow/format/",
    r"(jpeglib|jerror|png)\.h": r"evenflow/format/image\.cc$",
    r"sqlite3\.h": r"evenflow/format/sqlite\.cc$",
    r"CLI/.*": r"cli/",
    r"gtest/.*|gmock/.*": r"_test\.cc$|_test\w*\.h$|tests/|testing\.h$",
}

INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]')


def allowed_rooms(path):
    """The rooms that a file may include; None if all."""
    parts = path.parts
    if parts[0] != "evenflow" or len(parts) < 3:
        return None
    room = parts[1]
    # A test may use all of the library that it is linked with.
    if path.name.endswith("_test.cc"):
        return RUNTIME if room in RUNTIME else None
    if room not in BELOW:
        sys.exit(f"check_includes: {path}: the room {room} has no line in BELOW")
    return {room, *BELOW[room].split()}


def problems(path):
    rooms = allowed_rooms(path)
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        header = match[1]
        where = f"{path}:{number}: includes {header}"
        if header.startswith("evenflow/"):
            target = header.split("/")
            if rooms is not None and len(target) == 2:
                yield f"{where}, which is for users; include the header that is meant"
            elif rooms is not None and target[1] not in rooms:
                yield f"{where}, but {path.parts[1]} sees only {', '.join(sorted(rooms))}"
            if not (ROOT / header).exists():
                yield f"{where}, which does not exist"
        for pattern, keeper in KEEPERS.items():
            if re.fullmatch(pattern, header) and not re.search(keeper, path.as_posix()):
                yield f"{where}, which is kept to files like {keeper}"


def main():
    files = [p.relative_to(ROOT) for top in ("evenflow", "cli", "tests", "examples", "bench")
             for p in sorted((ROOT / top).rglob("*")) if p.suffix in (".cc", ".h")]
    found = [problem for path in files for problem in problems(path)]
    print(*found, f"check_includes: {len(files)} files, {len(found)} problems", sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
