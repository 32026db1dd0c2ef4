# The host. Copy your own /etc/nixos/hardware-configuration.nix over the one beside this file, name your repository
# and your token, and it is complete.
{ pkgs, ... }:
{
  imports = [ ./hardware-configuration.nix ];

  services.gha-runner-controller = {
    enable = true;

    # The configuration file: every key of docs/configuration.md, as it is spelt there.
    settings = {
      # A file only root can read. With sops-nix: config.sops.secrets.github-token.path; with agenix:
      # config.age.secrets.github-token.path.
      token_file = "/etc/secrets/github-token";
      target = [ { repo = "octo-org/hello"; } ];

      # A job with `runs-on: [self-hosted, linux]` goes to the smallest class that has all its labels.
      class = {
        small = {
          labels = [
            "self-hosted"
            "linux"
          ];
          cpus = 2;
          memory = "4G";
          docker.enable = true;
        };
        big = {
          labels = [
            "self-hosted"
            "linux"
            "big"
          ];
          cpus = 8;
          memory = "16G";
          max_concurrent = 1;
          timeout = "4h";
          docker.enable = true;
        };
      };
    };

    # Added to what job-container.nix of gha-runner-controller puts into every container.
    template = {
      environment.systemPackages = [ pkgs.nodejs ];
    };
  };

  networking.hostName = "builder";
  system.stateVersion = "26.05";
}
