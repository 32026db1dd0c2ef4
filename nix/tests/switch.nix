# `switch-to-configuration` while a job runs: the controller is replaced, the job is not touched, and the next job gets
# the new template.
{ lib, ... }:
{
  imports = [ ./common.nix ];
  name = "gha-runner-switch";
  nodes.host = {
    specialisation.changed.configuration.services.gha-runner-controller.settings = {
      class.small.memory = "512M";
      class.other.labels = [ "other" ];
    };
    specialisation.without.configuration.services.gha-runner-controller.settings.class = lib.mkForce {
      other.labels = [ "other" ];
    };
  };
  script = ''
    def switch(name):
        return f"/run/booted-system/specialisation/{name}/bin/switch-to-configuration test"

    controller = host.succeed("systemctl show -P MainPID gha-runner-controller.service")
    # What the container runs on is held, whichever generations are deleted.
    held = "readlink /nix/var/nix/gcroots/gha-runner/* | grep ^/nix/store/"
    play(f"undisturbed '{switch('changed')}; {switch('without')}; {held}'")
    assert host.succeed("systemctl show -P MainPID gha-runner-controller.service") != controller
    host.succeed(switch("changed"))
    # The next job's container is of the new configuration.
    play("undisturbed 'systemctl show -P MemoryMax gha-runner-small@*.service | grep -x 536870912'")
  '';
}
