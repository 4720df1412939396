#!/usr/bin/env python3
"""Holds the pages to the tree: quoted code is the example's, links lead somewhere, tests are where links say, every room is on the
README's map."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
QUOTED = re.compile(r"<!-- the code of (\S+) -->\n```cpp\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
TEST = re.compile(r"\[`(\w+)\.([\w*]+)[^`]*`\]\(([^)#\s]+_test\.cc)\)")


def problems(page):
    text = (ROOT / page).read_text()
    for path, code in QUOTED.findall(text):
        source = ROOT / path
        if not source.exists():
            yield f"{page}: quotes {path}, which does not exist"
            continue
        lines = source.read_text().splitlines(keepends=True)
        while lines and lines[0].startswith("//"):
            del lines[0]
        if "".join(lines) != code:
            yield f"{page}: its code is not that of {path}"
    for target in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if "://" not in target and not (ROOT / page).parent.joinpath(target).exists():
            yield f"{page}: links to {target}, which does not exist"
    for suite, name, target in TEST.findall(text):
        file = (ROOT / page).parent.joinpath(target)
        test = rf"TEST(_[FP])?\(\s*{suite},\s*" + (r"\w" if name == "*" else rf"{name}\)")
        if file.exists() and not re.search(test, file.read_text()):
            yield f"{page}: {target} has no test {suite}.{name}"


def main():
    pages = [p.relative_to(ROOT) for p in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("tests/**/*.md")])]
    found = [problem for page in pages for problem in problems(page)]
    readme = (ROOT / "README.md").read_text()
    rooms = {p.relative_to(ROOT) for p in (ROOT / "evenflow").iterdir() if p.is_dir()}
    found += [f"README.md: {room} is not on its map" for room in sorted(rooms) if f"| `{room}" not in readme]
    found += [f"README.md: {room} is on its map and does not exist" for room in re.findall(r"^\| `([a-z/]+)`", readme, re.MULTILINE)
              if not (ROOT / room).is_dir()]
    print(*found, f"check_pages: {len(pages)} pages, {len(found)} problems", sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
