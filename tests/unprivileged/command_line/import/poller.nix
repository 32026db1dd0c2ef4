# Imported from the configuration of a poller of one repository.
# What has no counterpart stands at the end, with what to do about it.
{
  services.gha-runner-controller = {
    enable = true;
    settings = {
      # It is in GITHUB_TOKEN; delete it there. Write the token into this file, which belongs to
      # root and has mode 0600. It needs to read Actions and to write Administration of the
      # repository: docs/configuration.md#credentials.
      token_file = "/etc/gha-runner-controller/token";
      max_concurrent = 3;
      poll_interval = "30s";
      job_timeout = "5400s";
      http.port = 9090;
      runner_labels = [
        "self-hosted"
        "ci"
        "nix"
      ];
      target = [
        {
          repo = "octo-org/hello";
        }
      ];
    };
  };

  # RUNNER_NAME_PREFIX: The controller names runners itself; host_name is its part of the host.

  # CACHE_PASSWORD: These keys are not known to the import. docs/configuration.md lists what there
  # is.
}
