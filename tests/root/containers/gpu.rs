//! A class with one card of two, by a CDI specification. The cards are made up: their nodes have the numbers of harmless
//! devices, or of none.

use contract::event::What;

use crate::{
    assert_nothing_left,
    host::{CLASS, Host, HostConfig, PROGRAM},
};

const SETUP: &str = r#"
mknod /dev/nvidia0 c 511 0; mknod /dev/nvidia1 c 1 5; mknod /dev/nvidiactl c 1 3
mkdir -p /etc/cdi /dev/dri /usr/lib/gpu-test; mknod /dev/dri/renderD128 c 511 1
chmod 660 /dev/nvidia* /dev/dri/renderD128
cp "$(readlink -f /lib/x86_64-linux-gnu/libutil.so.1 || ls /lib/*/libutil.so.1)" /usr/lib/gpu-test/libcuda.so.550.1
cat > /etc/cdi/nvidia.yaml <<'EOF'
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
    - name: "0"
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
    - name: "1"
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia1
containerEdits:
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    deviceNodes:
        - path: /dev/nvidiactl
    hooks:
        - hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
          args: [nvidia-cdi-hook, create-symlinks, --link, "libcuda.so.550.1::/usr/lib/gpu-test/libcuda.so"]
        - hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
          args: [nvidia-cdi-hook, update-ldcache, --folder, /usr/lib/gpu-test]
    mounts:
        - hostPath: /usr/lib/gpu-test/libcuda.so.550.1
          containerPath: /lib/gpu-test/libcuda.so.550.1
          options: [ro, nosuid, nodev, rbind, rprivate]
EOF
"#;

const JOB: &str = r#"
say "Listening for Jobs"
cd /dev; echo "nodes: $(ls -d nvidia* dri/* kfd 2> /dev/null | tr '\n' ' ');"; cd - > /dev/null
[ "$(head -c 3 /dev/nvidia1 2> /dev/null | od -An -tx1 | tr -d ' ')" = 000000 ] && (: <> /dev/nvidiactl) && echo "opens;"
echo "link: $(readlink /usr/lib/gpu-test/libcuda.so); known: $(/usr/sbin/ldconfig -p | grep -c gpu-test);"
grep -s NVIDIA .env
sudo sh -c ': >> /usr/lib/gpu-test/libcuda.so.550.1' 2> /dev/null && echo "written;"
sudo mknod /tmp/nvidia0 c 511 0 2> /dev/null && echo "made;"
say "Running job: gpu"
exec sleep 1000
"#;

#[test]
fn a_job_has_the_card_its_class_names_and_nothing_of_the_other_and_another_class_has_none() {
    let config = HostConfig {
        job: JOB.into(),
        setup: SETUP.into(),
        class: "gpu = \"nvidia.com/gpu=1\"\nmax_concurrent = 1".into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let before = host.lab.leftovers().unwrap();
    let run = |name: &str| {
        host.hand_over(name, 1);
        host.start(name).unwrap_or_else(|error| panic!("{error}"));
        host.wait_for(name, &What::JobStarted { job: "gpu".into(), task: None });
        host.kill(name);
        assert_eq!(host.ending(name).left_behind, Vec::<String>::new());
        host.journal(name)
    };
    let journal = run("j0000001");
    for line in
        ["nodes: nvidia1 nvidiactl ;", "opens;", "link: libcuda.so.550.1;", "known: 1;", "NVIDIA_VISIBLE_DEVICES=void"]
    {
        assert!(journal.contains(line), "{line}:\n{journal}");
    }
    for line in ["written;", "made;"] {
        assert!(!journal.contains(line), "{line}:\n{journal}");
    }

    let settings = "/etc/gha-runner-controller/config.toml";
    let check = || host.lab.shell(&format!("{PROGRAM} check --gpu --config {settings} || echo status $?")).unwrap();
    let told = check();
    for line in [
        "/dev/nvidia1 (1:5) opens",
        "/dev/nvidiactl (1:3) opens",
        "NVIDIA_VISIBLE_DEVICES=void is in",
        &format!("ok       class.{CLASS}.gpu: works: 2 device nodes, 1 files and directories"),
    ] {
        assert!(told.contains(line), "{line}:\n{told}");
    }
    assert!(!told.contains("status"), "{told}");
    let configure = |sed: &str| {
        host.lab
            .shell(&format!(
                "sed -i '{sed}' {settings}; {PROGRAM} units --config {settings} --output /etc; systemctl daemon-reload"
            ))
            .unwrap();
    };
    // A card whose driver is not there.
    configure("s|gpu=1|gpu=0|");
    let told = check();
    for line in ["/dev/nvidia0 (511:0) does not open: ", &format!("class.{CLASS}.gpu: does not work"), "status 1"] {
        assert!(told.contains(line), "{line}:\n{told}");
    }
    configure("/^gpu/d");
    let journal = run("j0000002");
    assert!(journal.contains("nodes: ;"), "{journal}");
    for line in ["opens;", "link: lib", "NVIDIA"] {
        assert!(!journal.contains(line), "{line}:\n{journal}");
    }
    assert_nothing_left(&host, &before);
}
