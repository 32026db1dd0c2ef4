# A NixOS host with the module, as the laboratory boots it: under systemd-nspawn, on the machine's own kernel, with udev
# and a /sys that can be written.
{
  lib,
  pkgs,
  ...
}:
let
  # Where Debian's programs look for parts and helpers of theirs. systemd itself stays away: systemd-nspawn would start it
  # in place of stage 2.
  usual = {
    system.activationScripts.debian.text = ''
      mkdir -p /usr/bin /usr/sbin /usr/lib/systemd
      ln -sfn ${pkgs.debian}/sbin/unix_chkpwd /usr/sbin/
      ln -sfn ${pkgs.debian}/bin/{dbus-broker,mount,umount} /usr/bin/
      # What Nix' sandbox has as /bin/sh is no link.
      cp --remove-destination ${pkgs.debian}/bin/bash-static /usr/bin/
      ln -sfn ${pkgs.debian}/share ${pkgs.debian}/libexec /usr/
      for part in ${pkgs.debian}/lib/*; do
        [ "''${part##*/}" = systemd ] || ln -sfn "$part" /usr/lib/
      done
      # No link into the store, which systemd-nspawn does not see before it boots what is there.
      rm -f /usr/lib/os-release && touch /usr/lib/os-release
      for part in ${pkgs.debian}/lib/systemd/*; do
        [ "''${part##*/}" = systemd ] || ln -sfn "$part" /usr/lib/systemd/
      done
    '';
    system.activationScripts.users.deps = [ "debian" ];
  };
in
{
  imports = [
    ../../../nix/module.nix
    usual
  ];

  services.gha-runner-controller = {
    enable = true;
    package = pkgs.gha-runner-controller;
    tokenFile = "/var/lib/secrets/github-token";
    hostName = "nixos";
    pollInterval = "1s";
    idlePollInterval = "1s";
    targets = [ { repo = "octo-org/hello"; } ];
    github.apiUrl = "http://203.0.113.10";
    network.dns = [ ];
    classes.small = {
      labels = [
        "self-hosted"
        "linux"
      ];
      docker.enable = true;
    };
    template = {
      system.activationScripts = { inherit (usual.system.activationScripts) debian; };
      job.runner.program = "${pkgs.gha-runner-laboratory}/bin/fakerunner";
      # A whole nixpkgs would be copied into the store.
      job.nixpkgs = pkgs.writeTextDir "default.nix" "{ }";
    };
  };

  specialisation = {
    changed.configuration.services.gha-runner-controller = {
      classes.small.memory = "512M";
      classes.other.labels = [ "other" ];
    };
    without.configuration.services.gha-runner-controller.classes = lib.mkForce {
      other.labels = [ "other" ];
    };
    off.configuration.services.gha-runner-controller.enable = lib.mkForce false;
  };

  # --- the laboratory's machine
  networking = {
    hostName = "lab-host";
    useDHCP = false;
    useNetworkd = false;
    resolvconf.enable = false;
    # What the fence's scenario listens on must be kept away by the fence alone.
    firewall.allowedTCPPorts = [ 7777 ];
    nftables.enable = true;
    nftables.checkRuleset = false;
  };
  # As the laboratory's own host does (testing/lab/src/scripts/host-tree.sh).
  systemd.services.lab-uplink = {
    wantedBy = [ "sysinit.target" ];
    before = [
      "network.target"
      "sysinit.target"
    ];
    unitConfig.DefaultDependencies = false;
    serviceConfig.Type = "oneshot";
    serviceConfig.RemainAfterExit = true;
    script = ''
      ${pkgs.iproute2}/bin/ip address add 192.168.50.2/24 dev eth0
      ${pkgs.iproute2}/bin/ip link set eth0 up
      ${pkgs.iproute2}/bin/ip route add default via 192.168.50.1
    '';
  };
  environment.systemPackages = with pkgs; [
    gha-runner-laboratory
    jq
    nftables
    iproute2
    curl
    perl
  ];
  boot = {
    kernel.enable = false;
    initrd.enable = false;
    modprobeConfig.enable = false;
    loader.grub.enable = false;
    # The machine's own file systems are there already.
    specialFileSystems = lib.mkForce { };
  };
  system.build.installBootLoader = lib.mkForce "${pkgs.coreutils}/bin/true";
  # NixOS makes it immutable, and the laboratory removes what is on its disk.
  fileSystems."/var/empty" = {
    device = "tmpfs";
    fsType = "tmpfs";
  };
  fileSystems."/" = {
    device = "none";
    fsType = "overlay";
  };
  # udev asks for what is there: every udev on the machine would receive that.
  systemd.services.systemd-udev-trigger.serviceConfig.ExecStart = [
    ""
    "${pkgs.systemd}/bin/udevadm trigger --action=add --subsystem-match=net"
  ];
  # logind does not find back to a bus that was restarted, and no switch goes without it.
  systemd.services.systemd-logind.partOf = [ "dbus-broker.service" ];
  systemd.suppressedSystemUnits = [
    "proc-sys-fs-binfmt_misc.automount"
    "proc-sys-fs-binfmt_misc.mount"
    "systemd-binfmt.service"
    "systemd-modules-load.service"
    "sys-kernel-config.mount"
    "sys-kernel-debug.mount"
    "sys-kernel-tracing.mount"
    "dev-hugepages.mount"
  ];
  systemd.tmpfiles.rules = [
    "c! /dev/fuse 0666 root root - 10:229"
    "d! /dev/net 0755 root root -"
    "c! /dev/net/tun 0666 root root - 10:200"
    "c! /dev/loop-control 0660 root disk - 10:237"
  ]
  ++ map (number: "b! /dev/loop${toString number} 0660 root disk - 7:${toString number}") (
    lib.range 0 63
  );

  # --- nothing that is not asked for here
  console.enable = false;
  systemd.coredump.enable = false;
  systemd.shutdownRamfs.enable = false;
  environment.stub-ld.enable = false;
  documentation.enable = false;
  environment.defaultPackages = lib.mkForce [ ];
  fonts.fontconfig.enable = false;
  i18n.glibcLocales = null;
  nix.enable = true;
  programs.command-not-found.enable = false;
  programs.nano.enable = false;
  programs.less.lessopen = null;
  services.nscd.enable = false;
  system.nssModules = lib.mkForce [ ];
  system.disableInstallerTools = true;
  services.timesyncd.enable = false;
  security.polkit.enable = false;
  xdg.mime.enable = false;
  xdg.icons.enable = false;
  xdg.sounds.enable = false;
  # Of the kernel's configuration, which nobody knows here.
  environment.etc."sysctl.d/55-nixos-aslr-entropy.conf".enable = lib.mkForce false;
  system.stateVersion = lib.trivial.release;
}
