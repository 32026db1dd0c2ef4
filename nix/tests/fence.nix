# A job reaches the internet and neither the host, nor its network, nor its neighbours; also when another owner of the
# firewall reloads it.
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
  name = "gha-runner-fence";
  nodes = {
    inherit (common) forge;
    host = {
      imports = [ common.host ];
      networking.nftables.enable = true;
      networking.nftables.flushRuleset = true;
    };
  };
  testScript = common.prelude + ''
    play("fence")
    for verb in ["reload", "restart"]:
        host.succeed(f"systemctl {verb} nftables.service")
        host.wait_until_succeeds("nft list table inet gha_runner", timeout=60)
    play("fence")
  '';
}
