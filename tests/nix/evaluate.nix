# Everything of the project that takes a nixpkgs to evaluate, as one value a shell script can judge.
#   part: which part of it; nixpkgs: a tree; snippets: files with Nix code of the documents, by place; migration: names
#   of options the documents' tables have.
{
  nixpkgs,
  part,
  snippets ? { },
  migration ? { },
}:
let
  pkgs = import nixpkgs {
    system = "x86_64-linux";
    config = { };
    overlays = [ ];
  };
  inherit (pkgs) lib;
  project = import ../.. { inherit pkgs; };
  module = import ../../nix/checks/module.nix { inherit pkgs; };

  # What the host adds to a unit of the program, as drop-ins: never a unit of its own in its place.
  additions = lib.mapAttrs (
    _: system:
    lib.mapAttrs (_: unit: {
      inherit (unit) overrideStrategy;
      keys = lib.unique (
        map (line: lib.head (lib.splitString "=" line)) (
          lib.filter (line: lib.hasInfix "=" line) (lib.splitString "\n" unit.text)
        )
      );
    }) (lib.filterAttrs (name: _: lib.hasPrefix "gha-runner-" name) system.config.systemd.units)
  ) module.accepted;
  allowed = [
    "Environment"
    "PartOf"
    "ReloadPropagatedFrom"
    "WantedBy"
    "X-ReloadIfChanged"
    "X-Restart-Triggers"
    "X-RestartIfChanged"
    "X-StopIfChanged"
  ];

  fails = condition: text: lib.optional (!condition) text;
  host =
    name:
    let
      inherit (module.accepted.${name}) config;
      cfg = config.services.gha-runner-controller;
    in
    fails (lib.elem cfg.units config.systemd.packages) "${name}: the rendered units are not installed"
    ++ fails (lib.elem cfg.units config.services.udev.packages) "${name}: udev does not get its rules"
    ++
      lib.concatMap
        (
          file:
          fails (
            config.environment.etc.${file}.source == "${cfg.units}/lib/${file}"
          ) "${name}: the rendered ${file} is not installed"
        )
        [
          "gha-runner-controller/settings.json"
          "sysctl.d/60-gha-runner-controller.conf"
          "systemd/network/00-gha-runner.link"
          "systemd/network/00-gha-runner.network"
        ]
    ++ fails (lib.hasInfix "install algif_hash "
      config.environment.etc."modprobe.d/gha-runner-controller.conf".text
    ) "${name}: a job can have the kernel load modules"
    ++ fails (
      config.systemd.services.gha-runner-controller.wantedBy == [ "multi-user.target" ]
    ) "${name}: nothing starts the controller"
    ++ fails (
      config.systemd.sockets.gha-runner-launcher.wantedBy == [ "sockets.target" ]
    ) "${name}: nobody listens for what the controller asks to be started"
    ++ fails (
      !config.systemd.services.gha-runner-launcher.restartIfChanged
    ) "${name}: a switch stops the launcher, and its socket with it"
    ++ fails (
      config.boot.kernel.sysctl."vm.max_map_count" >= 1048576
    ) "${name}: a job that needs maps of memory does not get them"
    # Of what our file says, nothing less counts in its place.
    ++
      lib.concatMap
        (
          key:
          fails (config.boot.kernel.sysctl.${key} == null)
            "${name}: ${key} is ${toString config.boot.kernel.sysctl.${key}}"
        )
        [
          "fs.inotify.max_user_watches"
          "kernel.keys.maxkeys"
        ]
    ++
      lib.concatMap
        (
          unit:
          map (package: "${name}: ${unit} does not find the programs of ${lib.getName package}") (
            lib.filter (package: !lib.elem package config.systemd.services.${unit}.path) [
              pkgs.e2fsprogs
              pkgs.nftables
              pkgs.util-linux
            ]
          )
        )
        (
          lib.filter (lib.hasPrefix "gha-runner-") (
            lib.subtractLists [ "gha-runner-controller" "gha-runner-launcher" ] (
              lib.attrNames config.systemd.services
            )
          )
        )
    ++ fails config.virtualisation.vmVariant.virtualisation.useNixStoreImage "${name}: no container boots in build-vm"
    ++ fails (!config.security.polkit.enable) "${name}: polkit, which nothing here needs"
    ++ lib.concatLists (
      lib.mapAttrsToList (
        unit: added:
        fails (added.overrideStrategy == "asDropin") "${name}: ${unit} would replace the program's own"
        ++ fails (
          lib.subtractLists allowed added.keys == [ ]
        ) "${name}: ${unit} is changed in ${toString added.keys}"
      ) additions.${name}
    );

  overlay =
    let
      overlaid = pkgs.extend (_: _: { gha-runner-controller = pkgs.hello; });
      options = import ../../nix/options.nix {
        inherit lib;
        pkgs = overlaid;
      };
    in
    fails (options.package.default == pkgs.hello) "an overlay's package is not taken";

  # Former names become the same file, beside new ones, and each is warned about with its new one.
  former =
    let
      warned =
        name:
        lib.any (lib.hasInfix "`services.gha-runner-controller.settings.${name}'") module.accepted.former.config.warnings;
      named = [
        "token_file"
        "http.token_file"
        "target"
        "credential"
        "class"
        "template.default.runner_dir"
        "template.debian.path"
      ];
      file = module.settings.former // {
        template = lib.mapAttrs (
          _: template: lib.removeAttrs template [ "system" ]
        ) module.settings.former.template;
      };
    in
    fails (
      file == {
        token_file = "/run/secrets/token";
        http.token_file = "/run/secrets/readers";
        job_timeout = "1h";
        target = [
          {
            repo = "octo-org/hello";
            credential = "my-app";
            max_concurrent = 2;
          }
        ];
        credential.my-app = {
          app_id = 1;
          private_key_file = "/run/secrets/app.pem";
        };
        class.big-one = {
          labels = [ "big" ];
          min_idle = 2;
          cache.git-lfs.tool_cache = true;
          docker = {
            enable = true;
            keep = true;
            keep_size = "50G";
          };
        };
        template.default = {
          runner_dir = "/var/lib/actions-runner";
          runner = "/opt/actions-runner/bin/Runner.Listener";
          user = "runner";
        };
        template.debian.path = "/var/lib/machines/gha-runner";
      }
    ) "former names become ${builtins.toJSON file}"
    ++ lib.concatMap (name: fails (warned name) "former: nothing is said of ${name}") named
    ++ fails (
      lib.length (lib.filter (lib.hasInfix "has been renamed to") module.accepted.former.config.warnings)
      == lib.length named
    ) "former: ${builtins.toJSON module.accepted.former.config.warnings}"
    ++ fails (
      !lib.any (lib.hasInfix "has been renamed to") module.accepted.full.config.warnings
    ) "full: a name is said to be a former one";

  # What is written in two places is a conflict of NixOS' own, under whichever name; what is the same is none.
  twice =
    let
      evaluates =
        configuration:
        (builtins.tryEval
          (module.nixos configuration { }).config.services.gha-runner-controller.units.settings
        ).success;
      two = value: module.host { max_concurrent = 4; } // { maxConcurrent = value; };
      runner = value: module.host { template.default.runner = value; };
    in
    fails (evaluates (two 4)) "the same value in two places is refused"
    ++ fails (!evaluates (two 3)) "two values of one key are accepted"
    ++ fails (!evaluates (runner "/opt/runner")) "a system's runner is not its own"
    ++ fails (evaluates (runner (lib.mkForce "/opt/runner"))) "a system's runner cannot be forced";

  # A runner that GitHub refuses is warned about, where it is GitHub who refuses and the packaged runner that is used.
  runner =
    let
      oldest = import ../../nix/oldest-runner.nix;
      warned =
        version: settings: container:
        lib.any (lib.hasInfix "GitHub gives no jobs to the runner")
          (module.nixos (
            module.host settings
            // {
              template.imports = [
                container
                {
                  job.runner.package = pkgs.github-runner // {
                    inherit version;
                  };
                }
              ];
            }
          ) { }).config.warnings;
    in
    fails (warned "2.336.0" { } { }) "runner: nothing is said of one that is too old"
    ++ fails (warned "2.336.0" {
      github.api_url = "https://api.octo-corp.ghe.com/";
    } { }) "runner: nothing is said of one that is too old for a cloud of its own"
    ++ fails (!warned oldest { } { }) "runner: the oldest that is accepted is said to be refused"
    ++ fails (
      !warned "2.336.0" { github.api_url = "https://github.example.org/api/v3"; } { }
    ) "runner: a server of one's own is said to refuse it"
    ++ fails (
      !warned "2.336.0" { } { job.runner.program = "/opt/runner"; }
    ) "runner: one that is not used is said to be refused";

  # What other hosts write by hand is what this module does.
  modprobe =
    let
      inherit (module.accepted.minimal.config.services.gha-runner-controller) blockedKernelModules;
      file = lib.concatMapStrings (name: "install ${name} /bin/false\n") blockedKernelModules;
    in
    fails (lib.hasInfix "\n```\n${file}```\n" (builtins.readFile ../../docs/security.md)) "docs/security.md does not say ${file}";

  # Nobody else's firewall stands in the way of what the fence lets pass.
  neighbours =
    let
      inherit (module.accepted.neighbours) config;
    in
    fails (lib.hasInfix ''iifname "gj-*" accept'' config.networking.firewall.extraForwardRules) "neighbours: the firewall forwards nothing"
    ++ fails (lib.hasInfix "accept -i gj-+" config.systemd.services.docker.postStart) "neighbours: Docker forwards nothing"
    ++ fails (
      config.boot.kernel.sysctl."kernel.pty.max" == 50000
    ) "neighbours: the host has no say in its limits";

  # One option has jobs pull from the host.
  images =
    let
      inherit (module.accepted.images) config;
      registry = config.services.dockerRegistry;
    in
    fails (
      registry.enable && registry.listenAddress == "127.0.0.1"
    ) "images: no registry runs on the loopback"
    ++ fails (
      registry.extraConfig.proxy.remoteurl == "https://registry-1.docker.io"
    ) "images: the registry fetches nothing"
    ++ fails (
      config.services.ncps.enable && config.services.ncps.server.addr == "127.0.0.1:8501"
    ) "images: no binary cache runs on the loopback"
    ++ fails (lib.hasInfix "--dport 5000 -j nixos-fw-accept" config.networking.firewall.extraCommands) "images: the firewall keeps jobs from the registry";

  container =
    let
      inherit (module.accepted.minimal.config.services.gha-runner-controller.containers.default) config;
    in
    fails (
      config.job.environment ? NIX_PATH == lib.hasPrefix builtins.storeDir (toString pkgs.path)
    ) "container: <nixpkgs> is not that of its packages"
    ++ (
      let
        full = module.accepted.full.config.services.gha-runner-controller.containers.default.config;
      in
      fails (
        full.job.environment.NIX_PATH == "nixpkgs=${full.job.nixpkgs}"
        && full.nix.registry.nixpkgs.to.path == "${full.job.nixpkgs}"
      ) "container: <nixpkgs> is not what was named"
      ++ fails (
        full.job.environment.FLAKE == "of a flake"
      ) "container: a template does not get what the host's modules get"
    )
    ++ fails (lib.any
      (package: lib.isDerivation package && package.name == "docker" && package.meta.priority or 5 < 5)
      config.environment.systemPackages
    ) "container: Docker in jobs' containers starts no Node.js of the store"
    ++ fails (
      config.systemd.services.docker.wantedBy == [ ]
    ) "container: Docker starts without being asked"
    ++ fails (
      config.systemd.services.nix-daemon.wantedBy == [ ]
    ) "container: the Nix daemon starts without being asked"
    ++ fails (
      config.systemd.sockets.nix-daemon.wantedBy == [ "sockets.target" ]
    ) "container: nobody listens for Nix"
    ++ fails (
      config.virtualisation.docker.enable
      && config.systemd.sockets.docker.wantedBy == [ "sockets.target" ]
    ) "container: nobody listens for Docker"
    ++ fails config.programs.nix-ld.enable "container: no nix-ld"
    ++ fails (
      config.virtualisation.docker.extraOptions == "--config-file=/etc/docker/daemon.json"
    ) "container: Docker does not read what the guest writes"
    ++ fails (
      config.environment.etc."docker/daemon.json".mode == "0644"
    ) "container: the guest cannot write for Docker"
    ++ fails (
      config.systemd.services.gha-runner-guest.overrideStrategy == "asDropin"
    ) "container: the guest's unit is replaced"
    ++ fails (
      config.systemd.services.gha-runner-guest.after == [ ]
    ) "container: the guest waits for ${toString config.systemd.services.gha-runner-guest.after}";

  # A snippet is a module of the host, a flake, or what stands in a template's place.
  snippet =
    place: file:
    let
      expression = import file;
      evaluated = import (pkgs.path + "/nixos/lib/eval-config.nix") {
        inherit lib;
        system = null;
        modules = [
          ../../nix/module.nix
          (
            { ... }:
            {
              # What sops-nix and agenix would declare.
              options = lib.genAttrs [ "sops" "age" ] (_: lib.mkOption { type = lib.types.raw; });
              config = {
                nixpkgs.pkgs = pkgs;
                system.stateVersion = lib.trivial.release;
                boot.loader.grub.enable = false;
                fileSystems."/" = {
                  device = "/dev/vda";
                  fsType = "ext4";
                };
                services.gha-runner-controller = {
                  enable = true;
                  settings.token_file = lib.mkDefault "/run/token";
                };
                sops.secrets.github-token.path = "/run/secrets/github-token";
                age.secrets.github-token.path = "/run/agenix/github-token";
              };
            }
          )
          expression
        ];
      };
      failed = lib.filter (found: !found.assertion) evaluated.config.assertions;
    in
    if expression ? outputs then
      {
        flake = lib.attrNames (
          expression.outputs {
            self = { };
            nixpkgs = {
              inherit lib;
              legacyPackages.x86_64-linux = pkgs;
            };
            gha-runner-controller.nixosModules.default = ../../nix/module.nix;
          }
        );
      }
    else
      {
        failed = map (found: "${place}: ${found.message}") failed;
        settings = builtins.fromJSON (
          builtins.unsafeDiscardStringContext evaluated.config.services.gha-runner-controller.units.settings
        );
        system = builtins.unsafeDiscardStringContext evaluated.config.system.build.toplevel.drvPath;
        # Where the snippet is of a virtual machine.
        vm = lib.optionalString (lib.hasInfix "vmVariant" (builtins.readFile file)) (
          builtins.unsafeDiscardStringContext evaluated.config.system.build.vm.drvPath
        );
      };

  # Whether there is an option of this name; `<name>`, `*` or a name people choose stand for an element.
  exists =
    options: path:
    path == [ ]
    || (
      options ? ${lib.head path}
      && (
        let
          option = options.${lib.head path};
          rest = lib.tail path;
          inner = if option.type.nestedTypes ? elemType then lib.drop 1 rest else rest;
        in
        if lib.isOption option then
          inner == [ ] || exists (option.type.getSubOptions [ ]) inner
        else
          exists option rest
      )
    );
  renamed =
    let
      inherit (module.accepted.minimal) options;
      container = module.accepted.minimal.config.services.gha-runner-controller.containers.default;
      known =
        name:
        if lib.hasPrefix "template." name then
          exists container.options (lib.tail (lib.splitString "." name))
        else
          exists options.services.gha-runner-controller (lib.splitString "." name);
    in
    lib.concatMap (name: fails (known name) "docs/nixos.md: there is no option ${name}") migration.here
    ++ lib.concatMap (
      name: fails (exists options (lib.splitString "." name)) "docs/nixos.md: NixOS has no option ${name}"
    ) migration.there;

  # The host `nix flake init -t` gives, as it is, and what the walk-through's commands say of it.
  template =
    let
      inherit ((import ../../templates/default/flake.nix).inputs.gha-runner-controller) url;
      outputs = (import ../../templates/default/flake.nix).outputs {
        nixpkgs.lib = lib // {
          nixosSystem =
            arguments:
            import (pkgs.path + "/nixos/lib/eval-config.nix") (
              arguments
              // {
                inherit lib;
                system = null;
                modules = arguments.modules ++ [ { nixpkgs.pkgs = pkgs; } ];
              }
            );
        };
        gha-runner-controller.nixosModules.default = ../../nix/module.nix;
      };
      inherit (outputs.nixosConfigurations.builder) config;
      cfg = config.services.gha-runner-controller;
      walk = builtins.readFile ../../docs/nixos.md;
      says = text: fails (lib.hasInfix text walk) "docs/nixos.md does not say ${text}";
      # Every line of the walk-through, and no other.
      commands = [
        "cd /etc/nixos && nix --extra-experimental-features 'nix-command flakes' \\\n    flake init -t ${url}"
        "nixos-generate-config --show-hardware-config > hardware-configuration.nix"
        "install -D -m 600 /dev/stdin ${toString cfg.settings.token_file}      # paste the token, then Ctrl-D"
        "sed -i 's|${(lib.head cfg.settings.target).repo}|OWNER/REPOSITORY|' configuration.nix"
        "nixos-rebuild switch --flake .#${lib.head (lib.attrNames outputs.nixosConfigurations)}"
      ];
    in
    fails (lib.hasSuffix ".drv" config.system.build.toplevel.drvPath) "the template does not evaluate"
    ++ fails (cfg.containers.default.config.system.build.toplevel ? drvPath) "nor does its container"
    ++ fails (builtins.pathExists ../../templates/default/hardware-configuration.nix) "no file to replace"
    ++ says "in five commands:\n\n```\n${lib.concatStringsSep "\n" commands}\n```\n"
    ++ says "inputs.gha-runner-controller.url = \"${url}\";"
    ++ fails (lib.hasInfix "repo = \"${(lib.head cfg.settings.target).repo}\"" (builtins.readFile ../../templates/default/configuration.nix)) "the template has nothing to replace"
    ++ says "runs-on: [${lib.concatStringsSep ", " cfg.settings.class.small.labels}]";
in
{
  inherit template renamed;
  module =
    module.problems
    ++ lib.concatMap host (lib.attrNames module.accepted)
    ++ overlay
    ++ former
    ++ twice
    ++ runner
    ++ modprobe
    ++ images
    ++ neighbours
    ++ container;
  inherit (module) settings;
  options = import ../../nix/options-doc.nix { inherit pkgs; };
  systems =
    lib.mapAttrs (_: system: system.config.system.build.toplevel.drvPath) module.accepted
    // lib.mapAttrs' (
      name: container:
      lib.nameValuePair "container-${name}" container.config.system.build.toplevel.drvPath
    ) module.accepted.full.config.services.gha-runner-controller.containers;
  wrong = project.tests.nixos-wrong.cases;
  snippets = lib.mapAttrs snippet snippets;
}
.${part}
