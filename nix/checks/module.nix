# The module for a set of configurations: what each must say or become. Evaluated by `make test-nix`, built by
# `nix flake check`.
{
  pkgs,
  package ? pkgs.callPackage ../package.nix { },
}:
let
  inherit (pkgs) lib;

  # $1: of the module; $2: of the host beside it
  nixos =
    configuration: beside:
    import (pkgs.path + "/nixos/lib/eval-config.nix") {
      inherit lib;
      system = null;
      specialArgs.inputs.marker = "of a flake";
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
        beside
      ];
    };

  neighbours.neighbours = {
    virtualisation.docker.enable = true;
    networking.nftables.enable = true;
    networking.firewall.filterForward = true;
    systemd.network.enable = true;
    # With defaults of its own for the kernel's limits, and a root that may give away ids.
    virtualisation.incus.enable = true;
    # What others say by default, and what the host's own configuration says.
    boot.kernel.sysctl = {
      "net.ipv4.ip_forward" = lib.mkDefault 1;
      "kernel.pty.max" = 50000;
    };
  };

  minimal = {
    tokenFile = "/run/secrets/token";
    targets = [ { repo = "octo-org/hello"; } ];
  };
in
rec {
  inherit nixos minimal;

  # What evaluates.
  accepted = lib.mapAttrs (name: configuration: nixos configuration (neighbours.${name} or { })) {
    inherit minimal;
    tree = minimal // {
      templates.default.tree = "/var/lib/machines/gha-runner";
    };
    several = {
      settings.boot_timeout = "3m";
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
    # Every option has a value here: what the program reads is compared with it.
    full = {
      maxConcurrent = 4;
      pollInterval = "30s";
      idlePollInterval = "5m";
      jobTimeout = "1h 30m";
      idleGrace = "2m";
      idleTimeout = "1h";
      bootTimeout = "2m";
      registrationLinger = "1m";
      runnerLabels = [ "self-hosted" ];
      stateDir = "/var/lib/gha-runner-controller/records";
      hostName = "builder-1";
      historyKeep = "1year";
      operators = "wheel";
      tokenFile = "/run/secrets/token";
      credentials = {
        app = {
          appId = 1;
          installationId = 2;
          privateKeyFile = "/run/secrets/app.pem";
          share = 0.8;
        };
        enterprise = {
          tokenFile = "/run/secrets/enterprise";
          apiUrl = "https://api.octo-corp.ghe.com";
        };
      };
      targets = [
        {
          repo = "octo-org/hello";
          tokenFile = "/run/secrets/hello";
          classes = [ "small" ];
          priority = 10;
          forks = "allow";
        }
        {
          org = "octo-org";
          credential = "app";
          register = "organisation";
          runnerGroup = "builders";
          include = [ "web-*" ];
          exclude = [ "*-archive" ];
          pushedWithin = "90d";
          rediscover = "1h";
          weight = 2;
          maxConcurrent = 2;
        }
        { user = "octocat"; }
        {
          enterprise = "octo-corp";
          credential = "enterprise";
          classes = [ "nix-big" ];
        }
      ];
      classes = {
        small = {
          labels = [ "linux" ];
          cpus = 1.5;
          memory = "2G";
          tasks = 4096;
          ioWeight = 50;
          disk = "40G";
          gpu = true;
          devices = [ "kvm" ];
          timeout = "30m";
          maxConcurrent = 2;
          minIdle = 1;
          intake = "polling";
          network = {
            internet = false;
            allow = [ "192.168.1.20:5432" ];
            shared = [ "database" ];
            dns = [ "192.168.1.1" ];
          };
          caches.ccache = {
            at = "/home/runner/.cache/ccache";
            size = "20G";
            toolCache = true;
            per = "class";
          };
        };
        nix-big = {
          labels = [
            "linux"
            "big"
          ];
          template = "released";
          intake = "scale-set";
          docker = {
            enable = true;
            mirror = "http://192.168.1.20:5000";
            pool = "172.20.0.0/14";
            keep = true;
            keepSize = "50G";
          };
        };
        default = {
          template = "debian";
          privileged = true;
        };
      };
      template = { inputs, ... }: {
        environment.systemPackages = [ pkgs.nodejs ];
        job.environment.FLAKE = inputs.marker;
        job.nixpkgs = pkgs.writeTextDir "default.nix" "{ }";
      };
      templates.released = {
        runnerDirectory = "/var/lib/actions-runner";
        runnerVersion = "2.336.0";
      };
      templates.debian = {
        tree = "/var/lib/machines/gha-runner";
        runner = "/usr/lib/actions-runner/bin/Runner.Listener";
        user = "builder";
        nixStore = "/nix/store";
      };
      network = {
        pool = "10.77.0.0/16";
        prefix = 28;
        dns = [ "9.9.9.9" ];
        connections = 20000;
        deny = [ "203.0.113.0/24" ];
        shared.database = {
          destination = "10.9.0.5:5432";
          interface = "services";
        };
      };
      limits = {
        cpus = 8;
        memory = "32G";
        tasks = 65536;
        ioWeight = 50;
      };
      ids.first = 1073741824;
      http = {
        address = "127.0.0.1";
        port = 9180;
        tokenFile = "/run/secrets/readers";
      };
      webhook = {
        address = "192.168.1.20";
        port = 9181;
        secretFile = "/run/secrets/webhook";
      };
      github.apiUrl = "https://github.example.org/api/v3";
    };
    # Beside Docker, Incus and a firewall that refuses to forward.
    neighbours = minimal // {
      ids.first = 1073741824;
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
    a-webhooks-secret-in-the-store = {
      configuration = minimal // {
        webhook.secretFile = "${builtins.storeDir}/abc-secret";
      };
      says = ''
        services.gha-runner-controller.webhook.secretFile: ${builtins.storeDir}/abc-secret is in the Nix store, which every user and every job can read. Remedy:
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
    a-trees-user-of-a-system = {
      configuration = minimal // {
        templates.default.user = "builder";
      };
      says = ''
        services.gha-runner-controller.templates.default: runner, user and nixStore are of a tree. Remedy: set job.runner and job.user in
        its configuration; a system always sees the host's store.
      '';
    };
    ipsec-without-its-modules = {
      configuration = minimal;
      beside.services.strongswan.enable = true;
      says = ''
        services.gha-runner-controller.blockedKernelModules: services.strongswan.enable needs esp4 esp6.
        Remedy: blockedKernelModules = [ "af_alg" "algif_aead" "algif_hash" "algif_rng" "algif_skcipher" "rxrpc" ];
      '';
    };
    a-secret-without-quotes = {
      configuration = minimal // {
        tokenFile = /run/secrets/token;
      };
      says = ''
        services.gha-runner-controller.tokenFile: /run/secrets/token is a path without quotes, which Nix copies into its store, where every user
        and every job can read it, as soon as it becomes a text. Remedy: write "/run/secrets/token".
      '';
    };
    a-secret-without-quotes-in-the-settings = {
      configuration = minimal // {
        settings.http.token_file = /run/secrets/readers;
      };
      says = ''
        services.gha-runner-controller.settings.http.token_file: /run/secrets/readers is a path without quotes, which Nix copies into its store, where every user
        and every job can read it, as soon as it becomes a text. Remedy: write "/run/secrets/readers".
      '';
    };
    a-key-in-two-places = {
      configuration = minimal // {
        maxConcurrent = 3;
        settings.max_concurrent = 4;
      };
      says = ''
        services.gha-runner-controller.settings.max_concurrent: this key has an option, which is set too. Remedy: write it in one place.
      '';
    };
    a-host-that-is-a-container = {
      configuration = minimal;
      beside = {
        boot.isContainer = true;
      };
      says = ''
        services.gha-runner-controller.enable: this system is a container (boot.isContainer), which has no ids, links and mounts to give to
        containers of its own. Remedy: enable it on the machine, or in a virtual machine.
      '';
    };
    no-user-namespaces = {
      configuration = minimal;
      beside = {
        security.allowUserNamespaces = false;
        nix.settings.sandbox = false;
      };
      says = ''
        security.allowUserNamespaces: without user namespaces no container boots. Remedy: leave it on, or choose
        another host; `privileged = true` in every class does without, and gives each job the host's root.
      '';
    };
    an-old-kernel = {
      configuration = minimal;
      beside.boot.kernelPackages = pkgs.linuxPackages.extend (
        _: old: { kernel = lib.makeOverridable (_: old.kernel // { version = "5.15.1"; }) { }; }
      );
      says = ''
        boot.kernelPackages: Linux 5.15.1 cannot map the ids of an overlay's
        layers. Remedy: 5.19 or newer, for example pkgs.linuxPackages.
      '';
    };
    nothing-forwarded = {
      configuration = minimal;
      beside = {
        boot.kernel.sysctl."net.ipv4.ip_forward" = 0;
      };
      says = ''
        boot.kernel.sysctl."net.ipv4.ip_forward": with 0 the host forwards nothing, and no container reaches the internet. Remedy:
        leave it out; the fence (docs/security.md) decides what is forwarded for containers.
      '';
    };
    ids-of-somebody-else = {
      configuration = minimal;
      beside = {
        virtualisation.incus.enable = true;
        networking.nftables.enable = true;
      };
      says = ''
        services.gha-runner-controller.ids.first: the ids of containers, from 536870912 on, reach into those that users.users.root
        may give away, 1000000-1000999999. Remedy: ids.first = 1001062400;
      '';
    };
    docker-without-docker = {
      configuration = minimal // {
        classes.small.docker.enable = true;
        template.virtualisation.docker.enable = lib.mkForce false;
      };
      says = ''
        services.gha-runner-controller.classes.small.docker.enable: there is no Docker in the template default. Remedy:
        virtualisation.docker.enable = true in its configuration, or another template.
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
      lib.filter (found: !found.assertion)
        (nixos case.configuration (case.beside or { })).config.assertions
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
