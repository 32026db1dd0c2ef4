# A queued job becomes one container, runs, and leaves nothing.
{
  imports = [ ./common.nix ];
  name = "gha-runner-job";
  script = ''
    play("job")
  '';
}
