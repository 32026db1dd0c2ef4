# The names that options had before `settings` held the keys of the file: configurations that use them evaluate, with a
# warning that names the new ones.
{
  config,
  lib,
  options,
  ...
}:
let
  pure = import ./settings.nix;
  place = [
    "services"
    "gha-runner-controller"
  ];
  cfg = config.services.gha-runner-controller;
  old = options.services.gha-runner-controller;
  hidden = option: lib.mkOption ({ visible = false; } // option);

  leaves = [
    "bootTimeout"
    "github.apiUrl"
    "historyKeep"
    "hostName"
    "http.address"
    "http.port"
    "http.tokenFile"
    "idleGrace"
    "idlePollInterval"
    "ids.first"
    "jobTimeout"
    "limits.cpus"
    "limits.ioWeight"
    "limits.memory"
    "limits.tasks"
    "maxConcurrent"
    "network.connections"
    "network.deny"
    "network.dns"
    "network.pool"
    "network.prefix"
    "network.shared"
    "operators"
    "pollInterval"
    "proxy.address"
    "proxy.except"
    "proxy.url"
    "registrationLinger"
    "runnerLabels"
    "stateDir"
    "tokenFile"
    "webhook.address"
    "webhook.port"
    "webhook.secretFile"
  ];

  # nixpkgs renames an option, and not the keys inside of one.
  tables = {
    classes = {
      to = "class";
      spelled = pure.tables;
    };
    credentials = {
      to = "credential";
      spelled = pure.tables;
    };
    targets = {
      to = "target";
      spelled = pure.table;
    };
  };

  # Of `templates.NAME`.
  ofTemplate = {
    nixStore = "nix_store";
    runner = "runner";
    runnerDirectory = "runner_dir";
    runnerVersion = "runner_version";
    tree = "path";
    user = "user";
  };
  renamed =
    template:
    lib.mapAttrs' (from: to: lib.nameValuePair to template.${from}) (
      lib.filterAttrs (from: _: template.${from} != null) ofTemplate
    );
in
{
  imports = map (
    name:
    lib.mkRenamedOptionModule (place ++ lib.splitString "." name) (
      place ++ [ "settings" ] ++ lib.splitString "." (pure.snake name)
    )
  ) leaves;

  options.services.gha-runner-controller =
    lib.mapAttrs (
      _:
      { to, ... }:
      hidden {
        description = "Former name of `settings.${to}`.";
        apply = _: cfg.settings.${to};
      }
    ) tables
    // {
      templates = lib.mkOption {
        type = lib.types.attrsOf (
          lib.types.submodule {
            options = lib.mapAttrs (
              _: to:
              hidden {
                description = "Former name of `settings.template.NAME.${to}`.";
                type = lib.types.nullOr lib.types.raw;
                default = null;
              }
            ) ofTemplate;
          }
        );
      };
    };

  config = {
    warnings =
      lib.concatLists (
        lib.mapAttrsToList (
          name:
          { to, ... }:
          lib.optional old.${name}.isDefined ''
            The option `services.gha-runner-controller.${name}' defined in ${
              lib.showFiles (lib.unique old.${name}.files)
            } has been renamed to
            `services.gha-runner-controller.settings.${to}', with keys in the file's spelling (docs/configuration.md):
            max_concurrent for maxConcurrent.
          ''
        ) tables
      )
      ++ lib.concatLists (
        lib.mapAttrsToList (
          name: template:
          lib.mapAttrsToList (from: to: ''
            The option `services.gha-runner-controller.templates.${name}.${from}' has been renamed to
            `services.gha-runner-controller.settings.template.${name}.${to}'.
          '') (lib.filterAttrs (from: _: template.${from} != null) ofTemplate)
        ) cfg.templates
      );

    services.gha-runner-controller.settings =
      lib.mapAttrs' (
        name:
        { to, spelled }:
        lib.nameValuePair to (
          lib.mkIf old.${name}.isDefined (
            lib.mkMerge (
              map (value: lib.mkOverride old.${name}.highestPrio (spelled value)) old.${name}.definitions
            )
          )
        )
      ) tables
      // {
        template = lib.mapAttrs (_: renamed) cfg.templates;
      };
  };
}
