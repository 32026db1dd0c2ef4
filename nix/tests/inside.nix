# What the default container promises: Nix builds, programs of other distributions start, Docker answers, sudo works.
{
  imports = [ ./common.nix ];
  name = "gha-runner-inside";
  script = ''
    play("inside")
  '';
}
