#!/usr/bin/env python3
"""Reads every text of the tree for paths of one machine, hosts of package registries, and inflated words."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# In pieces, so that this file does not find itself.
PATHS = re.compile(r"(?<![\w.~>$)}/-])/(?:" + "|".join(["home", "root", "Users", "work", "mnt"]) + r")/[\w.]")
HOSTS = re.compile("|".join(
    re.escape(".".join(host)) for host in
    [("pypi", "org"), ("pythonhosted", "org"), ("deb", "debian", "org"), ("npmjs", "org"), ("npmjs", "com"),
     ("crates", "io"), ("golang", "org"), ("anaconda", "org"), ("rubygems", "org")]))
# An inflated word and its plain one.
PLAIN = {
    "utili[sz]e": "use", "utili[sz]ation": "use", "leverag(?:e|es|ing)": "use", "facilitate": "help",
    "in order to": "to", "seamless(?:ly)?": "(nothing)", "blazing(?:ly)?": "(a number)",
    "cutting[- ]edge": "(nothing)", "state[- ]of[- ]the[- ]art": "(a number)", "functionality": "what it does",
    "plethora": "many", "delve": "look", "showcase": "show", "commence": "begin",
}
WORDS = {re.compile(rf"\b{word}\b", re.IGNORECASE): plain for word, plain in PLAIN.items()}
TEXT = {".cc", ".h", ".md", ".py", ".sh", ".txt", ".cmake", ".json", ".in", ".yml", ".html", ""}
# Licence texts are quoted, and this file's list is the list.
EXCEPT = {"LICENSE", "tools/check_words.py"}


def main():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                            capture_output=True)
    names = listed.stdout.splitlines()
    if listed.returncode:  # no git here: a source archive
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file() and "build" not in p.parts]
    found, count = [], 0
    for name in sorted(names):
        path = ROOT / name
        if name in EXCEPT or path.suffix not in TEXT or not path.is_file():
            continue
        count += 1
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if len(line) > 2000:  # data
                continue
            for pattern, what in ((PATHS, "path of one machine"), (HOSTS, "host of a package registry")):
                if match := pattern.search(line):
                    found.append(f"{name}:{number}: {what}: {match[0]}")
            for pattern, plain in WORDS.items():
                if match := pattern.search(line):
                    found.append(f"{name}:{number}: \"{match[0]}\": plainer: {plain}")
    print(*found, f"check_words: {count} files, {len(found)} problems", sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
