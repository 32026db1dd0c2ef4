# What a job finds in its container. An ordinary NixOS configuration: add, remove, change.
{ pkgs, ... }:
{
  # Who runs the job: no password, and sudo without one, as on GitHub's own machines.
  users.users.runner = {
    isNormalUser = true;
    uid = 1001;
    extraGroups = [
      "wheel"
      "docker"
    ];
  };
  security.sudo.wheelNeedsPassword = false;

  # On the search path of every step.
  environment.systemPackages = with pkgs; [
    bash
    cmake
    curl
    diffutils
    file
    gcc
    git
    gnumake
    gnutar
    gzip
    jq
    openssh
    patch
    pkg-config
    python3Minimal
    unzip
    wget
    xz
    zip
    zstd
  ];

  # Docker starts when a job first speaks to it, and costs nothing until then. A class whose jobs may use it says so
  # (docker.enable).
  virtualisation.docker = {
    enable = true;
    enableOnBoot = false;
  };

  # Nix too: its daemon starts with the first command. The host's store is there to read; what a job adds goes away
  # with the container.
  nix.settings = {
    experimental-features = [
      "nix-command"
      "flakes"
    ];
    trusted-users = [ "runner" ];
  };

  # Programs that were built for other distributions (setup-node, setup-python, a downloaded compiler) run unchanged.
  programs.nix-ld = {
    enable = true;
    libraries = with pkgs; [
      icu
      krb5
      lttng-ust
    ];
  };
}
