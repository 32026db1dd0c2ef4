# A NixOS host for an organisation, by a GitHub App: examples/organisation-app.toml in the module's options.
# Import it beside `nixosModules.default`; `nix flake init -t` makes a whole host to begin with (docs/nixos.md).
{ pkgs, ... }:
{
  services.gha-runner-controller = {
    enable = true;

    credentials.app = {
      appId = 123456;
      privateKeyFile = "/run/secrets/github-app.pem";
    };

    targets = [
      {
        org = "octo-org";
        credential = "app";
        runnerGroup = "build-host";
        exclude = [ "*-archive" ];
        pushedWithin = "90days";
      }
    ];

    classes.default = {
      labels = [
        "self-hosted"
        "linux"
      ];
      intake = "auto";
      cpus = 4;
      memory = "8G";
    };

    # Added to what every container has.
    template.environment.systemPackages = [ pkgs.nodejs ];
  };
}
