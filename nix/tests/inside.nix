# What the default container promises: Nix builds, programs of other distributions start, Docker answers, sudo works.
{
  lib,
  package,
  laboratory,
  ...
}:
let
  common = import ./common.nix { inherit lib package laboratory; };
in
{
  name = "gha-runner-inside";
  nodes = { inherit (common) forge host; };
  testScript = common.prelude + ''
    finish(queue("sudo", "test $(sudo id -u) = 0"))
    finish(queue("tools", "for tool in git curl jq gcc make python3 zstd; do command -v $tool; done"))
    # Known from the start, and a build of its own that the host never sees.
    finish(queue("nix", "nix-store --query --hash $(readlink -f $(command -v git) | cut -d/ -f1-4); "
        "nix build --offline --impure --expr 'derivation { name = \"made-by-a-job\"; system = builtins.currentSystem; "
        "builder = \"/bin/sh\"; args = [ \"-c\" \"echo hi > $out\" ]; }'; grep hi result"))
    host.fail("ls /nix/store/*-made-by-a-job")
    # An interpreter where other distributions have it, which finds its libraries.
    finish(queue("nix-ld", "test -e /lib64/ld-linux-x86-64.so.2 -o -e /lib/ld-linux-aarch64.so.1; "
        "test -e /run/current-system/sw/share/nix-ld/lib/ld.so"))
    finish(queue("docker", "test ! -e /run/docker.pid; docker info"))
    nothing_left()
  '';
}
