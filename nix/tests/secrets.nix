# Neither the token nor a grant can be read by anybody they are not for.
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
  name = "gha-runner-secrets";
  nodes = {
    inherit (common) forge;
    host = {
      imports = [ common.host ];
      users.users.alice.isNormalUser = true;
    };
  };
  testScript = common.prelude + ''
    token = "${common.token}"
    job = queue("curious", "sudo grep -rqs " + token + " /run /etc /var /proc/*/environ && exit 1; sleep 5")
    retry(job_is(job, "in_progress"), timeout_seconds=3 * MINUTE)
    host.fail("su alice -c 'cat /run/token'")
    host.fail("su alice -c 'cat /run/credentials/gha-runner-controller.service/*'")
    host.fail("su alice -c 'ls /run/gha-runner-sandbox /var/lib/gha-runner-sandbox /run/gha-runner-controller'")
    host.fail("su gha-runner-controller -s /bin/sh -c 'ls /run/gha-runner-sandbox'")
    host.fail("systemctl show gha-runner-controller.service | grep " + token)
    host.fail("journalctl | grep " + token)
    host.fail("grep -rs " + token + " /etc/gha-runner-controller /run/current-system/etc/systemd")
    host.fail("cat /proc/*/cmdline | grep -a " + token)
    finish(job)
  '';
}
