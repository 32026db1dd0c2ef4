# The options of `services.gha-runner-controller`: one to one the keys of the configuration file (docs/configuration.md),
# in this language's spelling. What is not here is written in `settings`.
{ lib, pkgs }:
let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    types
    ;

  # Left out = the program's own default, so that it is decided in one place.
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
  duration = types.strMatching "([0-9]+ *[a-z]+ *)+";
  size = types.either types.ints.positive types.str;
in
{
  enable = mkEnableOption "the controller that boots a fresh container for each queued CI job";

  package = mkOption {
    type = types.package;
    default = pkgs.callPackage ./package.nix { };
    defaultText = literalExpression "pkgs.callPackage ./package.nix { }";
    description = "The controller, which is also the root half and the guest in the containers.";
  };

  tokenFile = secret "File with the token of every target that names no other";

  maxConcurrent = optional types.ints.positive "Most containers at once; 7 if not set." (example 4);
  pollInterval = optional duration "Time between two looks at a target; 10 seconds if not set." (
    example "30s"
  );
  jobTimeout =
    optional duration "Longest life of a container whose class says nothing; 2 hours if not set."
      (example "45m");
  idleGrace =
    optional duration "How long an idle container that nobody needs may live; a minute if not set."
      (example "5m");
  hostName =
    optional types.str
      "This host's part of runner names; the host's own name if not set. Must differ between hosts that share a repository."
      (example "builder-1");

  credentials = mkOption {
    default = { };
    description = "Credentials that targets name: a token, or a GitHub App's key.";
    example = literalExpression ''
      {
        app = {
          appId = 123456;
          privateKeyFile = "/run/secrets/github-app.pem";
          installationId = 654321;
        };
      }
    '';
    type = types.attrsOf (
      types.submodule {
        options = {
          tokenFile = secret "File with a token";
          appId = optional types.ints.positive "The App's number." (example 123456);
          privateKeyFile = secret "File with the App's private key (PEM)";
          installationId = optional types.ints.positive "The App's installation, where it has several." (
            example 654321
          );
        };
      }
    );
  };

  targets = mkOption {
    default = [ ];
    description = "Whom to serve: each one of `repo`, `org`, `user` and `enterprise`.";
    example = literalExpression ''[ { repo = "octo-org/hello"; } { org = "octo-org"; credential = "app"; } ]'';
    type = types.listOf (
      types.submodule {
        options = {
          repo = optional types.str "A repository." (example "octo-org/hello");
          org = optional types.str "An organisation with its repositories." (example "octo-org");
          user = optional types.str "A user with their repositories." (example "octocat");
          enterprise = optional types.str "An enterprise." (example "octo-corp");
          tokenFile = secret "File with this target's token";
          credential = optional types.str "Name of one of `credentials`." (example "app");
          include =
            optional (types.listOf types.str) "Only repositories that match one of these patterns."
              (example [ "octo-org/web-*" ]);
          exclude =
            optional (types.listOf types.str) "No repositories that match one of these patterns."
              (example [ "octo-org/legacy-*" ]);
          pushedWithin = optional duration "Only repositories that saw a push within this time." (
            example "90d"
          );
          priority = optional types.int "Jobs of a higher priority go first." (example 10);
          weight = optional types.ints.positive "Share among targets of one priority." (example 2);
          maxConcurrent = optional types.ints.positive "Most containers at once for this target." (example 2);
        };
      }
    );
  };

  classes = mkOption {
    default = { };
    description = "Kinds of runners. A job goes to the smallest class that has all its labels. None = one class `default`.";
    example = literalExpression ''
      {
        small = { labels = [ "self-hosted" "linux" ]; cpus = 2; memory = "4G"; };
        big = { labels = [ "self-hosted" "linux" "big" ]; cpus = 8; memory = "32G"; maxConcurrent = 1; };
      }
    '';
    type = types.attrsOf (
      types.submodule {
        options = {
          labels = optional (types.listOf types.str) "Labels it offers." (example [
            "self-hosted"
            "linux"
          ]);
          template = optional types.str "Name of one of `templates`; `default` if not set." (example "rust");
          cpus = optional types.numbers.positive "CPUs a container may use; all if not set." (example 1.5);
          memory = optional size "Memory a container may use, without swap; all if not set." (example "4G");
          tasks = optional types.ints.positive "Processes and threads of a container." (example 4096);
          timeout = optional duration "Longest life of a container; `jobTimeout` if not set." (example "30m");
          maxConcurrent = optional types.ints.positive "Most containers of the class at once." (example 2);
          minIdle = optional types.ints.unsigned "Idle containers kept ready for each target." (example 1);
        };
      }
    );
  };

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
    description = "What containers boot, by the name classes use. There is always one called `default`.";
    default = { };
    example = literalExpression ''
      {
        rust.configuration = { pkgs, ... }: { environment.systemPackages = [ pkgs.cargo pkgs.rustc ]; };
        debian.tree = "/var/lib/machines/gha-runner";
      }
    '';
    type = types.attrsOf (
      types.submodule {
        options = {
          configuration = mkOption {
            type = types.deferredModule;
            default = { };
            description = "A NixOS module merged over the default job container.";
            example = literalExpression "./rust-container.nix";
          };
          tree = optional types.path "A directory tree on the host in place of a NixOS system." (
            example "/var/lib/machines/gha-runner"
          );
          runnerDirectory =
            optional types.path
              "Directory on the host with an unpacked release of the runner, in place of the package of nixpkgs. Each container sees a copy it may write to."
              (example "/var/lib/actions-runner");
        };
      }
    );
  };

  network = {
    pool = optional types.str "`ADDRESS/PREFIX` or `FIRST-LAST`: one subnet of it for each container." (
      example "10.77.0.0/16"
    );
    prefix = optional (types.ints.between 8 30) "Size of a container's subnet." (example 28);
    dns = optional (types.listOf types.str) "Resolvers of containers." (example [ "9.9.9.9" ]);
  };

  http = {
    address = optional types.str "Where status is served; a loopback address." (example "127.0.0.1");
    port = optional types.port "Port of `/health` and `/status`; 8080 if not set, 0 = not at all." (
      example 9180
    );
  };

  github.apiUrl = optional types.str "API of a GitHub server of your own." (
    example "https://github.example.org/api/v3"
  );

  settings = mkOption {
    inherit ((pkgs.formats.json { })) type;
    default = { };
    description = "Any other key of the configuration file, in its own spelling (docs/configuration.md). Wins over the options.";
    example = {
      boot_timeout = "2m";
    };
  };
}
