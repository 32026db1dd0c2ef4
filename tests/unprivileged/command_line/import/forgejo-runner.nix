# Imported from the configuration of Forgejo's runner.
# What has no counterpart stands at the end, with what to do about it.
{
  services.gha-runner-controller = {
    enable = true;
    settings = {
      # The runner's own token, from its registration, opens no API. Write the token into this file,
      # which belongs to root and has mode 0600. It needs to register runners of the target:
      # docs/configuration.md#credentials.
      token_file = "/etc/gha-runner-controller/token";
      max_concurrent = 2;
      poll_interval = "5s";
      job_timeout = "1h30m";
      class.docker = {
        # Image: data.forgejo.org/oci/node:22-bookworm. A container boots a template and no image:
        # make a tree of the image (docs/templates.md#from-an-oci-image), or take the recipe of
        # docs/templates.md.
        labels = [ "docker" ];
      };
      target = [
        {
          # Its address and owner are in the runner's registration, and not in its configuration.
          # Until the lines below are completed, this stands for a repository at GitHub.
          repo = "OWNER/REPOSITORY";
        }
      ];
    };
  };

  # credential.forge = {
  #   kind = "forgejo";
  #   url = "https://FORGE";
  #   token_file = "/etc/gha-runner-controller/token";
  # };

  # target = [
  # {
  #   org = "OWNER";
  #   credential = "forge";
  # }
  # ];

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
