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
    job = queue("lost", "sleep 1000")
    retry(job_is(job, "in_progress"), timeout_seconds=3 * MINUTE)
    host.crash()
    host.start()
    host.wait_for_unit("gha-runner-controller.service")
    nothing_left()
    finish(queue("next", "true"))
    nothing_left()
  '';
}
