# Continues a recipe of docs/templates.md in the tree $T. The forge's name is the lab's.
printf '203.0.113.10 forge\n' >>"$T/etc/hosts"
