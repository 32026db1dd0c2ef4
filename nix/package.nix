# The one program, with the names it answers to.
{
  lib,
  stdenv,
  installShellFiles,
  rustPlatform,
  testers,
}:
let
  manifest = lib.importTOML ../Cargo.toml;
in
rustPlatform.buildRustPackage (finalAttrs: {
  pname = "gha-runner-controller";
  inherit (manifest.workspace.package) version;

  # Only what the program is made of: a change of the Nix code compiles nothing.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../rustfmt.toml
      ../README.md
      ../crates
      ../docs
      ../monitoring
      ../src
      ../testing
      ../tests
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  cargoBuildFlags = [
    "--package=gha-runner-controller"
    "--package=gha-runner-guest"
  ];
  # The rest of the tests wants root and a machine of its own; see tests/README.md.
  cargoTestFlags = [
    "--workspace"
    "--lib"
  ];

  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    for name in ${lib.escapeShellArgs (import ./names.nix)}; do
      ln -s gha-runner-controller "$out/bin/$name"
    done
    install -D --mode=644 --target-directory="$out/share/gha-runner-controller" monitoring/*
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    "$out/bin/gha-runner-controller" generate --output generated
    installManPage generated/man1/*
    installShellCompletion generated/completions/*.{bash,fish} --zsh generated/completions/_*
    install -D --mode=644 --target-directory="$out/share/gha-runner-controller/schemas" generated/schemas/*
    install -D --mode=644 --target-directory="$out/lib/systemd/catalog" generated/catalog/*
  '';

  # The flake adds the NixOS tests (default.nix).
  passthru.tests.version = testers.testVersion { package = finalAttrs.finalPackage; };

  meta = {
    description = "One freshly booted container for each CI job";
    homepage = manifest.package.repository;
    changelog = "${manifest.package.repository}/releases";
    mainProgram = "gha-runner-controller";
    license = with lib.licenses; [
      mit
      asl20
    ];
    # Whoever takes it into nixpkgs.
    maintainers = [ ];
    platforms = lib.platforms.linux;
  };
})
