# What else the program is called; under each name it is one of its commands.
[
  "runner-status"
  "cleanup-github-runners"
  "cleanup-all-containers"
]
