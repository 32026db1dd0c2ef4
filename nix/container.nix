# What every job container needs, whatever is in it: a boot without anything that serves no job, the guest that runs
# one job and ends the container, and the forge's runner.
{
  config,
  options,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.job;
  inherit (lib)
    mkDefault
    mkForce
    mkOption
    types
    ;
  program = "${cfg.package}/bin/gha-runner-guest";

  guestUnit = pkgs.runCommand "gha-runner-guest-unit" { } ''
    mkdir -p "$out/lib/systemd/system"
    ${cfg.package}/bin/gha-runner-controller units --guest-unit --binary ${program} >"$out/lib/systemd/system/gha-runner-guest.service"
  '';

  # What Nix in the container knows to be complete: the programs a job finds, with all they depend on, and whatever is
  # added. Not the system itself, which would have to contain its own description.
  registration = pkgs.closureInfo {
    rootPaths = [ config.system.path ] ++ cfg.storePaths ++ lib.optional (nixpkgs != null) nixpkgs;
  };

  nixpkgs = if cfg.nixpkgs == null then null else "${cfg.nixpkgs}";
  # Where the system's own packages come from, if that is in the store already: of what is elsewhere nobody knows how
  # large it is. A flake's is a path of the store; a channel is reached by links, which `storePath` follows, but not
  # where evaluation is pure.
  origin =
    let
      path = toString pkgs.path;
    in
    if lib.hasPrefix "${builtins.storeDir}/" path then
      builtins.appendContext path {
        ${lib.concatStringsSep "/" (lib.take 4 (lib.splitString "/" path))}.path = true;
      }
    else if builtins ? currentSystem && lib.hasPrefix "/nix/var/nix/profiles/" path then
      builtins.storePath path
    else
      null;

  # What the runner starts in the containers of jobs (`container:`). The package has links into the store, which such a
  # container does not see.
  node = pkgs.runCommand "job-node" { } ''
    mkdir "$out"
    for node in ${cfg.runner.package}/lib/externals/*; do
      [ ! -e "$node" ] || for name in "''${node##*/}" "''${node##*/}_alpine"; do
        ln -s "$(readlink -f "$node")" "$out/$name"
      done
    done
  '';
  docker = pkgs.writeShellScriptBin "docker" ''
    docker=${config.virtualisation.docker.package}/bin/docker
    node=${node}
    closure=${pkgs.closureInfo { rootPaths = [ node ]; }}/store-paths
    ${builtins.readFile ./docker.sh}
  '';

  user = config.users.users.${cfg.user};
  quoted = lib.escapeShellArg;

  # What NixOS' scripts for /etc, /bin/sh and /usr/bin/env make: they compare it with what an older system left there. A
  # container has none, so it is copied.
  inherit (config.system.build) etc;
  copied = lib.filter (
    entry: entry.enable && entry.mode != "symlink" && entry.mode != "direct-symlink"
  ) (lib.attrValues config.environment.etc);
  # Those that a copy gives what they want.
  usual = lib.partition (
    entry: entry.mode == "0644" && entry.user == "+0" && entry.group == "+0"
  ) copied;
  root = pkgs.runCommand "job-root" { } (
    ''
      mkdir -p "$out/bin" "$out/usr/bin" "$out/var" "$out"${quoted cfg.runner.root}
      ln -s ../run "$out/var/run"
      cp ${environment} "$out"${quoted "${cfg.runner.root}/.env"}
      ln -s ${config.environment.binsh} "$out/bin/sh"
      # What a script of another distribution begins with. A link costs the boot nothing and needs no FUSE, as envfs does.
      ln -s ${pkgs.bashInteractive}/bin/bash "$out/bin/bash"
      ln -s ${pkgs.bashInteractive}/bin/bash "$out/usr/bin/bash"
      ${lib.optionalString config.nix.enable ''mkdir -p "$out/nix/var/nix/daemon-socket"''}
      cp --recursive --no-dereference --no-preserve=mode ${etc}/etc "$out/etc"
      cd "$out/etc"
      ln -s ${etc}/etc static
      find . -name '*.mode' | while read -r mode; do
        rm -f "$mode" "''${mode%.mode}.uid" "''${mode%.mode}.gid"
      done
    ''
    + lib.concatMapStrings (entry: "rm -f ${quoted entry.target}\n") copied
    + lib.concatMapStrings (entry: "cp ${entry.source} ${quoted entry.target}\n") usual.right
    + lib.optionalString (config.environment.usrbinenv != null) ''
      ln -s ${config.environment.usrbinenv} "$out/usr/bin/env"
    ''
    # A runner that was not built for NixOS may be faster than systemd-tmpfiles, which would make this link.
    + lib.optionalString (config.environment.ldso != null) ''
      mkdir -p "$out/${pkgs.stdenv.hostPlatform.libDir}"
      ln -s ${config.environment.ldso} "$out/${pkgs.stdenv.hostPlatform.libDir}/$(basename ${pkgs.stdenv.cc.bintools.dynamicLinker})"
    ''
  );
  early = {
    before = [ "gha-runner-guest.service" ];
    unitConfig.DefaultDependencies = false;
  };
  environment = pkgs.writeText "job-environment" (
    lib.concatStrings (lib.mapAttrsToList (name: value: "${name}=${value}\n") cfg.environment)
  );
in
{
  options.job = {
    package = mkOption {
      type = types.package;
      description = "The controller's package; its guest runs in the container.";
    };
    user = mkOption {
      type = types.str;
      default = "runner";
      description = "The user who runs the job.";
    };
    runner = {
      kind = mkOption {
        type = types.enum [
          "github"
          "gitea"
          "forgejo"
        ];
        default = "github";
        description = ''
          The forge that the runner is for. What
          {option}`services.gha-runner-controller.settings.template.<name>.kind` says counts.
        '';
      };
      package = mkOption {
        type = types.nullOr types.package;
        default =
          {
            github = pkgs.github-runner;
            gitea = pkgs.gitea-actions-runner;
            forgejo = pkgs.forgejo-runner;
          }
          .${cfg.runner.kind};
        defaultText = lib.literalExpression "pkgs.github-runner, pkgs.gitea-actions-runner or pkgs.forgejo-runner";
        description = ''
          The forge's runner program. `null` if the host keeps an unpacked release
          ({option}`services.gha-runner-controller.settings.template.<name>.runner_dir`), for when nixpkgs lags behind the
          version the forge enforces; it runs by nix-ld.
        '';
      };
      program = mkOption {
        type = types.str;
        default =
          if cfg.runner.package == null then
            "/opt/actions-runner/bin/Runner.Listener"
          else if cfg.runner.kind == "github" then
            "${cfg.runner.package}/bin/Runner.Listener"
          else
            lib.getExe cfg.runner.package;
        defaultText = lib.literalExpression ''"''${config.job.runner.package}/bin/Runner.Listener", or the program of another forge's'';
        description = "The runner's listener, as a path in the container.";
      };
      root = mkOption {
        type = types.str;
        default =
          if cfg.runner.package == null then "/opt/actions-runner" else "/home/${cfg.user}/actions-runner";
        defaultText = lib.literalExpression ''"/home/''${config.job.user}/actions-runner"'';
        description = "Where the runner keeps its files and the job's workspace (`_work`).";
      };
    };
    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        CARGO_INCREMENTAL = "0";
      };
      description = ''
        Variables every step of every job of GitHub's runner sees. Not for secrets: they are in the Nix store.
      '';
    };
    nixpkgs = mkOption {
      type = types.nullOr types.path;
      default = origin;
      defaultText = lib.literalMD "the nixpkgs of the container's own packages, if it is in the Nix store";
      example = lib.literalExpression "inputs.nixpkgs";
      description = ''
        What `<nixpkgs>` and the flake `nixpkgs` are in the container, so that `nix-shell -p hello` and `nix run
        nixpkgs#hello` work. `null` for nothing.
      '';
    };
    storePaths = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ inputs.my-project.devShells.x86_64-linux.default ]";
      description = "Further store paths that Nix in the container knows from the start, so that it builds none of them.";
    };
  };

  config = lib.mkMerge [
    {
      assertions = [
        {
          assertion = config.users.users ? ${cfg.user} && config.users.users.${cfg.user}.uid != 0;
          message = ''
            job.user: there is no unprivileged user "${cfg.user}" in the container. Remedy: define
            users.users.${cfg.user}, or name another user.
          '';
        }
      ];

      # --- the guest: starts with the first units there are, runs the job, and ends the container with it
      systemd.packages = [ guestUnit ];
      systemd.services.gha-runner-guest = {
        overrideStrategy = "asDropin";
        wantedBy = [ "basic.target" ];
        environment = {
          PATH = mkForce "/run/wrappers/bin:/etc/profiles/per-user/${cfg.user}/bin:/run/current-system/sw/bin";
          RUNNER_ROOT = cfg.runner.root;
        };
      };
      job.environment = {
        NIX_REMOTE = mkDefault "daemon";
        # Steps are no login shells, which would find it by themselves.
        NIX_PATH = lib.mkIf (config.nix.enable && config.nix.nixPath != [ ]) (
          mkDefault (lib.concatStringsSep ":" config.nix.nixPath)
        );
        NIX_SSL_CERT_FILE = mkDefault "/etc/ssl/certs/ca-certificates.crt";
        SSL_CERT_FILE = mkDefault "/etc/ssl/certs/ca-certificates.crt";
      };
      # --- Nix: the store is an overlay over the host's; the database begins empty and is filled on first use
      nix.enable = mkDefault true;
      nix.channel.enable = mkDefault false;
      nix.nixPath = lib.mkIf (nixpkgs != null) (mkDefault [ "nixpkgs=${nixpkgs}" ]);
      nix.registry = lib.mkIf (nixpkgs != null) {
        nixpkgs.to = mkDefault {
          type = "path";
          path = nixpkgs;
        };
      };
      warnings =
        lib.optional (config.nix.enable && nixpkgs == null && options.job.nixpkgs.highestPrio >= 1500)
          ''
            job.nixpkgs: ${toString pkgs.path} is not in the Nix store, so jobs find no <nixpkgs>. Remedy: name one, as
            job.nixpkgs = ${toString pkgs.path} without quotes, which copies it into the store, or null for none.
          '';
      # None that the mount does not have: Docker could not bind what is in it (docs/nspawn.md#locked-mount-flags).
      boot.nixStoreMountOpts = mkForce [ ];
      systemd.services.nix-daemon = lib.mkIf config.nix.enable {
        preStart = ''
          if [ ! -e /nix/var/nix/gha-runner-loaded ]; then
            NIX_REMOTE=local ${config.nix.package}/bin/nix-store --load-db <${registration}/registration
            touch /nix/var/nix/gha-runner-loaded
          fi
        '';
      };

      # Like Docker's, the socket is there before the runner, and not when the system has settled: it costs nothing.
      systemd.sockets.nix-daemon = lib.mkIf config.nix.enable early;

      # --- Docker reads the file to which the guest adds its class's pool and mirror; of two names the last one counts
      environment.etc."docker/daemon.json" = lib.mkIf config.virtualisation.docker.enable {
        source =
          (pkgs.formats.json { }).generate "daemon.json"
            config.virtualisation.docker.daemon.settings;
        mode = "0644";
      };
      environment.systemPackages =
        lib.optional (
          config.virtualisation.docker.enable
          && cfg.runner.kind == "github"
          && cfg.runner.package != null
          && lib.hasPrefix "${cfg.runner.package}/" cfg.runner.program
        ) (lib.hiPrio docker)
        # GitHub's brings its own.
        ++ lib.optional (cfg.runner.kind != "github") pkgs.nodejs;
      systemd.sockets.docker = lib.mkIf config.virtualisation.docker.enable early;
      virtualisation.docker.extraOptions = "--config-file=/etc/docker/daemon.json";

      # --- sudo keeps the variables of a proxy, as in a tree (crates/guest/src/variables.rs)
      security.sudo.extraConfig = ''
        Defaults env_keep += "http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY"
      '';

      # --- the network is there before the first unit: the guest addresses it
      networking = {
        hostName = mkDefault "job";
        useDHCP = false;
        useHostResolvConf = false;
        resolvconf.enable = false;
        firewall.enable = mkDefault false;
      };

      # --- /etc, the users and what the runner finds: the same in every container, so it is made when the system is built
      system.activationScripts.binsh = mkForce "";
      system.activationScripts.usrbinenv = mkForce "";
      system.build.etcActivationCommands = mkForce ''
        cp --recursive --no-dereference --no-preserve=mode ${root}/. /
        ${lib.concatMapStringsSep "\n" (
          entry:
          "install -D -m ${entry.mode} -o ${quoted entry.user} -g ${quoted entry.group} ${entry.source} ${quoted "/etc/${entry.target}"}"
        ) usual.wrong}
        install -d -m ${user.homeMode} -o ${cfg.user} -g ${user.group} ${quoted user.home} ${quoted cfg.runner.root}
      '';

      # --- nothing that serves no job
      boot.isContainer = true;
      boot.specialFileSystems = mkForce { };
      console.enable = false;
      documentation.enable = mkDefault false;
      environment.defaultPackages = mkDefault [ ];
      environment.stub-ld.enable = mkDefault false;
      fonts.fontconfig.enable = mkDefault false;
      programs.bash.completion.enable = mkDefault false;
      programs.command-not-found.enable = mkDefault false;
      programs.nano.enable = mkDefault false;
      programs.less.lessopen = mkDefault null;
      security.polkit.enable = mkDefault false;
      services.logrotate.enable = mkDefault false;
      services.nscd.enable = mkDefault false;
      system.nssModules = mkForce [ ];
      services.openssh.enable = mkDefault false;
      services.udev.enable = false;
      system.disableInstallerTools = mkDefault true;
      systemd.coredump.enable = mkDefault false;
      # At the end it would copy systemd and a shell into memory, to go back to a stage 1 that no container has.
      systemd.shutdownRamfs.enable = mkDefault false;
      system.switch.enable = mkDefault false;
      system.stateVersion = mkDefault lib.trivial.release;
      time.timeZone = mkDefault "UTC";
      xdg.autostart.enable = mkDefault false;
      xdg.icons.enable = mkDefault false;
      xdg.mime.enable = mkDefault false;
      xdg.sounds.enable = mkDefault false;
      # What a program may ask for beyond the usual, and how long one is waited for at the end, as in a tree
      # (crates/sandbox/src/tree.rs).
      environment.etc."systemd/system.conf.d/50-gha-runner.conf".text = ''
        [Manager]
        DefaultLimitNOFILE=1024:1048576
        DefaultLimitMEMLOCK=8388608:infinity
        DefaultTimeoutStopSec=5s
      '';
      # On disk like the rest.
      boot.tmp.useTmpfs = mkForce false;
      services.journald.extraConfig = ''
        Storage=volatile
        RuntimeMaxUse=16M
      '';
      # Of the kernel's configuration, which is the host's.
      environment.etc."sysctl.d/55-nixos-aslr-entropy.conf".enable = mkForce false;
      # Each costs 10 to 40 ms of the boot, or fails in a user namespace.
      systemd.suppressedSystemUnits = [
        "console-getty.service"
        "container-getty@.service"
        "autovt@.service"
        "getty@.service"
        "serial-getty@.service"
        "getty.target"
        "ldconfig.service"
        "modprobe@.service"
        "sys-fs-fuse-connections.mount"
        "sys-kernel-config.mount"
        "sys-kernel-debug.mount"
        "sys-kernel-tracing.mount"
        "dev-hugepages.mount"
        "dev-mqueue.mount"
        "proc-sys-fs-binfmt_misc.automount"
        "proc-sys-fs-binfmt_misc.mount"
        "systemd-binfmt.service"
        "systemd-hwdb-update.service"
        "systemd-journal-catalog-update.service"
        "systemd-journal-flush.service"
        "systemd-logind.service"
        "systemd-machine-id-commit.service"
        "systemd-modules-load.service"
        "systemd-random-seed.service"
        "systemd-sysctl.service"
        "systemd-update-done.service"
        "systemd-update-utmp.service"
        "systemd-ask-password-console.path"
        "systemd-ask-password-wall.path"
        "systemd-tmpfiles-clean.timer"
        "dbus-org.freedesktop.login1.service"
        "systemd-udev-load-credentials.service"
      ];
      # systemd waits for all of them before it reads a unit.
      systemd.generators = lib.genAttrs (map (name: "systemd-${name}-generator") [
        "bless-boot"
        "cryptsetup"
        "debug"
        "factory-reset"
        "getty"
        "gpt-auto"
        "hibernate-resume"
        "import"
        "integritysetup"
        "run"
        "ssh"
        "system-update"
        "tpm2"
        "veritysetup"
      ]) (_: mkDefault "/dev/null");
    }
    # Without it stage 2 mounts /proc, /dev and /run, which nspawn has done and a user namespace may not.
    (lib.optionalAttrs ((options.boot or { }) ? isNspawnContainer) { boot.isNspawnContainer = true; })
    (lib.optionalAttrs ((options.services or { }) ? userborn && options.services.userborn ? static) {
      services.userborn = lib.mkIf (!config.system.switch.enable) {
        enable = mkDefault true;
        static = mkDefault true;
      };
    })
  ];
}
