# The host's system, built of a nixpkgs and a Debian tree's programs. programs: the directory with this workspace's own.
{ nixpkgs, programs }:
let
  pkgs = import ./programs.nix { inherit nixpkgs programs; };
in
import (nixpkgs + "/nixos/lib/eval-config.nix") {
  inherit (pkgs) lib;
  system = null;
  modules = [
    ./host.nix
    { nixpkgs.pkgs = pkgs; }
  ];
}
