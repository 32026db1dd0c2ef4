# Imported from the configuration of Forgejo's runner.
# What has no counterpart stands at the end, with what to do about it.
{
  services.gha-runner-controller = {
    enable = true;
    template.virtualisation.docker.enable = true;
    settings = {
      max_concurrent = 2;
      poll_interval = "5s";
      job_timeout = "1h30m";
      credential.forge = {
        kind = "forgejo";
        # As in the registration.
        url = "https://FORGE";
        # The runner's own token, from its registration, opens no API. Write one of an owner into
        # this file, which belongs to root and has mode 0600: docs/forges.md#what-the-token-may-do.
        token_file = "/etc/gha-runner-controller/token";
      };
      template.default = {
        kind = "forgejo";
        # A tree with the runner program in it: docs/templates.md.
        path = "/var/lib/machines/gha-runner";
        runner = "/usr/local/bin/forgejo-runner";
      };
      class.default = {
        # Those of an image run in it, by the container's own Docker; those of the host in the
        # container.
        labels = [ "docker:docker://data.forgejo.org/oci/node:22-bookworm" ];
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

  # runner.file: The registration is made anew for each job. Remove the old runner at the forge, and
  # its file here.

  # runner.shutdown_timeout: A restart or upgrade of the controller touches no running job.

  # log.job_level, log.level, runner.report_interval: This is between the runner in the container
  # and the forge, or has no use here. Logs: docs/operating.md.

  # cache.enabled, cache.secret: There is no server for actions/cache. A cache of a class,
  # [class.NAME.cache.NAME], is a directory that outlives containers (docs/configuration.md#caches).
  # An external server goes on: its address belongs into the template's .env, and into
  # class.NAME.network.allow if it is in the LAN.
}
