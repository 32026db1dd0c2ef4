# The same in the options of the NixOS module, as nix/module.nix hands them to the pure part.
(import ../../nix/settings.nix).make {
  options = {
    pollInterval = "1s";
    idleGrace = "3s";
    bootTimeout = "20s";
    tokenFile = "/etc/gha-runner-controller/token";
    hostName = "lab";
    maxConcurrent = null;
    github.apiUrl = "http://203.0.113.10";
    network.dns = [ ];
    templates.default.path = "/srv/templates/job";
    classes.small.labels = [
      "self-hosted"
      "linux"
    ];
  };
  targets = [
    {
      repo = "octo-org/hello";
      org = null;
    }
  ];
  settings.registration_linger = "3s";
}
