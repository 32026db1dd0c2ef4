"""What the tables of docs/nixos.md say to write in place of what was there before, as JSON: `here` names of this module's
options, `there` those of NixOS' own. migration.py DOCUMENT"""

import json
import re
import sys
from pathlib import Path

text = Path(sys.argv[1]).read_text(encoding="utf-8").split("## Coming from something else", 1)[1]
OURS = {"cleanup-github-runners", "cleanup-all-containers", "gha-runner-<class>@<name>.service"}
said = {"here": [], "there": []}
own = False
for line in text.splitlines():
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if line.startswith("#"):
        own = False
    elif line.startswith("|") and cells[1] == "here":
        own = "services.github-runners" in cells[0]
    elif line.startswith("|") and not cells[1].startswith("---"):
        assert len(cells) == 2, line
        names = [[span.split(" = ")[0] for span in re.findall("`([^`]+)`", cell)] for cell in cells]
        said["there"] += [f"services.github-runners.<name>.{name}" for name in names[0]] if own else []
        said["here"] += [name for name in names[1] if name not in OURS]
assert len(said["here"]) >= 15 and len(said["there"]) >= 10, said
print(json.dumps(said))
