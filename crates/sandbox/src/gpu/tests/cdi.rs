use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::PathBuf,
};

use serde_json::Value;

use super::{super::Found, found, inside, put};

/// In the form of `nvidia-ctk cdi generate`, with two cards. Made up: no machine with a card was at hand.
const DEBIAN: &str = include_str!("fixtures/nvidia.yaml");
/// In the form of NixOS' nvidia-container-toolkit-cdi-generator.service.
const NIXOS: &str = include_str!("fixtures/nvidia-container-toolkit.json");

/// A host with this specification and all that it names.
fn host(file: &str, text: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), file, text);
    // JSON is YAML too.
    let specification: Value = serde_saphyr::from_str(text).unwrap();
    let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
    let mut edits: Vec<Value> =
        list(&specification, "devices").iter().map(|device| device["containerEdits"].clone()).collect();
    edits.push(specification["containerEdits"].clone());
    let nodes = edits.iter().flat_map(|its| list(its, "deviceNodes")).map(|node| node["path"].clone());
    let mounts = edits.iter().flat_map(|its| list(its, "mounts")).map(|mount| mount["hostPath"].clone());
    for path in nodes.chain(mounts) {
        let path = path.as_str().unwrap().trim_start_matches('/');
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        if path.ends_with("/socket") {
            drop(UnixListener::bind(file).unwrap());
        } else if path.ends_with("lib") || path.ends_with("opengl-driver") {
            fs::create_dir_all(file).unwrap();
        } else if !file.exists() {
            fs::write(file, "").unwrap();
        }
    }
    root
}

#[test]
fn one_card_of_a_debian_host_is_its_nodes_the_common_ones_and_the_drivers_files() {
    let root = host("etc/cdi/nvidia.yaml", DEBIAN);
    let one = found(root.path(), &["nvidia.com/gpu=1"]).unwrap();
    assert_eq!(
        inside(&one.gpu.devices),
        [
            "/dev/nvidia1",
            "/dev/dri/card1",
            "/dev/dri/renderD129",
            "/dev/nvidia-modeset",
            "/dev/nvidia-uvm",
            "/dev/nvidia-uvm-tools",
            "/dev/nvidiactl"
        ]
    );
    let mounts = inside(&one.gpu.mounts);
    assert_eq!(
        mounts,
        [
            "/usr/lib/x86_64-linux-gnu/libcuda.so.550.163.01",
            "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.163.01",
            "/usr/bin/nvidia-smi",
            "/lib/firmware/nvidia/550.163.01/gsp_ga10x.bin",
        ]
    );
    let guest = &one.gpu.guest;
    assert_eq!(guest.environment["NVIDIA_VISIBLE_DEVICES"], "void");
    assert_eq!(guest.libraries, [PathBuf::from("/usr/lib/x86_64-linux-gnu")]);
    let links: Vec<(&str, &str)> =
        guest.links.iter().map(|link| (link.at.to_str().unwrap(), link.target.to_str().unwrap())).collect();
    assert_eq!(
        links,
        [
            ("/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1"),
            ("/usr/lib/x86_64-linux-gnu/libcuda.so", "libcuda.so.1"),
        ]
    );
    // What containers do not get is named, and why.
    for what in [
        "/run/nvidia-persistenced/socket: a socket",
        "enable-cuda-compat: ",
        "/dev/dri/by-path/pci-0000:02:00.0-card: ",
    ] {
        assert!(one.left_out.iter().any(|line| line.contains(what)), "{what} in {:?}", one.left_out);
    }
    // As does the vendor's name, for both cards.
    let all = inside(&found(root.path(), &["nvidia"]).unwrap().gpu.devices).len();
    assert_eq!(all, 10);
}

#[test]
fn a_nixos_host_has_the_driver_in_its_store() {
    let root = host("run/cdi/nvidia-container-toolkit.json", NIXOS);
    let gpu = found(root.path(), &["nvidia.com/gpu=all"]).unwrap().gpu;
    assert_eq!(inside(&gpu.devices), ["/dev/nvidia0", "/dev/nvidia-uvm", "/dev/nvidiactl"]);
    let mounts = inside(&gpu.mounts);
    assert!(mounts.contains(&"/run/opengl-driver") && mounts.contains(&"/usr/bin/nvidia-smi"), "{mounts:?}");
    assert_eq!(gpu.guest.libraries, [PathBuf::from("/nix/store/0000-nvidia-x11/lib"), "/usr/local/nvidia/lib".into()]);
}

#[test]
fn a_device_that_no_specification_has_is_refused_with_those_there_are() {
    let root = host("etc/cdi/nvidia.yaml", DEBIAN);
    put(root.path(), "etc/cdi/broken.json", "{");
    let said = found(root.path(), &["nvidia.com/gpu=7"]).unwrap_err();
    for words in ["has nvidia.com/gpu=7", "there are 0, 1, ", "broken.json is not a CDI", "nvidia-ctk cdi generate"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert!(
        found(root.path(), &["nvidia.com/gpu=0"]).unwrap().left_out.iter().any(|line| line.contains("broken.json"))
    );
}

#[test]
fn of_two_directories_the_later_counts_and_in_one_nothing_is_said_twice() {
    let text = |node: &str| {
        format!(
            "cdiVersion: 0.5.0\nkind: a.com/gpu\ndevices:\n- name: x\n  containerEdits:\n    deviceNodes:\n    - path: {node}\n"
        )
    };
    let root = host("etc/cdi/a.yaml", &text("/dev/old"));
    put(root.path(), "run/cdi/a.yml", &text("/dev/new"));
    put(root.path(), "dev/new", "");
    assert_eq!(inside(&found(root.path(), &["a.com/gpu=x"]).unwrap().gpu.devices), ["/dev/new"]);
    put(root.path(), "run/cdi/b.yml", &text("/dev/new"));
    assert!(found(root.path(), &["a.com/gpu=x"]).unwrap_err().contains("remove one of the files"));
}

/// A specification with these edits, on a host with what a good one may name.
fn edited(edits: &str) -> Result<Found, String> {
    let root = tempfile::tempdir().unwrap();
    for file in ["dev/nvidia0", "usr/lib/libx.so", "etc/shadow", "root/.ssh/id", "tmp/x"] {
        put(root.path(), file, "");
    }
    fs::set_permissions(root.path().join("etc/shadow"), Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("../../root/.ssh/id", root.path().join("usr/lib/link.so")).unwrap();
    let text =
        format!(r#"{{"cdiVersion":"0.6.0","kind":"a.com/gpu","devices":[{{"name":"x","containerEdits":{edits}}}]}}"#);
    put(root.path(), "etc/cdi/a.json", &text);
    found(root.path(), &["a.com/gpu=x"])
}

#[test]
fn a_specification_reaches_nothing_but_devices_and_a_drivers_files() {
    let mount = |from: &str, at: &str| format!(r#"{{"mounts":[{{"hostPath":"{from}","containerPath":"{at}"}}]}}"#);
    assert_eq!(
        inside(&edited(&mount("/usr/lib/libx.so", "/usr/lib/libx.so")).unwrap().gpu.mounts),
        ["/usr/lib/libx.so"]
    );
    for (from, at) in [
        ("/", "/host/root"),
        ("/etc", "/srv/etc"),
        ("/etc/shadow", "/srv/shadow"),
        ("/root/.ssh", "/srv/ssh"),
        ("/usr/lib/link.so", "/srv/link"),
        ("/usr/lib/../../root/.ssh", "/srv/ssh"),
        ("/dev/nvidia0", "/srv/x"),
        ("/usr/lib/none.so", "/srv/x"),
        ("usr/lib/libx.so", "/srv/x"),
        ("/usr/lib/libx.so", "/etc/systemd/system/x.service"),
        ("/usr/lib/libx.so", "/proc/self/x"),
        ("/usr/lib/libx.so", "/usr"),
        ("/usr/lib/libx.so", "/usr/lib/../../x"),
        ("/usr/lib/libx.so", "/usr/lib/a:rw"),
    ] {
        let said = edited(&mount(from, at)).map(|found| found.gpu.mounts);
        assert!(said.as_ref().is_err_and(|said| said.contains("class.big.gpu: ") && said.contains(from)), "{said:?}");
    }
    assert!(edited(&mount("/tmp/x", "/srv/x")).unwrap().left_out[0].contains("temporary"));
    let node = |path: &str, host: &str| format!(r#"{{"deviceNodes":[{{"path":"{path}","hostPath":"{host}"}}]}}"#);
    assert!(edited(&node("/dev/nvidia0", "/dev/nvidia0")).is_ok());
    for (path, host) in
        [("/dev/../etc/x", "/dev/nvidia0"), ("/etc/x", "/dev/nvidia0"), ("/dev/nvidia0", "/dev/nvidia9")]
    {
        assert!(edited(&node(path, host)).is_err(), "{path}");
    }
    for variable in ["", "A B=1", "A=1\\nB=2"] {
        assert!(edited(&format!(r#"{{"env":["{variable}"]}}"#)).is_err(), "{variable}");
    }
    let hook = |arguments: &str| {
        edited(&format!(r#"{{"hooks":[{{"hookName":"createContainer","path":"/usr/bin/rm","args":[{arguments}]}}]}}"#))
    };
    assert!(hook(r#""rm","-rf","/""#).unwrap().left_out[0].contains("hook /usr/bin/rm"));
    assert!(hook(r#""nvidia-ctk","hook","create-symlinks","--link","x::/etc/systemd/system/x""#).is_err());
    assert!(hook(r#""nvidia-ctk","hook","create-symlinks","--link=x""#).is_err());
}

#[test]
fn a_file_that_root_does_not_own_alone_or_that_is_too_large_does_not_count() {
    let root = host("etc/cdi/nvidia.yaml", DEBIAN);
    let file = root.path().join("etc/cdi/nvidia.yaml");
    let why = || found(root.path(), &["nvidia.com/gpu=0"]).unwrap_err();
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    assert!(why().contains("can be written by others"), "{}", why());
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, format!("{DEBIAN}\n#{}", "x".repeat(1 << 20))).unwrap();
    assert!(why().contains("has more than 1048576 bytes"), "{}", why());
    fs::write(&file, DEBIAN.replace("0.5.0", "2.0.0")).unwrap();
    assert!(why().contains("version \"2.0.0\""), "{}", why());
    // Names that double with each line.
    let laughs: String = (1..40).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1)).collect();
    fs::write(&file, format!("a0: &a0 [x, x]\n{laughs}{DEBIAN}")).unwrap();
    assert!(why().contains("is not a CDI specification"), "{}", why());
}
