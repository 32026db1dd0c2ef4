# What each scenario imports: a build host with the module, and the simulated GitHub of the laboratory on a machine of its
# own. What jobs do and what must be seen of them is in the scenarios of the laboratory's own tests; here is only NixOS.
{
  config,
  lib,
  package,
  laboratory,
  ...
}:
let
  repo = "octo-org/hello";
  # Nothing but the simulator knows it.
  token = "nixos-test-token-8a1f";
  tokenFile = "/run/token";
  socket = "/run/github-sim.sock";
  # Where the host's scenarios find it.
  hub = "/run/hub.sock";
  hubPort = 7000;
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
  options.script = lib.mkOption {
    type = lib.types.lines;
    description = "What is played, once both machines are there.";
  };

  config.nodes.forge =
    { pkgs, ... }:
    {
      imports = [ (address forgeAddress) ];
      networking.firewall.enable = false;
      systemd.services.hub = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.ExecStart = "${pkgs.socat}/bin/socat TCP-LISTEN:${toString hubPort},reuseaddr,fork UNIX-CONNECT:${socket}";
      };
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

  config.nodes.host =
    { pkgs, ... }:
    {
      imports = [
        ../module.nix
        (address "203.0.113.1")
      ];
      environment.systemPackages = [ laboratory ];
      systemd.services.hub = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.ExecStart = "${pkgs.socat}/bin/socat UNIX-LISTEN:${hub},unlink-early,fork TCP:${forgeAddress}:${toString hubPort}";
      };
      # What the fence's scenario listens on must be kept away by the fence alone.
      networking.firewall.allowedTCPPorts = [ 7777 ];
      # A store on a file system whose ids can be mapped.
      virtualisation = {
        useNixStoreImage = true;
        writableStore = false;
        memorySize = 2048;
        diskSize = 4096;
      };
      # A secret as sops-nix or agenix leaves it: made at boot, for root alone.
      systemd.tmpfiles.rules = [ "f ${tokenFile} 0400 root root - ${token}" ];
      services.gha-runner-controller = {
        enable = true;
        inherit package;
        settings = {
          token_file = tokenFile;
          host_name = "nixos";
          poll_interval = "1s";
          target = [ { inherit repo; } ];
          class.small = {
            labels = [
              "self-hosted"
              "linux"
            ];
            docker.enable = true;
          };
          github.api_url = "http://forge";
          network.dns = [ ];
        };
        template = {
          # The simulator's stand-in for the runner: the same protocol, and jobs that are shell scripts.
          job.runner.program = "${laboratory}/bin/fakerunner";
          networking.hosts.${forgeAddress} = [ "forge" ];
          # A whole nixpkgs would be in the image of the machine's store.
          job.nixpkgs = pkgs.writeTextDir "default.nix" "{ }";
        };
      };
    };

  # `play` is a scenario of testing/stage/src/scenario.rs, played on the host.
  config.testScript = ''
    def play(scenario):
        print(host.succeed("scenario --hub ${hub} " + scenario))

    start_all()
    forge.wait_for_unit("github-sim.service")
    host.wait_for_unit("gha-runner-controller.service")
    ${config.script}
  '';

  config.meta.maintainers = [ ];
}
