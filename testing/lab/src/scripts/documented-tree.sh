#!/bin/sh
# Turns a fresh Debian tree ($1) into the template of docs/templates.md. The forge's name is the lab's.
set -eu
tree=$1
chroot "$tree" useradd --create-home --uid 1000 --shell /bin/bash runner
install -d -o 1000 -g 1000 "$tree/opt/actions-runner" "$tree/opt/actions-runner/bin"
printf '203.0.113.10 forge\n' >>"$tree/etc/hosts"
