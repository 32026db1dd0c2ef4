# Continues job-tree.sh in a tree that peers boot: what runs a container binds a directory with the registration to /peer.
mkdir -p "$units/multi-user.target.wants"
cat >"$units/peer-runner.service" <<'UNIT'
[Unit]
ConditionPathExists=/peer/jit
[Service]
User=runner
ExecStart=/bin/sh -c 'exec /opt/actions-runner/bin/Runner.Listener run --jitconfig "$(cat /peer/jit)"'
ExecStopPost=+/bin/systemctl --no-block --force poweroff
UNIT
ln -s ../peer-runner.service "$units/multi-user.target.wants/peer-runner.service"
