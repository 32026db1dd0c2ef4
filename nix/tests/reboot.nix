# The host reboots under a job: nothing is left of it, and the next job runs.
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
  name = "gha-runner-reboot";
  nodes = { inherit (common) forge host; };
  testScript = common.prelude + ''
    play("endless")
    host.crash()
    host.start()
    host.wait_for_unit("gha-runner-controller.service")
    play("afterwards")
  '';
}
