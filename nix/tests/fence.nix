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
      services.nginx.enable = true;
      networking.firewall.allowedTCPPorts = [ 80 ];
    };
  };
  testScript = common.prelude + ''
    host.wait_for_unit("nginx.service")
    probe = "gateway=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'); ! curl -s --max-time 2 http://$gateway/"
    finish(queue("host", probe))
    finish(queue("metadata", "! curl -s --max-time 2 http://169.254.169.254/"))
    host.succeed("nft list table inet gha_runner")
    for verb in ["reload", "restart"]:
        host.succeed(f"systemctl {verb} nftables.service")
        host.wait_until_succeeds("nft list table inet gha_runner", timeout=MINUTE)
    finish(queue("still", probe))
  '';
}
