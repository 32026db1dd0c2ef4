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
    play("job")
  '';
}
