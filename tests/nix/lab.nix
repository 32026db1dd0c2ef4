# The same in the settings of the NixOS module, as nix/module.nix hands them to the pure part.
(import ../../nix/settings.nix).render {
  poll_interval = "1s";
  idle_grace = "3s";
  boot_timeout = "20s";
  registration_linger = "3s";
  token_file = /etc/gha-runner-controller/token;
  host_name = "lab";
  max_concurrent = null;
  github.api_url = "http://203.0.113.10";
  network.dns = [ ];
  target = [
    {
      repo = "octo-org/hello";
      org = null;
    }
  ];
  template.default.path = "/srv/templates/job";
  class.small.labels = [
    "self-hosted"
    "linux"
  ];
  webhook.port = null;
}
