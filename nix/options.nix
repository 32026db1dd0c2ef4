# The options of `services.gha-runner-controller`. `settings` holds the keys of the configuration file
# (docs/configuration.md), each in the file's own spelling; the command-line suite compares names and defaults with what
# the program reads. Beside it is what is no key of the file, spelt as options are.
{
  lib,
  pkgs,
  # A module that each of `settings.template` has besides.
  template ? { },
}:
let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    mkPackageOption
    types
    ;
  # What has no option is written into the file as it is, and judged by the program.
  freeformType = (pkgs.formats.json { }).type;

  # Left out = the program's own default, so that it is decided in one place: the description only says it, as
  # `DEFAULT if not set`.
  optional =
    type: description: extra:
    mkOption (
      {
        type = types.nullOr type;
        default = null;
        inherit description;
      }
      // extra
    );
  example = value: { example = value; };

  secret =
    what:
    optional types.path
      "${what}. Read by systemd as root when the controller starts, so it may belong to root alone; a path of sops-nix, agenix or a plain file, never one in the Nix store."
      (example "/run/secrets/github-token");
  # The program knows how these are written, and says it in better words than a regular expression.
  duration = types.str;
  size = types.either types.ints.positive types.str;
  # A table of keys, and tables people name.
  table = options: types.submodule { inherit freeformType options; };
  tables = options: types.attrsOf (table options);
  # What one container may use, or all together.
  limits = {
    cpus = optional types.numbers.positive "CPUs that may be used; all if not set." (example 1.5);
    memory = optional size "Memory that may be used, without swap; all if not set." (example "4G");
    tasks = optional types.ints.positive "Most processes and threads." (example 4096);
    io_weight =
      optional (types.ints.between 1 10000) "Share of disk bandwidth against others; 100 if not set."
        (example 50);
  };
in
{
  enable = mkEnableOption "the controller that boots a fresh container for each queued CI job";

  package =
    mkPackageOption
      (
        # nixpkgs may have none; an overlay's counts.
        { gha-runner-controller = pkgs.callPackage ./package.nix { }; } // pkgs
      )
      "gha-runner-controller"
      { extraDescription = "It is the root half and the guest in the containers too."; };

  blockedKernelModules = mkOption {
    type = types.listOf types.str;
    default = [
      "af_alg"
      "algif_aead"
      "algif_hash"
      "algif_rng"
      "algif_skcipher"
      "esp4"
      "esp6"
      "rxrpc"
    ];
    example = [ "rxrpc" ];
    description = ''
      Kernel modules that the host does not load, also not by an alias or for another module. A job can otherwise have
      the kernel load them, and they have let unprivileged users become root before. IPsec of the host needs `esp4` and
      `esp6`; iwd and `cryptsetup benchmark` need `af_alg` and `algif_*`. What is loaded already, by stage 1 for an
      encrypted disk too, stays.
    '';
  };

  imageCache = {
    enable = mkEnableOption "a registry on the loopback ({option}`services.dockerRegistry`) that keeps what jobs fetch from Docker Hub, as the mirror of each class with Docker that names none";
    remoteUrl = mkOption {
      type = types.str;
      default = "https://registry-1.docker.io";
      description = "The registry that it fetches from.";
    };
  };

  nixCache.enable = mkEnableOption "a binary cache on the loopback ({option}`services.ncps`) that keeps what jobs fetch from cache.nixos.org and takes nothing from them, for Nix in each class";

  template = mkOption {
    type = types.deferredModule;
    default = { };
    description = ''
      A NixOS module merged over the default job container (`templates/default/job-container.nix`); short for
      {option}`templates.default.configuration`.
    '';
    example = literalExpression "{ pkgs, ... }: { environment.systemPackages = [ pkgs.nodejs ]; }";
  };

  templates = mkOption {
    description = ''
      The NixOS systems of templates, by the name classes use; what else a template has is in
      {option}`settings.template`.
    '';
    default = { };
    example = literalExpression ''
      {
        rust.configuration = { pkgs, ... }: { environment.systemPackages = [ pkgs.cargo pkgs.rustc ]; };
      }
    '';
    type = types.attrsOf (
      types.submodule {
        options.configuration = mkOption {
          type = types.deferredModule;
          default = { };
          description = "A NixOS module merged over the default job container.";
          example = literalExpression "./rust-container.nix";
        };
      }
    );
  };

  settings = mkOption {
    default = { };
    description = "The configuration file (docs/configuration.md): each key in its own spelling, also one that has no option here.";
    example = {
      max_concurrent = 4;
      class.small.labels = [
        "self-hosted"
        "linux"
      ];
    };
    type = table {
      token_file = secret "File with the token of every target that names no other";

      max_concurrent = optional types.ints.positive "Most containers at once; 7 if not set." (example 4);
      poll_interval =
        optional duration
          "Time between two looks at a repository in which something is queued or running; 10s if not set."
          (example "30s");
      idle_poll_interval =
        optional duration
          "Time between two looks at a repository in which nothing happens, at least; as often as the credential affords if not set."
          (example "5m");
      job_timeout =
        optional duration "Longest run of a job whose class says nothing, from its start; 6h if not set."
          (example "45m");
      idle_timeout =
        optional duration
          "Longest time that a container waits for a job before another takes its place; 4h if not set."
          (example "1h");
      idle_grace =
        optional duration "How long an idle container that nobody needs may live; 1m if not set."
          (example "5m");
      boot_timeout = optional duration "Time from a unit's start to a listening runner; 1m if not set." (
        example "2m"
      );
      registration_linger =
        optional duration
          "How long the registration of a runner that had its job is left to go by itself; 45s if not set."
          (example "1m");
      runner_labels =
        optional (types.listOf types.str)
          "Labels of the class `default`; self-hosted, ci, nix, Linux, and x64 or arm64, as the host is, if not set."
          (example [
            "self-hosted"
            "linux"
          ]);
      runners =
        optional (types.listOf types.str)
          "Classes in a word each: `TYPE-SIZE` or `TYPE-SIZE-docker` with cpu or gpu and a `size`; a table of `class` of the same name overrides single keys."
          (example [
            "cpu-small"
            "cpu-medium-docker"
          ]);
      state_dir =
        optional types.path
          "The controller's records; /var/lib/gha-runner-controller if not set. A directory elsewhere than in /var/lib must be there and belong to the user gha-runner-controller."
          (example "/persistent/gha-runner-controller");
      history_keep = optional duration "How long ended jobs are remembered; 90days if not set." (
        example "1year"
      );
      operators =
        optional types.str
          "Group whose members may operate the controller, besides root; `gha-runner-operators` if not set."
          (example "wheel");
      host_name =
        optional types.str
          "This host's part of runner names; the host's own name if not set. Must differ between hosts that share a repository."
          (example "builder-1");

      credential = mkOption {
        default = { };
        description = "Credentials that targets name: a token, or a GitHub App's key.";
        example = literalExpression ''
          {
            app = {
              app_id = 123456;
              private_key_file = "/run/secrets/github-app.pem";
              installation_id = 654321;
            };
          }
        '';
        type = tables {
          kind = optional (types.enum [
            "github"
            "gitea"
            "forgejo"
          ]) "The kind of forge; github if not set." (example "gitea");
          url = optional types.str "Where a Gitea or Forgejo is." (example "https://git.example.org");
          ca_file =
            optional types.str
              "File with the certificate (PEM) of the authority that signed that forge's; those the host trusts if not set."
              (example "/etc/ssl/own-authority.pem");
          webhook_secret_file = secret "File with the secret shared with that forge, for deliveries to `/webhook/NAME`";
          token_file = secret "File with a token";
          app_id = optional types.ints.positive "The App's number." (example 123456);
          private_key_file = secret "File with the App's private key (PEM)";
          installation_id = optional types.ints.positive "The App's installation; looked up if not set." (
            example 654321
          );
          api_url = optional types.str "API it is for; `github.api_url` if not set." (
            example "https://api.octo-corp.ghe.com"
          );
          share =
            optional (types.numbers.between 0 1)
              "Part of its hourly rate limit that is used at most; 0.5 if not set."
              (example 0.8);
        };
      };

      target = mkOption {
        default = [ ];
        description = "Whom to serve: each one of `repo`, `org`, `user`, `enterprise` and `instance`.";
        example = literalExpression ''[ { repo = "octo-org/hello"; } { org = "octo-org"; credential = "app"; } ]'';
        type = types.listOf (table {
          repo = optional types.str "A repository." (example "octo-org/hello");
          org = optional types.str "An organisation with its repositories." (example "octo-org");
          user = optional types.str "A user with their repositories." (example "octocat");
          enterprise = optional types.str "An enterprise; by scale sets only." (example "octo-corp");
          instance = optional types.bool "Whether it is all of a Gitea or Forgejo." (example true);
          token_file = secret "File with this target's token";
          credential = optional types.str "Name of one of `credential`." (example "app");
          register =
            optional
              (types.enum [
                "organisation"
                "repository"
              ])
              "Where an organisation's runners are registered; with `repository` no permission on the organisation is needed."
              (example "repository");
          runner_group =
            optional types.str
              "Group its runners join, of an organisation or enterprise; its default group if not set."
              (example "builders");
          include =
            optional (types.listOf types.str)
              "Only repositories whose name, without owner, matches one of these patterns."
              (example [ "web-*" ]);
          exclude =
            optional (types.listOf types.str)
              "No repositories whose name, without owner, matches one of these patterns."
              (example [ "legacy-*" ]);
          pushed_within = optional duration "Only repositories that saw a push within this time." (
            example "90d"
          );
          rediscover = optional duration "Time between two looks for repositories; 10m if not set." (
            example "1h"
          );
          classes = optional (types.listOf types.str) "Classes that serve it; all if not set." (example [
            "small"
          ]);
          priority = optional (types.ints.between (-100) 100) "Jobs of a higher priority go first." (
            example 10
          );
          weight = optional (types.ints.between 1 1000) "Share among targets of one priority; 1 if not set." (
            example 2
          );
          max_concurrent = optional types.ints.positive "Most containers at once for this target." (
            example 2
          );
          forks =
            optional
              (types.enum [
                "refuse"
                "allow"
              ])
              "Whether jobs of public repositories that were triggered from forks run; refuse if not set."
              (example "allow");
        });
      };

      class = mkOption {
        default = { };
        description = "Kinds of runners. A job goes to the smallest class that has all its labels. None = one class `default`.";
        example = literalExpression ''
          {
            small = { labels = [ "self-hosted" "linux" ]; cpus = 2; memory = "4G"; };
            big = { labels = [ "self-hosted" "linux" "big" ]; cpus = 8; memory = "32G"; max_concurrent = 1; };
          }
        '';
        type = tables (
          limits
          // {
            labels = optional (types.listOf types.str) "Labels it offers." (example [
              "self-hosted"
              "linux"
            ]);
            template = optional types.str "Name of one of `template`; `default` if not set." (example "rust");
            size =
              optional
                (types.enum [
                  "xs"
                  "small"
                  "medium"
                  "large"
                  "max"
                ])
                "`cpus`, `memory` and `tasks` in a word: xs (1, 2G), small (2, 4G, 2048), medium (6, 16G, 4096), large (12, 32G, 8192) or max (no limits); each of the three counts before it."
                (example "medium");
            timeout = optional duration "Longest run of a job, from its start; `job_timeout` if not set." (
              example "30m"
            );
            max_concurrent = optional types.ints.positive "Most containers of the class at once." (example 2);
            min_idle =
              optional types.ints.unsigned
                "Idle containers kept ready for each place its runners are registered with."
                (example 1);
            min_idle_hours =
              optional (types.listOf types.str) "When they are kept ready, in the host's time; always if not set."
                (example [ "Mon..Fri 07:55..18:00" ]);
            intake =
              optional
                (types.enum [
                  "polling"
                  "scale-set"
                  "auto"
                ])
                "How its jobs are found: by polling; by a runner scale set of each scope; or (`auto`) by a scale set where the credential allows it; `polling` if not set."
                (example "scale-set");
            disk =
              optional size
                "Disk space one container may use for all it writes, Docker's images included; no limit if not set."
                (example "40G");
            gpu =
              optional
                (types.oneOf [
                  types.bool
                  types.str
                  (types.listOf types.str)
                ])
                "Graphics processors of the host that containers get: all, a vendor's, devices of a CDI specification or render nodes; docs/templates.md has the names."
                (example "nvidia.com/gpu=0");
            devices =
              optional
                (types.listOf (
                  types.enum [
                    "kvm"
                    "fuse"
                    "tun"
                    "loop"
                  ]
                ))
                "Devices that containers get beyond the usual ones; what each costs is in docs/security.md."
                (example [
                  "kvm"
                ]);
            privileged =
              optional types.bool
                "Whether containers have no user namespace: root inside is then root of the host (docs/security.md)."
                (example true);
            cache = mkOption {
              default = { };
              description = "Directories that outlive containers.";
              example = literalExpression ''{ ccache = { at = "/home/runner/.cache/ccache"; size = "20G"; }; }'';
              type = tables {
                at = optional types.path "Where containers see it; `/srv/gha-cache/NAME` if not set." (
                  example "/home/runner/.cache/ccache"
                );
                size = optional size "The most it holds; 10G if not set." (example "20G");
                tool_cache =
                  optional types.bool
                    "Whether it is the runner's tool cache, where actions such as setup-node keep what they unpack; one of a class."
                    (example true);
                per =
                  optional
                    (types.enum [
                      "target"
                      "class"
                    ])
                    "Whether the jobs of each target share one, or all of the class; `target` if not set."
                    (example "class");
              };
            };
            services =
              optional (types.listOf types.str) "Names of `service` that its containers reach."
                (example [ "registry" ]);
            network = {
              internet = optional types.bool "Whether public addresses can be reached; true if not set." (
                example false
              );
              allow =
                optional (types.listOf types.str)
                  "Destinations that are reached beyond that, also on the host or in its network: `ADDRESS[/PREFIX][:PORTS]`."
                  (example [
                    "192.168.1.20:5432"
                  ]);
              shared = optional (types.listOf types.str) "Names of `network.shared` that are reached." (example [
                "database"
              ]);
              dns = optional (types.listOf types.str) "Resolvers; `network.dns` if not set." (example [
                "192.168.1.1"
              ]);
            };
            nix = {
              substituters =
                optional (types.listOf types.str)
                  "Binary caches that Nix inside asks besides those of the template."
                  (example [ "http://cache.host.internal:8501" ]);
              trusted_public_keys =
                optional (types.listOf types.str)
                  "Keys whose signatures count in Nix inside besides those of the template."
                  (example [ "cache:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" ]);
            };
            docker = {
              enable = optional types.bool "Whether jobs may use Docker, which the default template has." (
                example true
              );
              mirror = optional types.str "Root of a registry that is asked before Docker Hub." (
                example "http://192.168.1.20:5000"
              );
              mirrors =
                optional (types.attrsOf types.str)
                  "Roots of registries that are asked before others than Docker Hub, by the names of these; Docker 28 and newer heeds them; none if not set."
                  (example {
                    "ghcr.io" = "http://192.168.1.20:5001";
                  });
              pool = optional types.str "Where Docker's networks inside get their subnets." (
                example "172.20.0.0/14"
              );
              keep = optional types.bool "Whether image stores outlive containers." (example true);
              keep_size = optional size "The most each store holds; 20G if not set." (example "50G");
            };
          }
        );
      };

      template = mkOption {
        default = { };
        description = "What containers boot, by the name classes use: a NixOS system that the module builds (of `templates.NAME`), or a tree. There is always one called `default`.";
        example = literalExpression ''
          {
            rust.runner_dir = "/var/lib/actions-runner";
            debian.path = "/var/lib/machines/gha-runner";
          }
        '';
        type = types.attrsOf (
          types.submodule [
            {
              inherit freeformType;
              options = {
                runner_dir =
                  optional types.path
                    "Directory on the host with an unpacked release of the runner, in place of the package of nixpkgs. Each container sees a copy it may write to."
                    (example "/var/lib/actions-runner");
                kind = optional (types.enum [
                  "github"
                  "gitea"
                  "forgejo"
                ]) "The kind of forge its runner is for; github if not set." (example "gitea");
                runner_version =
                  optional types.str "Version of the runner program; read from the template if not set."
                    (example "2.336.0");
                path = optional types.path "A directory tree on the host in place of a NixOS system." (
                  example "/var/lib/machines/gha-runner"
                );
                runner =
                  optional types.path
                    "A tree's runner program; `/opt/actions-runner/bin/Runner.Listener` if not set. A system's is `job.runner`."
                    (example "/usr/lib/actions-runner/bin/Runner.Listener");
                user = optional types.str "A tree's job user; `runner` if not set. A system's is `job.user`." (
                  example "builder"
                );
                nix_store =
                  optional types.path
                    "Nix store of the host that a tree sees at /nix/store; none if not set. A system always sees it."
                    (example "/nix/store");

                system = optional types.path "The NixOS system; set by the module wherever there is no `path`." (
                  example "/nix/store/…-nixos-system-job"
                );
              };
            }
            template
          ]
        );
      };

      network = {
        pool =
          optional types.str
            "`ADDRESS/PREFIX` or `FIRST-LAST`: one subnet of it for each container; 192.168.100.0-192.168.199.0 if not set."
            (example "10.77.0.0/16");
        prefix = optional (types.ints.between 8 30) "Size of a container's subnet; 24 if not set." (
          example 28
        );
        dns =
          optional (types.listOf types.str) "Resolvers of containers; 9.9.9.9, 1.1.1.1 if not set."
            (example [ "9.9.9.9" ]);
        connections =
          optional types.ints.positive "Most connections of one container at once; 8192 if not set."
            (example 20000);
        deny =
          optional (types.listOf types.str)
            "Networks beyond the private and special ones that containers may not reach, e.g. a local one with public addresses."
            (example [ "203.0.113.0/24" ]);
        shared = mkOption {
          default = { };
          description = "Services that jobs share, by the name classes use.";
          example = literalExpression ''{ database = { destination = "10.9.0.5:5432"; interface = "services"; }; }'';
          type = tables {
            destination = optional types.str "`ADDRESS[/PREFIX][:PORTS]`" (example "10.9.0.5:5432");
            interface = optional types.str "The host's link that leads there; any if not set." (
              example "services"
            );
          };
        };
      };

      # All containers together.
      inherit limits;

      admission = {
        min_free_disk =
          optional (types.either types.ints.unsigned types.str)
            "Below this much free space, of the state directory's file system or the containers', nothing is started; 1G if not set, 0 is not watched."
            (example "20G");
        min_free_inodes =
          optional types.ints.unsigned
            "The same for inodes, where the file system counts them; 10000 if not set."
            (example 50000);
        max_memory_pressure =
          optional (types.ints.between 0 100)
            "Above this percentage of time in which every process waits for memory, containers start one at a time; 40 if not set, 0 is not watched."
            (example 20);
        max_io_pressure =
          optional (types.ints.between 0 100) "The same for disks and file systems; 90 if not set."
            (example 60);
        max_cpu_pressure =
          optional (types.ints.between 0 100)
            "The same where some process waits for a processor, which is usual on a host that is used well; 0 if not set."
            (example 95);
      };

      retry = {
        per_job =
          optional (types.ints.between 0 10)
            "How often a job that was lost because the host was restarted under it is run again at GitHub at most; 0 if not set, which is never."
            (example 1);
        per_hour =
          optional (types.ints.between 1 1000)
            "How many jobs are run again within an hour at most; 10 if not set."
            (example 20);
      };

      ids.first =
        optional types.ints.positive
          "Lowest user and group id of containers, a multiple of 65536; 536870912 if not set."
          (example 1073741824);

      http = {
        address =
          optional types.str
            "Where status is served; 127.0.0.1 if not set. One that other machines reach takes `http.token_file`."
            (example "127.0.0.1");
        port = optional types.port "Port of `/health` and `/status`; 8080 if not set, 0 = not at all." (
          example 9180
        );
        token_file = secret "File with the token readers must show; required where other machines reach the address";
      };

      github.api_url =
        optional types.str "API of every credential that names none; https://api.github.com if not set."
          (example "https://github.example.org/api/v3");

      proxy = {
        url =
          optional types.str
            "The HTTP proxy by which this host and its containers reach what is outside, without user and password."
            (example "http://proxy.example.org:3128");
        address = optional types.str "Its IPv4 address; required where `proxy.url` has a name." (
          example "192.168.1.9"
        );
        except =
          optional (types.listOf types.str)
            "What is reached without it: names with all below them, addresses, networks."
            (example [
              "example.org"
              "10.0.0.0/8"
            ]);
      };

      service = mkOption {
        default = { };
        description = "What listens on this host, or beside it, and is for jobs, by the name classes use. The host's firewall lets containers pass to what is on the loopback.";
        example = literalExpression ''{ registry.address = "127.0.0.1:5000"; }'';
        type = tables {
          address = optional types.str "Where it listens, `ADDRESS:PORT`." (example "127.0.0.1:5000");
        };
      };

      webhook = {
        address = optional types.str "Where webhook deliveries arrive; 127.0.0.1 if not set." (
          example "192.168.1.20"
        );
        port = optional types.port "Port of it; 8081 if not set." (example 9181);
        secret_file = secret "File with the secret shared with the forge; without it there is no webhook";
      };

    };
  };
}
