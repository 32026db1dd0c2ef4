# Continues host-tree.sh in a tree that boots as a virtual machine: it runs the errand on its third disk and switches off.
cat >"$units/lab-errand.service" <<'UNIT'
[Unit]
Description=What this machine was started for
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/bin/sh -c 'mkdir -p /srv/template /srv/errand; mount -o ro /dev/vdb /srv/template; mount /dev/vdc /srv/errand; cd /srv/errand; bash ./errand.sh >log 2>&1; echo $? >status'
ExecStopPost=/bin/sh -c 'cd /; umount /srv/errand; systemctl poweroff --force --force'
UNIT
mkdir -p "$units/multi-user.target.wants"
ln -sf ../lab-errand.service "$units/multi-user.target.wants/lab-errand.service"
rm -f "$units/sysinit.target.wants/lab-uplink.service"
# Modules are loaded when something asks for them.
rm -f "$units/kmod-static-nodes.service"
