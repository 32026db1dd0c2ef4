# A job reaches the internet and neither the host, nor its network, nor its neighbours; also when another owner of the
# firewall reloads it.
{
  imports = [ ./common.nix ];
  name = "gha-runner-fence";
  nodes.host.networking.nftables = {
    enable = true;
    flushRuleset = true;
  };
  script = ''
    play("fence")
    for verb in ["reload", "restart"]:
        host.succeed(f"systemctl {verb} nftables.service")
        host.wait_until_succeeds("nft list table inet gha_runner", timeout=60)
    play("fence")
  '';
}
