# Imported from the configuration of act_runner.
# What has no counterpart stands at the end, with what to do about it.
{
  services.gha-runner-controller = {
    enable = true;
    template.virtualisation.docker.enable = true;
    settings = {
      max_concurrent = 4;
      poll_interval = "2s";
      job_timeout = "3h";
      credential.forge = {
        kind = "gitea";
        # As in the registration.
        url = "https://FORGE";
        # The runner's own token, from its registration, opens no API. Write one of an owner into
        # this file, which belongs to root and has mode 0600: docs/forges.md#what-the-token-may-do.
        token_file = "/etc/gha-runner-controller/token";
      };
      template.default = {
        kind = "gitea";
        # A tree with the runner program in it: docs/templates.md.
        path = "/var/lib/machines/gha-runner";
        runner = "/usr/local/bin/gitea-runner";
      };
      class.default = {
        # Those of an image run in it, by the container's own Docker; those of the host in the
        # container.
        labels = [
          "ubuntu-latest:docker://docker.gitea.com/runner-images:ubuntu-latest"
          "ubuntu-24.04:docker://docker.gitea.com/runner-images:ubuntu-latest"
          "deploy:host"
        ];
        cpus = 4.0;
        memory = "8g";
        devices = [ "kvm" ];
        docker.enable = true;
      };
      target = [
        {
          # Whom the runner serves is in its registration, and not in its configuration: write an
          # org, a repo, a user, or instance = true.
          org = "OWNER";
          credential = "forge";
        }
      ];
    };
  };

  # container.docker_host: The host's Docker socket is not handed to jobs: who reaches it is root on
  # the host, and sees the containers of other jobs. With docker.enable each container has a Docker
  # of its own, which its template brings (docs/templates.md#docker).

  # container.options (--add-host, --env): These options of Docker have no counterpart. Limits,
  # devices and graphics processors are keys of a class; names of hosts, variables and files belong
  # into the template.

  # runner.file: The registration is made anew for each job. Remove the old runner at the forge, and
  # its file here.

  # runner.envs.NPM_TOKEN: Variables of every job stand in the template, in the file .env beside the
  # runner program; secrets belong to the forge (Settings, Actions, Secrets).

  # runner.insecure: Certificates are always verified. Name the forge's authority in
  # credential.forge.ca_file, and add it to those that the template trusts.

  # log.level: This is between the runner in the container and the forge, or has no use here. Logs:
  # docs/operating.md.

  # cache.enabled, cache.external_secret, cache.external_server: There is no server for
  # actions/cache. A cache of a class, [class.NAME.cache.NAME], is a directory that outlives
  # containers (docs/configuration.md#caches). An external server goes on: its address belongs into
  # the template's .env, and into class.NAME.network.allow if it is in the LAN.

  # container.network: Each container has a network of its own, and never the host's. What it
  # reaches beyond the internet is named in class.NAME.network.allow.

  # container.privileged: Nobody is privileged on the host for the sake of Docker: with
  # docker.enable, `docker run --privileged` works inside, and its root is nobody outside.

  # container.valid_volumes: Jobs do not mount directories of the host. What they shared is a cache
  # of a class, [class.NAME.cache.NAME]; what they only read belongs into the template.

  # container.force_pull: Docker is inside the container and begins empty; docker.keep keeps images
  # of a class.
}
