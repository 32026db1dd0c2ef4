# The host reboots under a job: nothing is left of it, and the next job runs.
{
  imports = [ ./common.nix ];
  name = "gha-runner-reboot";
  script = ''
    play("endless")
    host.crash()
    host.start()
    host.wait_for_unit("gha-runner-controller.service")
    play("afterwards")
  '';
}
