# A host with a wrong setting is not built: the program refuses it while the system is made, and the build's log has its
# own words. No machine is needed for it.
{
  pkgs,
  package,
  # Of nix/checks/module.nix.
  host,
}:
let
  inherit (pkgs) lib;
  wrong = {
    a-wait-of-nothing = {
      settings.poll_interval = "0s";
      says = "poll_interval: 0s is out of range. Remedy: write a duration from 1s to 1h";
    };
    a-wait-without-a-unit = {
      settings.poll_interval = "10";
      says = ''invalid value: string "10", expected a duration'';
    };
    a-size-of-nothing-known = {
      settings.class.small.memory = "4 apples";
      says = "class.small.memory: 4 apples is not a size of at least 16M. Remedy: write bytes or a size such as 512M or 4G";
    };
    a-misspelt-key = {
      settings.max_concurent = 3;
      says = "unknown field `max_concurent`, expected one of `token_file`, `max_concurrent`, ";
    };
    too-little-memory = {
      settings.class.small.memory = "8M";
      says = "class.small.memory: 8M is not a size of at least 16M. Remedy: write bytes or a size such as 512M or 4G";
    };
    a-template-nobody-has = {
      settings.class.small.template = "rust";
      says = ''class.small.template: there is no template "rust". Remedy: define [template.rust], or name one of: default'';
    };
    a-pool-of-public-addresses = {
      settings.network.pool = "8.8.8.0/24";
      says = "network.pool: 8.8.8.0 is outside its block for private use (one of 10/8, 172.16/12, 192.168/16, 100.64/10). Remedy: ";
    };
    half-a-repository = {
      settings.target = [ { repo = "hello"; } ];
      says = ''target[0].repo: "hello" is not owner/repository. Remedy: '';
    };
    nothing-to-serve = {
      settings.target = [ ];
      says = "target: no repository is named. Remedy: ";
    };
    nobody-to-be = {
      settings.token_file = null;
      says = "target[0].token_file: no token file and no credential. Remedy: ";
    };
    readers-from-everywhere = {
      settings.http.address = "0.0.0.0";
      says = "http.address: 0.0.0.0 can be reached from other machines, and whoever asks is answered. Remedy: ";
    };
  };

  # As the module writes it, without evaluating a system for each.
  settings =
    case:
    (import ../settings.nix).render
      (lib.evalModules {
        modules = [
          { options = { inherit (import ../options.nix { inherit lib pkgs; }) settings; }; }
          (host case.settings)
        ];
      }).config.settings;
in
pkgs.linkFarm "gha-runner-wrong" (
  lib.mapAttrs (
    name: case:
    pkgs.testers.testBuildFailure' {
      inherit name;
      # What every system of the module is built from (tests/nix/evaluate.nix looks that it is installed).
      drv = pkgs.callPackage ../units.nix {
        inherit package;
        settings = settings case;
      };
      expectedBuilderExitCode = 2;
      expectedBuilderLogEntries = [ case.says ];
    }
  ) wrong
)
// {
  # For who has the program and builds nothing: the configuration file, and what is to be said of it.
  cases = lib.mapAttrs (_: case: {
    inherit (case) says;
    settings = settings case;
  }) wrong;
}
