"""Whether a configuration uses every key the program reads: keys.py SCHEMA.json CONFIG.json. `gha-runner-controller
generate` writes the schema."""

import json
import sys
from pathlib import Path

schema, config = (json.loads(Path(file).read_text(encoding="utf-8")) for file in sys.argv[1:])
known, used = set(), set()


def walk(schema, value, place=""):
    """Notes the keys of a table, and those of tables in it; `value` is null where nothing is written."""
    table = next((one for one in schema.get("anyOf", []) if "properties" in one), schema)
    for name, key in table.get("properties", {}).items():
        known.add(place + name)
        written = (value or {}).get(name)
        used.update([place + name] if written is not None else [])
        walk(key, written, f"{place}{name}.")
    if isinstance(table.get("additionalProperties"), dict):
        for one in (value or {}).values() or [None]:
            walk(table["additionalProperties"], one, f"{place}NAME.")
    if "items" in table:
        for one in value or [None]:
            walk(table["items"], one, place)


walk(schema, config)
if known - used:
    sys.exit(f"the module writes none of: {', '.join(sorted(known - used))}")
print(f"{len(known)} keys")
