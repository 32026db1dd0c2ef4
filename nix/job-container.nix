# Builds a job container's system from NixOS modules: `{ pkgs, modules, specialArgs }` -> a NixOS configuration whose
# `config.system.build.toplevel` is what a template's `system` names.
{
  pkgs,
  modules ? [ ],
  specialArgs ? { },
  package ? pkgs.gha-runner-controller or (pkgs.callPackage ./package.nix { }),
}:
import (pkgs.path + "/nixos/lib/eval-config.nix") {
  inherit (pkgs) lib;
  inherit specialArgs;
  system = null;
  modules = [
    ./container.nix
    ../templates/default/job-container.nix
    {
      nixpkgs.pkgs = pkgs;
      job.package = pkgs.lib.mkDefault package;
    }
  ]
  ++ modules;
}
