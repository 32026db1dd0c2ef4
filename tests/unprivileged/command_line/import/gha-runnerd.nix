# Imported from the configuration of gha-runnerd.
# What has no counterpart stands at the end, with what to do about it.
{
  services.gha-runner-controller = {
    enable = true;
    template.virtualisation.docker.enable = true;
    settings = {
      # gha-runnerd took what `gh` was logged in with. Write the token into this file, which belongs
      # to root and has mode 0600. It needs to read Actions, and to write the organisation's
      # self-hosted runners: docs/configuration.md#credentials.
      token_file = "/etc/gha-runner-controller/token";
      max_concurrent = 4;
      # A label of every class below, and part of runners' names.
      host_name = "builder";
      runners = [
        "cpu-small"
        "cpu-small-docker"
      ];
      class.cpu-small = {
        max_concurrent = 2;
        memory = "6g";
        # Its jobs had `container:`, which takes Docker.
        docker.enable = true;
      };
      class.cpu-small-docker = {
        max_concurrent = 1;
        memory = "6g";
      };
      class.gpu-large-cuda = {
        labels = [
          "self-hosted"
          "linux"
          "builder"
          "gpu"
          "large"
          "cuda"
        ];
        max_concurrent = 1;
        # gha-runnerd's size has fewer limits than ours.
        size = "max";
        memory = "32g";
        gpu = true;
        # Leave it out if jobs for cuda need no Docker. What they need is in the class's template.
        docker.enable = true;
      };
      target = [
        {
          org = "octo-org";
        }
      ];
    };
  };

  # github.prefix: The controller names runners itself, one for each job.

  # host.docker_user_gid, host.docker_user_uid, host.runner_base: No runner is installed on the
  # host, and no user of it runs jobs: what a job writes goes with its container. Delete the
  # directory, the user and the file for sudo.

  # host.docker_socket: The host's Docker socket is not handed to jobs: who reaches it is root on
  # the host, and sees the containers of other jobs. With docker.enable each container has a Docker
  # of its own, which its template brings (docs/templates.md#docker).

  # cache.base_dir, cache.permissions: Jobs do not see a directory of the host. What should outlive
  # containers is a cache of a class, [class.NAME.cache.NAME]: docs/configuration.md#caches.

  # runner.arch, runner.version: The runner is part of the container's template (docs/templates.md).
  # `check` reports when the forge is about to refuse its version.

  # github_api.enforce_labels: Each runner is registered with its class's labels, for one job: there
  # is nothing to sync.

  # systemd.restart_policy, systemd.restart_sec: `units` renders a unit for each class. A container
  # is not restarted: the next job gets another one.

  # sizes.medium.cpus, sizes.medium.mem_limit, sizes.medium.pids_limit: No runner has this size.
}
