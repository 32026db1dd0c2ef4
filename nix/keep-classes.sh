# Part of a switch on NixOS, before the new configuration ($systemConfig) is the current one. A class that is gone keeps
# its unit until its last container has ended: each container looks, a moment after its end, whether it was that.
programs=/run/current-system/sw/bin
for unit in /run/current-system/etc/systemd/system/gha-runner-*@.service; do
  name=${unit##*/}
  [ -e "$unit" ] && [ ! -e "$systemConfig/etc/systemd/system/$name" ] || continue
  instances="${name%.service}*.service"
  [ -n "$("$programs/systemctl" list-units --plain --no-legend "$instances")" ] || continue
  kept=/run/systemd/system/$name
  roots=/nix/var/nix/gcroots/$name
  mkdir -p "$kept.d" "$roots"
  for file in "$unit" "$unit.d"/*; do
    [ -e "$file" ] || continue
    [ "$file" = "$unit" ] && link=$kept || link=$kept.d/${file##*/}
    ln -sfn "$(readlink -f "$file")" "$link"
    ln -sfn "$link" "$roots/${link##*/}"
  done
  look="sleep 2; systemctl list-units --plain --no-legend \"$instances\" | grep -q . || rm -rf $kept $kept.d $roots"
  cat >"$kept.d/zz-leave.conf" <<END
[Service]
ExecStopPost=-+$programs/systemd-run --quiet --collect --no-block --setenv=PATH=$programs $programs/sh -c '$look'
END
done
