# Part of a switch on NixOS, before the new configuration ($systemConfig) is the current one.
for unit in /run/current-system/etc/systemd/system/gha-runner-*@.service; do
  [ -e "$unit" ] && [ ! -e "$systemConfig/etc/systemd/system/${unit##*/}" ] || continue
  mkdir -p /run/systemd/system /nix/var/nix/gcroots
  for path in "$unit" "$unit.d"; do
    name=${path##*/}
    ln -sfn "$(readlink -f "$path")" "/run/systemd/system/$name"
    ln -sfn "/run/systemd/system/$name" "/nix/var/nix/gcroots/$name"
  done
done
