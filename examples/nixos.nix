# A NixOS host for an organisation, by a GitHub App: examples/organisation-app.toml as the module's settings.
# Import it beside `nixosModules.default`; `nix flake init -t` makes a whole host to begin with (docs/nixos.md).
{ pkgs, ... }:
{
  services.gha-runner-controller = {
    enable = true;

    settings = {
      credential.app = {
        app_id = 123456;
        private_key_file = "/run/secrets/github-app.pem";
      };

      target = [
        {
          org = "octo-org";
          credential = "app";
          runner_group = "build-host";
          exclude = [ "*-archive" ];
          pushed_within = "90days";
        }
      ];

      class.default = {
        labels = [
          "self-hosted"
          "linux"
        ];
        intake = "auto";
        cpus = 4;
        memory = "8G";
      };
    };

    # Added to what every container has.
    template.environment.systemPackages = [ pkgs.nodejs ];
  };
}
