{
  description = "One freshly booted NixOS container for each CI job";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { nixpkgs, ... }:
    let
      inherit (nixpkgs) lib;
      forAllSystems =
        make:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: make nixpkgs.legacyPackages.${system});
      # Everything there is, for one set of packages: the same without flakes.
      project = pkgs: import ./. { inherit pkgs; };
    in
    {
      nixosModules = {
        default = ./nix/module.nix;
        gha-runner-controller = ./nix/module.nix;
      };
      overlays.default = final: _: { gha-runner-controller = final.callPackage ./nix/package.nix { }; };
      templates.default = {
        path = ./templates/default;
        description = "A build host: the controller, and the job container to change";
      };
      lib.mkJobContainer = import ./nix/job-container.nix;

      packages = forAllSystems (pkgs: (project pkgs).packages);
      apps = forAllSystems (
        pkgs:
        lib.mapAttrs (_: program: {
          type = "app";
          program = lib.getExe program;
          meta.description = program.meta.description or "A job from queued to gone, in a virtual machine";
        }) (project pkgs).apps
      );
      checks = forAllSystems (pkgs: (project pkgs).checks);
      devShells = forAllSystems (pkgs: {
        default = (project pkgs).shell;
      });
      formatter = forAllSystems (pkgs: pkgs.nixfmt-tree);
    };
}
