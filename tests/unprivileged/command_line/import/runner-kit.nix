# Imported from the configuration of runner_kit.
# What has no counterpart stands at the end, with what to do about it.
{
  services.gha-runner-controller = {
    enable = true;
    template.virtualisation.docker.enable = true;
    settings = {
      # runner_kit took what `gh` was logged in with. Write the token into this file, which belongs
      # to root and has mode 0600. It needs to read Actions, and to write the organisation's
      # self-hosted runners: docs/configuration.md#credentials.
      token_file = "/etc/gha-runner-controller/token";
      max_concurrent = 10;
      poll_interval = "120s";
      class.default = {
        # Those that runner_kit registers.
        labels = [
          "self-hosted"
          "linux"
          "docker"
        ];
        cpus = 4.0;
        memory = "4g";
        docker.enable = true;
      };
      target = [
        {
          # A personal account is `user` in place of `org`.
          org = "octo-org";
          # Of the last push to a repository; runner_kit looked at runs.
          pushed_within = "7days";
        }
      ];
    };
  };

  # Docker: The host's Docker socket is not handed to jobs: who reaches it is root on the host, and
  # sees the containers of other jobs. With docker.enable each container has a Docker of its own,
  # which its template brings (docs/templates.md#docker).

  # enable_p2p: Hosts do not speak to each other: each finds jobs at the forge by itself.

  # runner_image: A container boots a template and no image: make a tree of the image
  # (docs/templates.md#from-an-oci-image), or take the recipe of docs/templates.md.

  # runner_work_dir: Jobs do not write into a directory of the host: what they write goes with their
  # container.

  # token_file: It held tokens to register runners with. The controller asks the forge for one
  # registration a job; delete the file.

  # network_mode: Each container has a network of its own, and never the host's. What it reaches
  # beyond the internet is named in class.default.network.allow.
}
