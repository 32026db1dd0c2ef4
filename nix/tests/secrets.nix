# Neither the token nor a grant can be read by anybody they are not for.
{ config, ... }:
{
  imports = [ ./common.nix ];
  name = "gha-runner-secrets";
  script = ''
    play("secrets ${config.nodes.host.services.gha-runner-controller.settings.token_file}")
  '';
}
