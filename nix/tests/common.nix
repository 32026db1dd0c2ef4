# A build host with the module, and the simulated GitHub of the laboratory on a machine of its own. What jobs are and
# how they end is the simulator's business, as in the laboratory's own end-to-end tests; here is only NixOS.
{
  lib,
  package,
  laboratory,
}:
let
  repo = "octo-org/hello";
  # Nothing but the simulator knows it.
  token = "nixos-test-token-8a1f";
  socket = "/run/github-sim.sock";
  # Not of a private network: containers do not reach those.
  forgeAddress = "203.0.113.10";
  address = address: {
    networking.interfaces.eth1.ipv4.addresses = [
      {
        inherit address;
        prefixLength = 24;
      }
    ];
  };
in
{
  inherit token;

  forge =
    { pkgs, ... }:
    {
      imports = [ (address forgeAddress) ];
      networking.firewall.enable = false;
      environment.systemPackages = [
        laboratory
        pkgs.jq
      ];
      systemd.services.github-sim = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.ExecStart = lib.concatStringsSep " " [
          "${laboratory}/bin/github-sim"
          "--listen 0.0.0.0:80"
          "--public-url http://forge/"
          "--control-socket ${socket}"
          "--token ${token}"
          "--repo ${repo}"
          "--hurry 20"
        ];
      };
    };

  host = {
    imports = [
      ../module.nix
      (address "203.0.113.1")
    ];
    # A store on a file system whose ids can be mapped.
    virtualisation = {
      useNixStoreImage = true;
      writableStore = false;
      memorySize = 2048;
      diskSize = 4096;
    };
    # A secret as sops-nix or agenix leaves it: made at boot, for root alone.
    systemd.tmpfiles.rules = [ "f /run/token 0400 root root - ${token}" ];
    services.gha-runner-controller = {
      enable = true;
      inherit package;
      tokenFile = "/run/token";
      hostName = "nixos";
      pollInterval = "1s";
      targets = [ { inherit repo; } ];
      classes.small.labels = [
        "self-hosted"
        "linux"
      ];
      github.apiUrl = "http://forge";
      template = {
        # The simulator's stand-in for the runner: the same protocol, and jobs that are shell scripts.
        job.runner.program = "${laboratory}/bin/fakerunner";
        networking.hosts.${forgeAddress} = [ "forge" ];
      };
      network.dns = [ ];
    };
  };

  # Functions of the test script.
  prelude = ''
    import json

    MINUTE = 60

    def hub(**command):
        answer = forge.succeed("github-sim ctl --control-socket ${socket} '%s'" % json.dumps(command))
        return json.loads(answer)

    def queue(name, script):
        job = {"name": name, "labels": ["self-hosted", "linux"], "steps": [{"name": name, "run": script}]}
        return hub(do="queue_job", repo="${repo}", job=job)["job_ids"][0]

    def job_is(job, status):
        def look(_last):
            return hub(do="job", job=job)["status"] == status
        return look

    def finish(job, conclusion="success"):
        retry(job_is(job, "completed"), timeout_seconds=3 * MINUTE)
        seen = hub(do="job", job=job)
        assert seen["conclusion"] == conclusion, seen
        return seen

    def containers():
        return host.succeed("systemctl list-units --plain --no-legend 'gha-runner-*@*.service' | cut -d' ' -f1").split()

    def nothing_left():
        host.wait_until_succeeds("! ls /var/lib/gha-runner-sandbox/* /run/gha-runner-sandbox/* 2>/dev/null", timeout=MINUTE)
        host.fail("ip -o link | grep -E 'g[jp]-'")
        host.fail("ls /nix/var/nix/gcroots/gha-runner/*")
        host.fail("machinectl --no-legend list | grep -v .host | grep .")

    start_all()
    forge.wait_for_unit("github-sim.service")
    host.wait_for_unit("gha-runner-controller.service")
  '';
}
