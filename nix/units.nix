# Units, slices, rules for udev, kernel limits, tmpfiles lines and resolved settings, rendered by the program itself: a
# configuration it refuses fails here, with its own words. Where everything goes below lib/ is what `systemd.packages` and
# `services.udev.packages` expect.
{
  runCommand,
  package,
  # The configuration file, as an attribute set.
  settings,
}:
runCommand "gha-runner-controller-units"
  {
    passAsFile = [ "settings" ];
    settings = builtins.toJSON settings;
    preferLocalBuild = true;
    allowSubstitutes = false;
  }
  ''
    mv "$settingsPath" config.json
    ${package}/bin/gha-runner-controller units --static --config config.json --output "$out/lib" \
      --binary ${package}/bin/gha-runner-controller >/dev/null
  ''
