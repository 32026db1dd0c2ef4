# The NixOS module: what people declare becomes the program's configuration file, and what the program renders from
# that becomes part of the system.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  cfg = config.services.gha-runner-controller;
  inherit (lib) mkIf mkMerge;
  pure = import ./settings.nix;

  containers = lib.mapAttrs (
    name: template:
    import ./job-container.nix {
      inherit pkgs;
      inherit (cfg) package;
      # What a flake hands to its host's modules, `inputs` for example.
      specialArgs = lib.removeAttrs config._module.specialArgs [ "modulesPath" ];
      modules = [
        cfg.templates.${name}.configuration or { }
        # As the host's, before the container's own default.
        { system.stateVersion = lib.mkOverride 900 config.system.stateVersion; }
      ]
      ++ lib.optional (template.kind != null) { job.runner.kind = template.kind; }
      ++ lib.optional (template.runner_dir != null) { job.runner.package = null; };
    }
  ) (lib.filterAttrs (_: template: template.path == null) cfg.settings.template);

  written = pure.render (
    cfg.settings
    // lib.optionalAttrs (cfg.settings.runners != null && cfg.settings.host_name == null) {
      # It is a label of theirs, and the system may be built on another machine.
      host_name = pure.hostName config.networking.hostName;
    }
  );
  nixCachePort = 8501;
  # What is on says for itself what it adds.
  adding =
    enabled: add: settings:
    if enabled then add (pure.classTables settings) settings else settings;
  settings = adding cfg.nixCache.enable (classes: pure.withNixCache classes nixCachePort) (
    adding cfg.imageCache.enable (
      classes: pure.withImageCache classes config.services.dockerRegistry.port
    ) written
  );
  # Those that `runners` stands for among them.
  classTables = pure.classTables settings;

  oldestRunner = import ./oldest-runner.nix;
  apiUrl = lib.removeSuffix "/" (settings.github.api_url or "https://api.github.com");

  units = pkgs.callPackage ./units.nix {
    inherit (cfg) package;
    inherit settings;
  };
  classes = lib.attrNames classTables;
  hasDocker = lib.any (class: class.docker.enable or false) (lib.attrValues classTables);

  # Ports of services on the loopback, which the fence has led there: the host's firewall knows the link alone.
  servicePorts = lib.concatMap (
    service:
    let
      port = builtins.match "127[0-9.]*:([0-9]+)" service.address;
    in
    lib.optionals (port != null) port
  ) (lib.attrValues (settings.service or { }));

  # What the root half calls: the fence, and file systems in files (caches, kept image stores, limited disks).
  programs = [
    pkgs.e2fsprogs
    pkgs.nftables
    pkgs.util-linux
  ];

in
{
  imports = [ ./renamed.nix ];

  # Nobody of nixpkgs' list yet: whoever takes the module there names its maintainers.
  meta.maintainers = [ ];

  options.services.gha-runner-controller =
    import ./options.nix {
      inherit lib pkgs;
      template =
        { config, name, ... }:
        let
          container = containers.${name}.config;
        in
        {
          config = mkIf (config.path == null) {
            system = "${container.system.build.toplevel}";
            runner = container.job.runner.program;
            inherit (container.job) user;
          };
        };
    }
    // {
      units = lib.mkOption {
        type = lib.types.package;
        readOnly = true;
        internal = true;
        description = "What the program rendered.";
      };
      containers = lib.mkOption {
        type = lib.types.attrsOf lib.types.raw;
        readOnly = true;
        internal = true;
        description = "The evaluated configurations of templates.";
      };
    };

  config = mkMerge [
    {
      # A class that left the configuration may still have jobs: its unit stays until the last has ended, and what the
      # unit names stays with it. Also without the module's own `enable`: that is one way for a class to leave.
      system.activationScripts.ghaRunnerRunningClasses = builtins.readFile ./keep-classes.sh;
    }
    (mkIf cfg.enable {
      services.gha-runner-controller = {
        inherit units containers;
        templates.default.configuration = cfg.template;
        # Each of them is one of the file's too.
        settings.template = lib.mapAttrs (_: _: { }) cfg.templates;
      };

      assertions = import ./assertions.nix {
        inherit
          config
          lib
          classTables
          settings
          containers
          ;
      };

      warnings = lib.concatLists (
        lib.mapAttrsToList (
          name: container:
          let
            inherit (container.config.job.runner) kind package program;
            version = lib.getVersion package;
          in
          # GitHub Enterprise Server accepts what its own release came with.
          lib.optional
            (
              (lib.hasSuffix "github.com" apiUrl || lib.hasSuffix ".ghe.com" apiUrl)
              && kind == "github"
              && package != null
              && lib.hasPrefix "${package}" program
              && lib.versionOlder version oldestRunner
            )
            ''
              services.gha-runner-controller.templates.${name}: GitHub gives no jobs to the runner ${version}, only to
              ${oldestRunner} and newer. Remedy: update nixpkgs, or unpack a release on the host and name it in
              settings.template.${name}.runner_dir.
            ''
        ) containers
      );

      environment.systemPackages = [ cfg.package ];

      # As it got them, with the signatures of cache.nixos.org, which containers trust already.
      services.ncps = mkIf cfg.nixCache.enable (
        let
          upstream = {
            publicKeys = [ "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" ];
          };
          # Renamed since NixOS 25.11.
          renamed = (options.services.ncps.cache or { }) ? upstream;
          urls = [ "https://cache.nixos.org" ];
        in
        {
          enable = true;
          server.addr = "127.0.0.1:${toString nixCachePort}";
          cache = {
            hostName = "nix-cache.host.internal";
          }
          // lib.optionalAttrs renamed {
            upstream = upstream // {
              inherit urls;
            };
          }
          // lib.optionalAttrs ((options.services.ncps.cache or { }) ? signNarinfo) { signNarinfo = false; };
        }
        // lib.optionalAttrs (!renamed) {
          upstream = upstream // {
            caches = urls;
          };
        }
      );
      services.dockerRegistry = mkIf cfg.imageCache.enable {
        enable = true;
        listenAddress = "127.0.0.1";
        extraConfig.proxy.remoteurl = cfg.imageCache.remoteUrl;
      };

      # --- what the program rendered
      systemd.packages = [ units ];
      systemd.tmpfiles.packages = [ units ];
      services.udev.packages = [ units ];
      environment.etc =
        lib.genAttrs
          [
            "gha-runner-controller/settings.json"
            # udev reads it, whether systemd-networkd is there or not.
            "systemd/network/00-gha-runner.link"
            "systemd/network/00-gha-runner.network"
            "systemd/journald@gha-runner.conf"
            # The kernel's limits are a file of their own and not `boot.kernel.sysctl`: the program alone knows them, once it
            # is built. What the option says becomes 60-nixos.conf, which sorts behind this one, and so the host's own
            # configuration counts, and no value of ours collides with one of another module.
            "sysctl.d/60-gha-runner-controller.conf"
          ]
          (file: {
            source = "${units}/lib/${file}";
          })
        // {
          # `blacklist` keeps a module from its aliases alone. A file of its own, because stage 1 takes over the other one
          # with all it names.
          "modprobe.d/gha-runner-controller.conf".text = lib.concatMapStrings (name: ''
            install ${name} ${pkgs.coreutils}/bin/false
          '') cfg.blockedKernelModules;
        };
      users.users.gha-runner-controller = {
        isSystemUser = true;
        group = "gha-runner-controller";
        home = "/var/lib/gha-runner-controller";
        description = "Job container controller";
      };
      users.groups = {
        gha-runner-controller = { };
        ${settings.operators or "gha-runner-operators"} = { };
      };

      # Only what a package's unit cannot say here: what starts it, where its programs are, when it starts anew. The
      # rest is the package's.
      systemd.sockets.gha-runner-launcher = {
        overrideStrategy = "asDropin";
        wantedBy = [ "sockets.target" ];
      };
      systemd.services =
        lib.genAttrs' classes (
          class:
          lib.nameValuePair "gha-runner-${class}@" {
            overrideStrategy = "asDropin";
            path = programs;
            restartIfChanged = false;
            stopIfChanged = false;
          }
        )
        // {
          # Containers live on without it, so it is simply replaced.
          gha-runner-controller = {
            overrideStrategy = "asDropin";
            wantedBy = [ "multi-user.target" ];
            restartTriggers = [ units ];
          };
          gha-runner-firewall = {
            overrideStrategy = "asDropin";
            wantedBy = [ "multi-user.target" ];
            path = programs;
            reloadIfChanged = true;
            # With reloadIfChanged these reload it too.
            restartTriggers = [ units ];
            # Another owner of the rule set may empty it.
            unitConfig.ReloadPropagatedFrom = mkIf config.networking.nftables.enable "nftables.service";
            partOf = mkIf config.networking.nftables.enable [ "nftables.service" ];
          };
          gha-runner-sweep = {
            overrideStrategy = "asDropin";
            wantedBy = [ "multi-user.target" ];
            path = programs;
          };
          # It ends by itself after each request and starts with the next. A switch that stopped it would stop its socket
          # too, and with it what the controller has to say meanwhile.
          gha-runner-launcher = {
            overrideStrategy = "asDropin";
            restartIfChanged = false;
            stopIfChanged = false;
          };
          # They read their files of ours when they start.
          systemd-sysctl.restartTriggers = [
            config.environment.etc."sysctl.d/60-gha-runner-controller.conf".source
          ];
          systemd-networkd = mkIf config.systemd.network.enable {
            reloadTriggers = [ config.environment.etc."systemd/network/00-gha-runner.network".source ];
          };
          # Docker on the host may refuse to forward what is not its own; this chain is for the rules of others, and is
          # kept when Docker starts again.
          docker = mkIf config.virtualisation.docker.enable {
            path = [ pkgs.iptables ];
            postStart = ''
              accept() {
                iptables -w -C DOCKER-USER "$@" -j ACCEPT || iptables -w -I DOCKER-USER "$@" -j ACCEPT
              }
              if iptables -w -n -L DOCKER-USER; then
                accept -i gj-+
                accept -o gj-+ -m conntrack --ctstate ESTABLISHED,RELATED
              fi >/dev/null 2>&1
            '';
          };
        };

      # --- the kernel: what the fence, systemd-nspawn and Docker in a container need and cannot load themselves
      boot.kernelModules = [
        "veth"
        "overlay"
        "fuse"
        "loop"
        "tun"
        "nf_conntrack_netlink"
        "nf_tables"
        "nft_chain_nat"
        "nft_compat"
        "nft_connlimit"
        "nft_ct"
        "nft_fib_inet"
        "nft_masq"
        "nf_nat"
        "xt_addrtype"
        "xt_conntrack"
        "xt_MASQUERADE"
        "xt_nat"
        "xt_tcpudp"
      ]
      # Docker inside makes bridges and judges what passes them. With the second module the host's own bridges, those of
      # virtual machines for example, are judged by the host's rules for forwarding as well
      # (docs/nixos.md#beside-other-things-on-the-host).
      ++ lib.optionals hasDocker [
        "bridge"
        "br_netfilter"
      ];
      # Before the `mkDefault` of other modules, which would collide with another one even where both are equal, and behind
      # what the host's own configuration says.
      boot.kernel.sysctl = lib.mapAttrs (_: lib.mkOverride 900) {
        "net.ipv4.ip_forward" = 1;
        # Not in 60-nixos.conf, where less is said of them than in our file: 524,288 by NixOS, 2,000 by Incus.
        "fs.inotify.max_user_watches" = null;
        "kernel.keys.maxkeys" = null;
      };

      # --- `nixos-rebuild build-vm`: a store on a file system whose ids can be mapped, which the host's over 9p is not
      virtualisation.vmVariant.virtualisation = {
        useNixStoreImage = lib.mkDefault true;
        writableStore = lib.mkDefault false;
      };

      # --- others that manage links leave ours alone; a firewall that refuses what it does not know lets them pass: the
      # fence has judged it before
      networking.dhcpcd.denyInterfaces = [
        "gj-*"
        "gp-*"
      ];
      networking.networkmanager.unmanaged = [
        "interface-name:gj-*"
        "interface-name:gp-*"
      ];
      networking.firewall.extraForwardRules = mkIf config.networking.firewall.filterForward ''
        iifname "gj-*" accept
      '';
      networking.firewall.extraInputRules = mkIf (servicePorts != [ ]) ''
        iifname "gj-*" ip daddr 127.0.0.0/8 tcp dport { ${lib.concatStringsSep ", " servicePorts} } accept
      '';
      networking.firewall.extraCommands =
        mkIf (servicePorts != [ ] && !config.networking.nftables.enable)
          (
            lib.concatMapStrings (port: ''
              iptables -w -A nixos-fw -i gj-+ -d 127.0.0.0/8 -p tcp --dport ${port} -j nixos-fw-accept
            '') servicePorts
          );
    })
  ];
}
