# `switch-to-configuration` while a job runs: the controller is replaced, the job is not touched, and the next job gets
# the new template.
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
  name = "gha-runner-switch";
  nodes = {
    inherit (common) forge;
    host = {
      imports = [ common.host ];
      specialisation.changed.configuration.services.gha-runner-controller = {
        classes.small.memory = "512M";
        classes.other.labels = [ "other" ];
        template.environment.etc.generation.text = "second";
      };
      specialisation.without.configuration.services.gha-runner-controller.classes = lib.mkForce {
        other.labels = [ "other" ];
      };
    };
  };
  testScript = common.prelude + ''
    def switch(name):
        host.succeed(f"/run/booted-system/specialisation/{name}/bin/switch-to-configuration test")

    job = queue("long", "test ! -e /etc/generation; until [ -e /tmp/go ]; do sleep 0.2; done; echo not disturbed")
    retry(job_is(job, "in_progress"), timeout_seconds=3 * MINUTE)
    [unit] = containers()
    since = host.succeed(f"systemctl show -P ActiveEnterTimestampMonotonic {unit}")
    controller = host.succeed("systemctl show -P MainPID gha-runner-controller.service")
    for name in ["changed", "without"]:
        switch(name)
        host.wait_for_unit("gha-runner-controller.service")
        assert containers() == [unit]
        assert host.succeed(f"systemctl show -P ActiveEnterTimestampMonotonic {unit}") == since
        assert host.succeed(f"systemctl show -P LoadState {unit}").strip() == "loaded"
    assert host.succeed("systemctl show -P MainPID gha-runner-controller.service") != controller
    # What the container runs on is held, whichever generations are deleted.
    held = host.succeed("readlink /nix/var/nix/gcroots/gha-runner/*").split()
    assert len(held) == 1 and held[0].startswith("/nix/store/"), held

    switch("changed")
    leader = host.succeed(f"systemctl show -P MainPID {unit}").strip()
    host.succeed(f"nsenter -t $(pgrep -P {leader} | head -1) -U -m touch /tmp/go")
    assert "not disturbed" in finish(job)["output"]
    nothing_left()
    finish(queue("next", "grep second /etc/generation"))
    nothing_left()
  '';
}
