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

  minimal.settings = {
    token_file = "/run/secrets/token";
    target = [ { repo = "octo-org/hello"; } ];
  };
  # Of the minimal host, with these keys.
  host = settings: lib.recursiveUpdate minimal { inherit settings; };
in
rec {
  inherit nixos minimal host;

  # What evaluates.
  accepted = lib.mapAttrs (name: configuration: nixos configuration (neighbours.${name} or { })) {
    inherit minimal;
    tree = host { template.default.path = "/var/lib/machines/gha-runner"; };
    several.settings = {
      boot_timeout = "3m";
      target = [
        {
          repo = "octo-org/hello";
          token_file = "/run/secrets/hello";
        }
        {
          repo = "octo-org/world";
          token_file = "/run/secrets/world";
        }
      ];
    };
    # Another forge, whose runner nixpkgs has.
    gitea.settings = {
      credential.git = {
        kind = "gitea";
        url = "https://git.example.org";
        token_file = "/run/secrets/git";
      };
      target = [
        {
          org = "acme";
          credential = "git";
        }
      ];
      template.default.kind = "gitea";
      class.default.labels = [ "nix:host" ];
    };
    # As it was written before `settings` held the keys, beside one key that is there already (tests/nix/evaluate.nix).
    former = {
      tokenFile = "/run/secrets/token";
      http.tokenFile = "/run/secrets/readers";
      settings.job_timeout = "1h";
      targets = [
        {
          repo = "octo-org/hello";
          credential = "my-app";
          maxConcurrent = 2;
        }
      ];
      credentials.my-app = {
        appId = 1;
        privateKeyFile = "/run/secrets/app.pem";
      };
      classes = lib.mkMerge [
        {
          big-one = {
            labels = [ "big" ];
            minIdle = lib.mkDefault 1;
            caches.git-lfs.toolCache = true;
          };
        }
        { big-one.minIdle = 2; }
        {
          big-one.docker = {
            enable = true;
            keep = true;
            keepSize = lib.mkIf true "50G";
          };
        }
      ];
      templates.default.runnerDirectory = "/var/lib/actions-runner";
      templates.debian.tree = "/var/lib/machines/gha-runner";
    };
    # Every option has a value here: what the program reads is compared with it.
    full = {
      template = { inputs, ... }: {
        environment.systemPackages = [ pkgs.nodejs ];
        job.environment.FLAKE = inputs.marker;
        job.nixpkgs = pkgs.writeTextDir "default.nix" "{ }";
      };
      settings = {
        max_concurrent = 4;
        poll_interval = "30s";
        idle_poll_interval = "5m";
        job_timeout = "1h 30m";
        idle_grace = "2m";
        boot_timeout = "2m";
        registration_linger = "1m";
        runner_labels = [ "self-hosted" ];
        runners = [ "cpu-small" ];
        idle_timeout = "1h";
        admission = {
          min_free_disk = "20G";
          min_free_inodes = 50000;
          max_memory_pressure = 20;
          max_io_pressure = 60;
          max_cpu_pressure = 95;
        };
        state_dir = "/var/lib/gha-runner-controller/records";
        host_name = "builder-1";
        history_keep = "1year";
        operators = "wheel";
        token_file = "/run/secrets/token";
        credential = {
          app = {
            app_id = 1;
            installation_id = 2;
            private_key_file = "/run/secrets/app.pem";
            share = 0.8;
          };
          enterprise = {
            token_file = "/run/secrets/enterprise";
            api_url = "https://api.octo-corp.ghe.com";
          };
          git = {
            kind = "gitea";
            url = "https://git.example.org";
            ca_file = "/etc/ssl/own-authority.pem";
            webhook_secret_file = "/run/secrets/git-webhook";
            token_file = "/run/secrets/git";
          };
        };
        target = [
          {
            instance = true;
            credential = "git";
            classes = [ "git" ];
          }
          {
            repo = "octo-org/hello";
            token_file = "/run/secrets/hello";
            classes = [ "small" ];
            priority = 10;
            forks = "allow";
          }
          {
            org = "octo-org";
            credential = "app";
            register = "organisation";
            runner_group = "builders";
            include = [ "web-*" ];
            exclude = [ "*-archive" ];
            pushed_within = "90d";
            rediscover = "1h";
            weight = 2;
            max_concurrent = 2;
          }
          { user = "octocat"; }
          {
            enterprise = "octo-corp";
            credential = "enterprise";
            classes = [ "nix-big" ];
          }
        ];
        class = {
          small = {
            labels = [ "linux" ];
            cpus = 1.5;
            memory = "2G";
            tasks = 4096;
            io_weight = 50;
            disk = "40G";
            gpu = true;
            devices = [ "kvm" ];
            timeout = "30m";
            max_concurrent = 2;
            min_idle = 1;
            min_idle_hours = [ "Mon..Fri 07:55..18:00" ];
            intake = "polling";
            services = [ "registry" ];
            network = {
              internet = false;
              allow = [ "192.168.1.20:5432" ];
              shared = [ "database" ];
              dns = [ "192.168.1.1" ];
            };
            nix = {
              substituters = [ "http://cache.host.internal:8501" ];
              trusted_public_keys = [ "cache:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" ];
            };
            cache.ccache = {
              at = "/home/runner/.cache/ccache";
              size = "20G";
              tool_cache = true;
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
              mirrors."ghcr.io" = "http://192.168.1.20:5001";
              pool = "172.20.0.0/14";
              keep = true;
              keep_size = "50G";
            };
          };
          default = {
            template = "debian";
            privileged = true;
          };
          git = {
            template = "git";
            labels = [ "nix:host" ];
          };
        };
        template.git = {
          kind = "gitea";
          path = "/var/lib/machines/gha-runner";
          runner = "/usr/local/bin/gitea-runner";
        };
        template.released = {
          runner_dir = "/var/lib/actions-runner";
          runner_version = "2.336.0";
        };
        template.debian = {
          path = "/var/lib/machines/gha-runner";
          runner = "/usr/lib/actions-runner/bin/Runner.Listener";
          user = "builder";
          nix_store = "/nix/store";
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
          io_weight = 50;
        };
        ids.first = 1073741824;
        http = {
          address = "127.0.0.1";
          port = 9180;
          token_file = "/run/secrets/readers";
        };
        webhook = {
          address = "192.168.1.20";
          port = 9181;
          secret_file = "/run/secrets/webhook";
        };
        service.registry.address = "127.0.0.1:5000";
        github.api_url = "https://github.example.org/api/v3";
      };
    };
    # Beside Docker, Incus and a firewall that refuses to forward.
    # A registry of the host's own, and a firewall in front of it.
    images = lib.recursiveUpdate (host { runners = [ "cpu-xs-docker" ]; }) {
      imageCache.enable = true;
      nixCache.enable = true;
    };
    neighbours = host { ids.first = 1073741824; };
  };

  # What does not, and all it says: an evaluation each, so what gets along with each other is of one host.
  refused = {
    one-with-all-mistakes = {
      configuration = {
        settings = {
          token_file = "${builtins.storeDir}/abc-token";
          credential.app = {
            app_id = 1;
            private_key_file = "${builtins.storeDir}/abc-key";
          };
          credential.half.app_id = 1;
          webhook.secret_file = "${builtins.storeDir}/abc-secret";
          target = [
            { priority = 1; }
            {
              repo = "octo-org/hello";
              org = "octo-org";
            }
            {
              repo = "octo-org/hello";
              token_file = "${builtins.storeDir}/abc-token";
            }
          ];
          template.tree = {
            path = "/srv/tree";
            runner_dir = "/srv/runner";
          };
          template.system.nix_store = "/nix/store";
          class.small.docker.enable = true;
        };
        template = {
          virtualisation.docker.enable = lib.mkForce false;
          job.user = "nobody-there";
        };
      };
      beside = {
        boot.kernel.sysctl."net.ipv4.ip_forward" = 0;
        boot.kernelPackages = pkgs.linuxPackages.extend (
          _: old: { kernel = lib.makeOverridable (_: old.kernel // { version = "5.15.1"; }) { }; }
        );
        networking.nftables.enable = true;
        nix.settings.sandbox = false;
        security.allowUserNamespaces = false;
        services.strongswan.enable = true;
        virtualisation.incus.enable = true;
      };
      says = [
        ''
          services.gha-runner-controller.settings.token_file: ${builtins.storeDir}/abc-token is in the Nix store, which every user and every job can read. Remedy:
          name a file outside of it, for example one of sops-nix or agenix, or one only root can read; in quotes,
          because a path without them is copied into the store.
        ''
        ''
          services.gha-runner-controller.settings.credential.app.private_key_file: ${builtins.storeDir}/abc-key is in the Nix store, which every user and every job can read. Remedy:
          name a file outside of it, for example one of sops-nix or agenix, or one only root can read; in quotes,
          because a path without them is copied into the store.
        ''
        ''
          services.gha-runner-controller.settings.target[2].token_file: ${builtins.storeDir}/abc-token is in the Nix store, which every user and every job can read. Remedy:
          name a file outside of it, for example one of sops-nix or agenix, or one only root can read; in quotes,
          because a path without them is copied into the store.
        ''
        ''
          services.gha-runner-controller.settings.webhook.secret_file: ${builtins.storeDir}/abc-secret is in the Nix store, which every user and every job can read. Remedy:
          name a file outside of it, for example one of sops-nix or agenix, or one only root can read; in quotes,
          because a path without them is copied into the store.
        ''
        ''
          services.gha-runner-controller.settings.credential.half: neither a token nor an App, or both. Remedy: set token_file, or app_id and
          private_key_file.
        ''
        ''
          services.gha-runner-controller.settings.target[0]: names none or several of repo, org, user, enterprise and instance.
          Remedy: name one in each target.
        ''
        ''
          services.gha-runner-controller.settings.target[1]: names none or several of repo, org, user, enterprise and instance.
          Remedy: name one in each target.
        ''
        ''
          services.gha-runner-controller.settings.template.tree: a tree brings its own runner. Remedy: put the runner into the tree, or leave
          runner_dir out.
        ''
        ''
          services.gha-runner-controller.settings.template.system: nix_store is of a tree. Remedy: leave it out; a system always sees the host's
          store.
        ''
        ''
          services.gha-runner-controller.blockedKernelModules: services.strongswan.enable needs esp4 esp6.
          Remedy: blockedKernelModules = [ "af_alg" "algif_aead" "algif_hash" "algif_rng" "algif_skcipher" "rxrpc" ];
        ''
        ''
          security.allowUserNamespaces: without user namespaces no container boots. Remedy: leave it on, or choose
          another host; `privileged = true` in every class does without, and gives each job the host's root.
        ''
        ''
          boot.kernelPackages: Linux 5.15.1 cannot map the ids of an overlay's
          layers. Remedy: 5.19 or newer, for example pkgs.linuxPackages.
        ''
        ''
          boot.kernel.sysctl."net.ipv4.ip_forward": with 0 the host forwards nothing, and no container reaches the internet. Remedy:
          leave it out; the fence (docs/security.md) decides what is forwarded for containers.
        ''
        ''
          services.gha-runner-controller.settings.ids.first: the ids of containers, from 536870912 on, reach into those that users.users.root
          may give away, 1000000-1000999999. Remedy: settings.ids.first = 1001062400;
        ''
        ''
          services.gha-runner-controller.settings.class.small.docker.enable: there is no Docker in the template default. Remedy:
          virtualisation.docker.enable = true in its configuration, or another template.
        ''
        ''
          services.gha-runner-controller.templates.default: job.user: there is no unprivileged user "nobody-there" in the container. Remedy: define
          users.users.nobody-there, or name another user.
        ''
      ];
    };
    a-secret-without-quotes = {
      configuration = host { token_file = /run/secrets/token; };
      says = [
        ''
          services.gha-runner-controller.settings.token_file: /run/secrets/token is a path without quotes, which Nix copies into its store, where every user
          and every job can read it, as soon as it becomes a text. Remedy: write "/run/secrets/token".
        ''
      ];
    };
    a-host-that-is-a-container = {
      configuration = minimal;
      beside.boot.isContainer = true;
      says = [
        ''
          services.gha-runner-controller.enable: this system is a container (boot.isContainer), which has no ids, links and mounts to give to
          containers of its own. Remedy: enable it on the machine, or in a virtual machine.
        ''
      ];
    };
  };

  # Empty, or one line for each promise that is not kept: of a refused configuration nothing but assertions is evaluated.
  problems = lib.concatLists (
    lib.mapAttrsToList (
      name: case:
      let
        failed = map (found: found.message) (
          lib.filter (found: !found.assertion)
            (nixos case.configuration (case.beside or { })).config.assertions
        );
      in
      map (message: "${name} does not say: ${message}") (lib.subtractLists failed case.says)
      ++ map (message: "${name} says: ${message}") (lib.subtractLists case.says failed)
    ) refused
  );

  # The configuration file a configuration becomes.
  settings = lib.mapAttrs (
    _: system:
    builtins.fromJSON (
      builtins.unsafeDiscardStringContext system.config.services.gha-runner-controller.units.settings
    )
  ) accepted;

  # What the program renders where it is given different things; the rest is accepted by it in `make test-nix`.
  all =
    assert lib.assertMsg (problems == [ ]) (lib.concatLines problems);
    pkgs.linkFarm "gha-runner-controller-module" (
      lib.mapAttrs (_: system: system.config.services.gha-runner-controller.units) {
        inherit (accepted) full former tree;
      }
    );
}
