# What the default container promises: Nix builds, programs of other distributions start, Docker answers, sudo works.
{
  lib,
  package,
  laboratory,
  ...
}:
let
  common = import ./common.nix { inherit lib package laboratory; };
in
{
  name = "gha-runner-inside";
  nodes = { inherit (common) forge host; };
  testScript = common.prelude + ''
    play("inside")
  '';
}
