# Without flakes: `import ./. { }`, or `imports = [ (import /path/to/this { }).nixosModule ]`.
{
  pkgs ? import <nixpkgs> { },
}:
let
  inherit (pkgs) lib;
  package = (pkgs.callPackage ./nix/package.nix { }).overrideAttrs (old: {
    passthru = old.passthru // {
      tests = old.passthru.tests // tests;
    };
  });

  alias =
    name:
    pkgs.runCommand name
      {
        meta = package.meta // {
          mainProgram = name;
        };
      }
      ''
        mkdir -p "$out/bin"
        ln -s ${package}/bin/${name} "$out/bin/${name}"
      '';
  names = import ./nix/names.nix;
  aliases = lib.genAttrs names alias;

  # With the simulated GitHub and its runner, which is copied to where no library of ours is: so it is static.
  laboratory = (pkgs.pkgsStatic.callPackage ./nix/package.nix { }).overrideAttrs {
    pname = "gha-runner-laboratory";
    cargoBuildFlags = [
      "--workspace"
      "--bins"
    ];
    doCheck = false;
  };

  inherit (import ./nix/checks.nix { inherit pkgs package laboratory; }) checks tests;
in
{
  nixosModule = ./nix/module.nix;
  mkJobContainer = import ./nix/job-container.nix;

  packages = aliases // {
    default = package;
    gha-runner-controller = package;
  };

  apps = {
    default = package;
    inherit (aliases) runner-status;
    # Whether this host and its configuration can serve jobs.
    check = pkgs.writeShellApplication {
      name = "gha-runner-check";
      runtimeInputs = [ package ];
      text = ''exec gha-runner-controller check "$@"'';
      meta.description = "Look whether this host can serve jobs";
    };
    # A job from queued to gone, on a NixOS in a virtual machine, with a simulated GitHub: the first scenario.
    demo = tests.nixos-job.driver;
  };

  inherit checks tests;

  shell = pkgs.mkShell {
    inputsFrom = [ package ];
    packages = with pkgs; [
      cargo-deny
      clippy
      deadnix
      nixfmt
      rustfmt
      typos
    ];
    # Formatting and spelling before each commit, in a clone of this repository that has no hooks of its own.
    shellHook = ''
      if [ -x .githooks/pre-commit ] && [ -e nix/job-container.nix ] && ! git config core.hooksPath >/dev/null; then
        git config core.hooksPath .githooks
      fi
    '';
  };
}
