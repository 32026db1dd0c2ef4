# A queued job becomes one container, runs, and leaves nothing.
{
  lib,
  package,
  laboratory,
  ...
}:
let
  common = import ./common.nix { inherit lib package laboratory; };
in
{
  name = "gha-runner-job";
  nodes = { inherit (common) forge host; };
  testScript = common.prelude + ''
    job = queue("hello", "echo hello from $(hostname); id -un; test ! -e ~/trace; touch ~/trace; sudo id -u")
    seen = finish(job)
    assert "hello from" in seen["output"] and "runner" in seen["output"], seen
    nothing_left()
    # Again: another container, which knows nothing of the first.
    finish(queue("again", "test ! -e ~/trace"))
    nothing_left()
  '';
}
