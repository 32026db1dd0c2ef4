# Imported from the configuration of gha-runnerd.
# What has no counterpart stands at the end, with what to do about it.
{
  services.gha-runner-controller = {
    enable = true;
    template.virtualisation.docker.enable = true;
    settings = {
      # gha-runnerd took what `gh` was logged in with. Write the token into this file, which belongs
      # to root and has mode 0600. It needs the scope manage_runners:enterprise, as a classic token:
      # docs/configuration.md#credentials.
      token_file = "/etc/gha-runner-controller/token";
      max_concurrent = 2;
      runners = [
        "cpu-medium"
        "cpu-xs-docker"
      ];
      class.cpu-medium = {
        labels = [
          "self-hosted"
          "linux"
          "Builder_of_the_whole_corporation"
          "cpu"
          "medium"
          "generic"
        ];
        max_concurrent = 1;
        # Its jobs had `container:`, which takes Docker.
        docker.enable = true;
        # An enterprise cannot be polled.
        intake = "scale-set";
      };
      class.cpu-xs-docker = {
        labels = [
          "self-hosted"
          "linux"
          "Builder_of_the_whole_corporation"
          "cpu"
          "xs"
          "docker"
        ];
        max_concurrent = 1;
        # An enterprise cannot be polled.
        intake = "scale-set";
      };
      target = [
        {
          enterprise = "octo-corp";
          runner_group = "builders";
        }
      ];
    };
  };

  # github.prefix: The controller names runners itself, one for each job.
}
