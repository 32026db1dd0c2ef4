# Imported from the configuration of runners in Docker Compose.
# What has no counterpart stands at the end, with what to do about it.
{
  services.gha-runner-controller = {
    enable = true;
    template.virtualisation.docker.enable = true;
    settings = {
      # It is in GITHUB_PAT; delete it there. Write the token into this file, which belongs to root
      # and has mode 0600. It needs the scope `repo`, or, fine-grained, to read Actions and to write
      # Administration of the repository: docs/configuration.md#credentials.
      token_file = "/etc/gha-runner-controller/token";
      # Write the number of runners in docker-compose.yml.
      max_concurrent = 2;
      class.default = {
        # Those that jobs name in `runs-on`.
        labels = [
          "self-hosted"
          "Linux"
          "X64"
        ];
        cpus = 3.0;
        memory = "6g";
        docker.enable = true;
      };
      target = [
        {
          repo = "octo-org/hello";
        }
      ];
    };
  };

  # DOCKER_GID: The host's Docker socket is not handed to jobs: who reaches it is root on the host,
  # and sees the containers of other jobs. With docker.enable each container has a Docker of its
  # own, which its template brings (docs/templates.md#docker).

  # DOCKERHUB_TOKEN, DOCKERHUB_USERNAME: Keep both as secrets of the repository, and log in in the
  # workflow; or name a registry that is asked first: class.default.docker.mirror.

  # PRUNE_THRESHOLD_GB: Nothing accumulates: what a job writes goes with its container.
  # class.default.disk bounds each, docker.keep_size what is kept of images, and where the disk
  # fills the longest unused goes.

  # SESSION_CONFLICT_WAIT, WATCHDOG_MAX_FIRES: A runner lives for one job and has no session to
  # lose. One that does not listen within boot_timeout is stopped, and its class pauses, ever
  # longer.

  # MONGODB_URI: Put the database into the workflow's `services:`; or name where it is as
  # [network.shared.NAME], and that in class.default.network.shared, and give the workflow its
  # address as a secret.
}
