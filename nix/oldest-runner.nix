# The oldest runner that GitHub may still give jobs to. Everything older is refused for certain: GitHub has announced the
# end of each version for 30 days after the next release (docs/github.md#runner-versions). It is a floor and no forecast,
# since no date tells at evaluation what GitHub says today; the controller asks GitHub. CONTRIBUTING.md says when to raise it.
"2.337.0"
