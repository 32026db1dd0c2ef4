{
  description = "A build host for CI jobs";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    gha-runner-controller = {
      url = "github:gha-runner-controller/gha-runner-controller";
      inputs.nixpkgs.follows = "nixpkgs";
    };
  };

  outputs =
    { nixpkgs, gha-runner-controller, ... }:
    {
      nixosConfigurations.builder = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [
          gha-runner-controller.nixosModules.default
          ./configuration.nix
        ];
      };
    };
}
