# What `nix flake check` builds: the program, its style, the module, and each scenario on a real NixOS.
{
  pkgs,
  package,
  laboratory,
}:
let
  inherit (pkgs) lib;
  scenarios = lib.filterAttrs (name: _: lib.hasSuffix ".nix" name) (
    lib.removeAttrs (builtins.readDir ./tests) [
      "common.nix"
      "wrong.nix"
    ]
  );
  cargo =
    name: tool: command:
    package.overrideAttrs (old: {
      pname = "gha-runner-controller-${name}";
      nativeBuildInputs = old.nativeBuildInputs ++ [ tool ];
      buildPhase = command;
      doCheck = false;
      installPhase = "touch $out";
      dontFixup = true;
    });
  # Anew for each, so that none keeps another's hosts.
  module = _: import ./checks/module.nix { inherit pkgs package; };
  wrong = import ./tests/wrong.nix {
    inherit pkgs package;
    inherit (module { }) host;
  };
  scenario =
    file:
    pkgs.testers.runNixOSTest {
      imports = [ ./tests/${file} ];
      _module.args = { inherit package laboratory; };
    };
  each =
    make:
    lib.mapAttrs' (
      file: _: lib.nameValuePair "nixos-${lib.removeSuffix ".nix" file}" (make file)
    ) scenarios;
  # What is built, without what it was evaluated from: `nix flake check` keeps all it has seen, and the machines of one
  # scenario alone are half a gigabyte.
  slim =
    check:
    let
      alone = {
        inherit (check)
          drvPath
          name
          outPath
          outputName
          system
          type
          ;
      };
    in
    builtins.deepSeq alone alone;
in
{
  # With drivers, scripts and machines.
  tests = each scenario // {
    nixos-wrong = wrong;
  };

  checks = {
    inherit package;
    clippy =
      cargo "clippy" pkgs.clippy
        "cargo clippy --release --offline --workspace --all-targets -- -D warnings";
    fmt = cargo "fmt" pkgs.rustfmt "cargo fmt --all --check";
    # What the hook before a commit looks at, of everything.
    hook =
      pkgs.runCommand "gha-runner-controller-hook"
        {
          nativeBuildInputs = [
            pkgs.nixfmt
            pkgs.typos
          ];
        }
        ''
          cd ${
            lib.fileset.toSource {
              root = ../.;
              fileset = lib.fileset.difference ../. (lib.fileset.maybeMissing ../target);
            }
          }
          typos
          find . -name '*.nix' -exec nixfmt --check {} +
          touch $out
        '';
    module = slim (module { }).all;
    nixos-wrong = slim wrong;
  }
  // each (file: slim (scenario file));
}
