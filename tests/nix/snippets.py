"""Prints the nix blocks of documents as one Nix attribute set: "FILE:LINE" = text."""

import json
import sys

blocks = {}
for document in sys.argv[1:]:
    inside = None
    for number, line in enumerate(open(document, encoding="utf-8"), 1):
        if line.rstrip() == "```nix":
            inside = f"{document}:{number}"
            blocks[inside] = ""
        elif line.rstrip() == "```":
            inside = None
        elif inside:
            blocks[inside] += line
# JSON's strings are Nix's, but for ${.
entries = (f"{json.dumps(place)} = {json.dumps(text).replace('${', chr(92) + '${')};" for place, text in blocks.items())
print("{", *entries, "}", sep="\n")
