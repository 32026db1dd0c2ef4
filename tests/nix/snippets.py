"""Writes the nix blocks of documents as files: snippets.py DIRECTORY DOCUMENT... Prints them as one Nix attribute set:
"DOCUMENT:LINE" = FILE."""

import json
import sys
from pathlib import Path

directory, *documents = sys.argv[1:]
blocks = {}
for document in documents:
    inside = None
    for number, line in enumerate(Path(document).read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if line.rstrip() == "```nix":
            inside = f"{document}:{number}"
            blocks[inside] = ""
        elif line.rstrip() == "```":
            inside = None
        elif inside:
            blocks[inside] += line
print("{")
for count, (place, text) in enumerate(blocks.items()):
    file = Path(directory, f"{count}.nix")
    file.write_text(text, encoding="utf-8")
    print(f"{json.dumps(place)} = {file};")
print("}")
