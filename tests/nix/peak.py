#!/usr/bin/env python3
"""Runs a command, prints what the largest of its processes took of memory, and ends as it did: peak.py COMMAND..."""

import resource
import subprocess
import sys

status = subprocess.call(sys.argv[1:])
print(f"peak memory of one process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.1f} GiB")
sys.exit(status)
