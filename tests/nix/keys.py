"""Whether a configuration uses every key the program reads: keys.py PROGRAM CONFIG.json. The program is asked itself: a
key nobody has makes it name those there are, in each table."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NOBODY = "nobody"
program, file = sys.argv[1:]
config = json.loads(Path(file).read_text(encoding="utf-8"))


def expected():
    """What the program says a table may hold; nothing where people choose the names."""
    with tempfile.TemporaryDirectory() as place:
        asked = Path(place, "config.json")
        asked.write_text(json.dumps(config), encoding="utf-8")
        command = [program, "units", "--static", "--config", str(asked), "--output", place]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    known = re.search(f"unknown field `{NOBODY}`, expected (.*) at line", said)
    if not known and "invalid type" not in said:
        sys.exit(f"the program does not say which keys there are: {said}")
    return set(re.findall("`([^`]+)`", known[1])) if known else None


def tables(value, place=()):
    if isinstance(value, list):
        for item in value:
            yield from tables(item, place)
    if not isinstance(value, dict):
        return
    value[NOBODY] = 0
    keys = expected()
    del value[NOBODY]
    if keys is not None:
        yield place, keys, set(value)
    for key, item in value.items():
        yield from tables(item, place + (key if keys else "NAME",))


known, used = {}, {}
for table, there, written in tables(config):
    known.setdefault(table, set()).update(there)
    used.setdefault(table, set()).update(written)
missing = [".".join((*table, key)) for table, keys in known.items() for key in sorted(keys - used[table])]
if missing:
    sys.exit(f"the module writes none of: {', '.join(missing)}")
print(f"{sum(map(len, known.values()))} keys in {len(known)} tables")
