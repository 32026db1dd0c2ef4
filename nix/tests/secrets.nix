# Neither the token nor a grant can be read by anybody they are not for.
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
  name = "gha-runner-secrets";
  nodes = { inherit (common) forge host; };
  testScript = common.prelude + ''
    play("secrets ${common.tokenFile}")
  '';
}
