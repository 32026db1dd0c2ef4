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
    bzip2
    cmake
    curl
    diffutils
    file
    gcc
    gh
    git
    git-lfs
    gnumake
    gnupg
    gnutar
    gzip
    jq
    less
    openssh
    patch
    pkg-config
    procps
    python3
    rsync
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

  # Programs that were built for other distributions (setup-node, a downloaded compiler) run unchanged. What setup-python
  # has is for Ubuntu alone: it finds no version here.
  programs.nix-ld = {
    enable = true;
    libraries = with pkgs; [
      icu
      krb5
      lttng-ust
    ];
  };
}
