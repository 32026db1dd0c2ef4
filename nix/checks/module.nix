# The module for a set of configurations: what each must say or become. Evaluated by `make test-nix`, built by
# `nix flake check`.
{
  pkgs,
  package ? pkgs.callPackage ../package.nix { },
}:
let
  inherit (pkgs) lib;

  nixos =
    configuration:
    import (pkgs.path + "/nixos/lib/eval-config.nix") {
      inherit lib;
      system = null;
      modules = [
        ../module.nix
        {
          nixpkgs.pkgs = pkgs;
          services.gha-runner-controller = {
            enable = true;
            inherit package;
          };
          boot.loader.grub.enable = false;
          fileSystems."/" = {
            device = "/dev/vda";
            fsType = "ext4";
          };
          system.stateVersion = lib.trivial.release;
        }
        { services.gha-runner-controller = configuration; }
      ];
    };

  minimal = {
    tokenFile = "/run/secrets/token";
    targets = [ { repo = "octo-org/hello"; } ];
  };
in
rec {
  # What evaluates.
  accepted = lib.mapAttrs (_: nixos) {
    inherit minimal;
    tree = minimal // {
      templates.default.tree = "/var/lib/machines/gha-runner";
    };
    several = {
      targets = [
        {
          repo = "octo-org/hello";
          tokenFile = "/run/secrets/hello";
        }
        {
          repo = "octo-org/world";
          tokenFile = "/run/secrets/world";
        }
      ];
    };
    full = minimal // {
      maxConcurrent = 4;
      pollInterval = "30s";
      jobTimeout = "1h 30m";
      idleGrace = "2m";
      hostName = "builder-1";
      classes = {
        small = {
          labels = [ "linux" ];
          cpus = 1.5;
          memory = "2G";
          tasks = 4096;
          timeout = "30m";
          maxConcurrent = 2;
          minIdle = 1;
        };
        nix-big = {
          labels = [
            "linux"
            "big"
          ];
          template = "released";
        };
      };
      template = {
        environment.systemPackages = [ pkgs.nodejs ];
      };
      templates.released.runnerDirectory = "/var/lib/actions-runner";
      network = {
        pool = "10.77.0.0/16";
        prefix = 28;
        dns = [ "9.9.9.9" ];
      };
      http.port = 9180;
      github.apiUrl = "https://github.example.org/api/v3";
      settings.boot_timeout = "2m";
    };
  };

  # What does not, and what it says.
  refused = {
    a-token-in-the-store = {
      configuration = minimal // {
        tokenFile = "${builtins.storeDir}/abc-token";
      };
      says = ''
        services.gha-runner-controller.tokenFile: ${builtins.storeDir}/abc-token is in the Nix store, which every user and every job can read. Remedy:
        name a file outside of it, for example one of sops-nix or agenix, or one only root can read; in quotes,
        because a path without them is copied into the store.
      '';
    };
    a-key-in-the-store = {
      configuration = minimal // {
        credentials.app = {
          appId = 1;
          privateKeyFile = "${builtins.storeDir}/abc-key";
        };
      };
      says = ''
        services.gha-runner-controller.credentials.app.privateKeyFile: ${builtins.storeDir}/abc-key is in the Nix store, which every user and every job can read. Remedy:
        name a file outside of it, for example one of sops-nix or agenix, or one only root can read; in quotes,
        because a path without them is copied into the store.
      '';
    };
    a-targets-token-in-the-store = {
      configuration.targets = [
        {
          repo = "octo-org/hello";
          tokenFile = "${builtins.storeDir}/abc-token";
        }
      ];
      says = ''
        services.gha-runner-controller.targets[0].tokenFile: ${builtins.storeDir}/abc-token is in the Nix store, which every user and every job can read. Remedy:
        name a file outside of it, for example one of sops-nix or agenix, or one only root can read; in quotes,
        because a path without them is copied into the store.
      '';
    };
    half-an-app = {
      configuration = minimal // {
        credentials.app.appId = 1;
      };
      says = ''
        services.gha-runner-controller.credentials.app: neither a token nor an App, or both. Remedy: set tokenFile, or appId and
        privateKeyFile.
      '';
    };
    a-target-of-nothing = {
      configuration = minimal // {
        targets = [ { priority = 1; } ];
      };
      says = ''
        services.gha-runner-controller.targets[0]: names none or several of repo, org, user and enterprise. Remedy: name
        one in each target.
      '';
    };
    a-target-of-two = {
      configuration = minimal // {
        targets = [
          {
            repo = "octo-org/hello";
            org = "octo-org";
          }
        ];
      };
      says = ''
        services.gha-runner-controller.targets[0]: names none or several of repo, org, user and enterprise. Remedy: name
        one in each target.
      '';
    };
    a-runner-beside-a-tree = {
      configuration = minimal // {
        templates.default = {
          tree = "/srv/tree";
          runnerDirectory = "/srv/runner";
        };
      };
      says = ''
        services.gha-runner-controller.templates.default: a tree brings its own runner. Remedy: put the runner into the tree, or leave
        runnerDirectory out.
      '';
    };
    a-container-without-its-user = {
      configuration = minimal // {
        template.job.user = "nobody-there";
      };
      says = ''
        services.gha-runner-controller.templates.default: job.user: there is no unprivileged user "nobody-there" in the container. Remedy: define
        users.users.nobody-there, or name another user.
      '';
    };
  };

  # The failed assertions of a refused configuration; nothing else of it is evaluated.
  failures = lib.mapAttrs (
    _: case:
    map (found: found.message) (
      lib.filter (found: !found.assertion) (nixos case.configuration).config.assertions
    )
  ) refused;

  # Empty, or one line for each promise that is not kept.
  problems = lib.concatLists (
    lib.mapAttrsToList (
      name: case:
      lib.optional (
        failures.${name} != [ case.says ]
      ) "${name}: expected ${builtins.toJSON [ case.says ]}, got ${builtins.toJSON failures.${name}}"
    ) refused
  );

  # The configuration file a configuration becomes.
  settings = lib.mapAttrs (
    _: system:
    builtins.fromJSON (
      builtins.unsafeDiscardStringContext system.config.services.gha-runner-controller.units.settings
    )
  ) accepted;

  # Everything the program renders for what is accepted.
  all =
    assert lib.assertMsg (problems == [ ]) (lib.concatLines problems);
    pkgs.linkFarm "gha-runner-controller-module" (
      lib.mapAttrs (_: system: system.config.services.gha-runner-controller.units) accepted
    );
}
