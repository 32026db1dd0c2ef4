#![allow(clippy::unwrap_used)]
use std::{fs, process::Command};

use settings::check::check;

use super::*;

fn settings(toml: &str) -> Settings {
    check(toml::from_str(toml).unwrap()).unwrap()
}

fn example() -> Settings {
    settings(
        r#"
        token_file = "/run/secrets/token"
        [[target]]
        repo = "octo-org/hello"
        [[target]]
        repo = "octo-org/world"
        token_file = "/run/secrets/other"
        [[target]]
        repo = "octo-org/again"
        [[target]]
        org = "octo-more"
        credential = "app"
        [credential.app]
        app_id = 7
        private_key_file = "/run/secrets/app.pem"
        [webhook]
        secret_file = "/run/secrets/webhook"
        [class.medium]
        cpus = 1.5
        memory = "4G"
        tasks = 500
        timeout = "30m"
        io_weight = 50
        disk = "10G"
        [class.nix-big]
        [limits]
        cpus = 7.5
        memory = "16G"
        tasks = 20000
        "#,
    )
}

fn places() -> Places {
    Places { binary: "/usr/bin/gha-runner-controller".into(), settings: SETTINGS_PATH.into() }
}

fn rendered() -> Files {
    render(&example(), &places()).unwrap()
}

fn unit(name: &str) -> String {
    rendered()[Path::new("systemd/system").join(name).as_path()].clone()
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line} in\n{text}");
    }
}

#[test]
fn there_is_a_template_and_a_slice_for_each_class() {
    let names: Vec<String> = rendered().into_keys().map(|path| path.display().to_string()).collect();
    for name in [
        "gha-runner-controller/settings.json",
        "sysctl.d/60-gha-runner-controller.conf",
        "sysusers.d/gha-runner-controller.conf",
        "systemd/network/00-gha-runner.link",
        "systemd/network/00-gha-runner.network",
        "systemd/system/gha-runner-controller.service",
        "systemd/system/gha-runner-firewall.service",
        "systemd/system/gha-runner-launcher.service",
        "systemd/system/gha-runner-launcher.socket",
        "systemd/system/gha-runner-prune.path",
        "systemd/system/gha-runner-prune.service",
        "systemd/system/gha-runner-medium.slice",
        "systemd/system/gha-runner-medium@.service",
        "systemd/system/gha-runner-nix-big@.service",
        "systemd/system/gha-runner-nix_big.slice",
        "systemd/system/gha-runner-sweep.service",
        "systemd/system/gha-runner.slice",
        "systemd/journald@gha-runner.conf",
        "tmpfiles.d/gha-runner-controller.conf",
        "udev/rules.d/99-zz-gha-runner.rules",
    ] {
        assert!(names.contains(&name.to_owned()), "{name} in {names:?}");
    }
}

#[test]
fn a_container_unit_keeps_its_promises() {
    let medium = unit("gha-runner-medium@.service");
    has(
        &medium,
        &[
            "ExecStartPre=/usr/bin/gha-runner-controller sandbox prepare --settings \
             /etc/gha-runner-controller/settings.json --class medium %i",
            "ExecStopPost=/usr/bin/gha-runner-controller sandbox teardown --settings \
             /etc/gha-runner-controller/settings.json --class medium %i",
            "CPUQuota=150%",
            "MemoryMax=4294967296",
            "MemorySwapMax=0",
            "TasksMax=500",
            "IOWeight=50",
            "DeviceAllow=block-loop rw",
            "RuntimeMaxSec=19860",
            "KillMode=mixed",
            "Delegate=yes",
            "DevicePolicy=closed",
            "CollectMode=inactive-or-failed",
            "StartLimitIntervalSec=0",
            "Slice=gha-runner-medium.slice",
            "LimitNOFILE=1048576",
            "LimitMEMLOCK=infinity",
        ],
    );
    let environment = medium.lines().find(|line| line.starts_with("Environment=")).unwrap();
    assert!(environment.ends_with(" SYSTEMD_NSPAWN_TMPFS_TMP=0"), "/tmp is disk: {environment}");
    assert!(!medium.contains("LoadCredential"), "systemd itself reads nothing the controller could have put there");
    let big = unit("gha-runner-nix-big@.service");
    has(&big, &["Slice=gha-runner-nix_big.slice", "RuntimeMaxSec=39660"]);
    assert!(!big.contains("MemoryMax") && !big.contains("CPUQuota") && !big.contains("loop"));
    let all = unit("gha-runner.slice");
    has(&all, &["CPUQuota=750%", "MemoryMax=17179869184", "MemorySwapMax=0", "TasksMax=20000"]);
    // GitHub's runner takes 12.5 s (docs/github.md#stopping-a-runner).
    assert!(std::time::Duration::from_millis(12_500) < contract::guest_settings::STOP_PATIENCE);
    assert!(contract::guest_settings::STOP_PATIENCE < container::STOP_TIMEOUT);
}

#[test]
fn only_a_class_that_asks_for_graphics_processors_may_use_their_devices() {
    let settings = settings(
        r#"
        token_file = "/run/secrets/token"
        [[target]]
        repo = "octo-org/hello"
        [class.plain]
        [class.cuda]
        gpu = true
        "#,
    );
    let files = render(&settings, &places()).unwrap();
    let devices = |class: &str| -> Vec<String> {
        let unit = &files[Path::new(&format!("systemd/system/gha-runner-{class}@.service"))];
        unit.lines().filter(|line| line.starts_with("Device")).map(str::to_owned).collect()
    };
    let usual =
        ["DevicePolicy=closed", "DeviceAllow=char-pts rw", "DeviceAllow=/dev/net/tun m", "DeviceAllow=/dev/fuse m"];
    assert_eq!(devices("plain"), usual);
    // As /proc/devices names them; `m`, because *prepare* makes nodes that are the container's own.
    let gpu = ["DeviceAllow=char-nvidia* rwm", "DeviceAllow=char-drm rwm", "DeviceAllow=char-kfd rwm"];
    assert_eq!(devices("cuda"), [&usual[..], &gpu].concat());
    if gpu::find(Path::new("/"), "cuda", &settings.classes["cuda"].gpu).is_err() {
        let problems = check_host(&settings).unwrap_err().to_string();
        assert!(problems.contains("class.cuda.gpu: this host has no graphics processor"), "{problems}");
    }
}

#[test]
fn a_class_may_use_the_devices_that_it_names_and_one_that_the_host_does_not_have_is_refused() {
    let text = "token_file = \"/t\"\n[[target]]\nrepo = \"o/h\"\n[class.vm]\ndevices = [\"loop\", \"kvm\", \"kvm\", \"fuse\"]\n";
    let settings = settings(text);
    let unit = &render(&settings, &places()).unwrap()[Path::new("systemd/system/gha-runner-vm@.service")];
    let devices: Vec<&str> = unit.lines().filter(|line| line.starts_with("DeviceAllow=")).skip(3).collect();
    let expected = [
        "DeviceAllow=/dev/kvm rwm",
        "DeviceAllow=/dev/fuse rwm",
        "DeviceAllow=/dev/loop-control rw",
        "DeviceAllow=block-loop rwm",
    ];
    assert_eq!(devices, expected, "as few as were named, each once");
    if !Path::new("/dev/kvm").exists() {
        let problems = check_host(&settings).unwrap_err().to_string();
        assert!(problems.contains("class.vm.devices: this host has no /dev/kvm"), "{problems}");
    }
}

/// `switch-to-configuration` of nixpkgs asks for these in exactly these sections and takes them for absent elsewhere.
#[test]
fn a_switch_of_nixos_leaves_running_containers_alone() {
    let section = |text: &str, wanted: &str| {
        let start = text.find(&format!("[{wanted}]\n")).unwrap();
        let rest = &text[start + 1..];
        rest[..rest.find("\n[").unwrap_or(rest.len())].to_owned()
    };
    let medium = unit("gha-runner-medium@.service");
    has(&section(&medium, "Service"), &["X-RestartIfChanged=false", "X-StopIfChanged=false"]);
    for text in [&medium, &unit("gha-runner-medium.slice"), &unit("gha-runner.slice")] {
        has(&section(text, "Unit"), &["X-StopOnRemoval=false"]);
    }
    has(&section(&unit("gha-runner-firewall.service"), "Service"), &["X-ReloadIfChanged=true"]);
}

#[test]
fn the_controller_gets_each_secret_once_and_no_privilege() {
    let controller = unit("gha-runner-controller.service");
    has(
        &controller,
        &[
            "User=gha-runner-controller",
            "Type=notify",
            "LoadCredential=forge-token-1:/run/secrets/token",
            "LoadCredential=forge-token-2:/run/secrets/other",
            "LoadCredential=forge-app:/run/secrets/app.pem",
            "LoadCredential=webhook-secret:/run/secrets/webhook",
            "CapabilityBoundingSet=",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "StateDirectory=gha-runner-controller",
            "RuntimeDirectoryPreserve=yes",
            "WatchdogSec=60",
        ],
    );
    assert_eq!(controller.matches("LoadCredential=").count(), 4);
    let elsewhere = Settings { state_dir: "/srv/runner".into(), ..example() };
    has(&controller::service(&elsewhere, &places()), &["ReadWritePaths=/srv/runner"]);
}

#[test]
fn only_the_controllers_user_reaches_the_launcher_which_has_no_privilege_but_its_user() {
    let socket = unit("gha-runner-launcher.socket");
    has(
        &socket,
        &[
            "ListenStream=/run/gha-runner-launcher.sock",
            "SocketUser=root",
            "SocketGroup=gha-runner-controller",
            "SocketMode=0660",
        ],
    );
    let service = unit("gha-runner-launcher.service");
    has(
        &service,
        &[
            "ExecStart=/usr/bin/gha-runner-controller sandbox launch --settings \
             /etc/gha-runner-controller/settings.json",
            "StandardInput=socket",
            "CapabilityBoundingSet=",
            "PrivateNetwork=yes",
            "ProtectSystem=strict",
        ],
    );
    assert!(unit("gha-runner-controller.service").contains("Wants=gha-runner-launcher.socket "));
}

#[test]
fn the_settings_that_are_written_are_the_settings_that_are_read() {
    let home = tempfile::tempdir().unwrap();
    install(home.path(), &rendered()).unwrap();
    let file = home.path().join("gha-runner-controller/settings.json");
    assert_eq!(settings::load(Some(&file), |_| None).unwrap(), example());
}

#[test]
fn files_are_written_once_and_units_of_classes_that_are_gone_are_removed() {
    let home = tempfile::tempdir().unwrap();
    let units = home.path().join("systemd/system");
    let count = rendered().len();
    assert_eq!(install(home.path(), &rendered()).unwrap().len(), count);
    assert!(install(home.path(), &rendered()).unwrap().is_empty());
    fs::write(units.join("gha-runner-own.service"), "[Unit]\n").unwrap();
    fs::write(units.join("other.service"), MARKER).unwrap();
    let fewer = settings("token_file = \"/t\"\n[[target]]\nrepo = \"o/h\"\n[class.medium]\n");
    install(home.path(), &render(&fewer, &places()).unwrap()).unwrap();
    assert!(!units.join("gha-runner-nix-big@.service").exists());
    assert!(!units.join("gha-runner-nix_big.slice").exists());
    for kept in ["gha-runner-medium@.service", "gha-runner-own.service", "other.service"] {
        assert!(units.join(kept).exists(), "{kept}");
    }
}

#[test]
fn what_is_missing_on_the_host_is_told() {
    let problems = check_host(&example()).unwrap_err().to_string();
    for word in [
        "credential.token-1.token_file",
        "/run/secrets/other",
        "credential.app.private_key_file",
        "webhook.secret_file",
        "template.default.path",
    ] {
        assert!(problems.contains(word), "{word} in {problems}");
    }
    let system = settings(
        r#"
        token_file = "/run/secrets/token"
        [[target]]
        repo = "octo-org/hello"
        [template.default]
        system = "/nix/store/none-nixos-system-job"
        runner_dir = "/nonexistent/runner"
        "#,
    );
    let problems = check_host(&system).unwrap_err().to_string();
    for words in
        ["template.default.system: /nix/store/none-nixos-system-job has no init", "template.default.runner_dir"]
    {
        assert!(problems.contains(words), "{words} in {problems}");
    }
    let odd = Places { binary: "relative".into(), settings: "/a b".into() };
    assert_eq!(check_places(&odd).unwrap_err().0.len(), 2);
}

#[test]
fn systemd_is_content_with_the_units() {
    let verify = || {
        let home = tempfile::tempdir().unwrap();
        // Verifying looks for the program.
        let binary = std::env::current_exe().unwrap();
        let guest = sandbox::guest::unit(&binary);
        let places = Places { binary, ..places() };
        install(home.path(), &render(&example(), &places).unwrap()).unwrap();
        let units = home.path().join("systemd/system");
        let instances = ["gha-runner-medium@j1234567.service", "gha-runner-nix-big@i1234567ab.service"];
        for (instance, template) in instances.iter().zip(["gha-runner-medium@.service", "gha-runner-nix-big@.service"])
        {
            std::os::unix::fs::symlink(units.join(template), units.join(instance)).unwrap();
        }
        fs::write(units.join("gha-runner-guest.service"), guest).unwrap();
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=no"]);
        command.args(instances.map(|instance| units.join(instance)));
        for unit in ["controller", "firewall", "sweep", "guest", "launcher"] {
            command.arg(units.join(format!("gha-runner-{unit}.service")));
        }
        command.output()
    };
    match verify() {
        Err(error) => println!("skipped: no systemd-analyze: {error}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            // What it says of other units of this machine is none of ours.
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("gha-runner")).collect();
            assert!(ours.is_empty(), "{ours:#?}");
        }
    }
}

#[test]
fn udev_networkd_and_networkmanager_leave_the_links_of_containers_alone() {
    let files = rendered();
    let text = |file: &str| {
        let text = &files[Path::new(file)];
        assert_eq!(text.lines().next(), Some(MARKER), "{file}");
        text.as_str()
    };
    has(
        text("systemd/network/00-gha-runner.link"),
        &["OriginalName=gj-* gp-*", "NamePolicy=", "MACAddressPolicy=none"],
    );
    has(text("systemd/network/00-gha-runner.network"), &["Name=gj-* gp-*", "Unmanaged=yes"]);
    let rules = text("udev/rules.d/99-zz-gha-runner.rules");
    let rules: Vec<&str> = rules.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let [rule] = rules[..] else { panic!("{rules:?}") };
    let parts: Vec<&str> = rule.split(", ").collect();
    for part in [
        r#"SUBSYSTEM=="net""#,
        r#"KERNEL=="gj-*|gp-*""#,
        // Assigned, so that nothing is left of the tag by which PID 1 makes units.
        r#"TAG="gha-runner""#,
        r#"ENV{NM_UNMANAGED}="1""#,
        // In place of all that was to be run.
        r#"RUN{builtin}="path_id""#,
    ] {
        assert!(parts.contains(&part), "{part} in {rule}");
    }
    // What others attach is there before it is taken back; what others configure comes too late.
    for other in ["99-systemd.rules", "99-local.rules", "80-ifupdown.rules"] {
        assert!("99-zz-gha-runner.rules" > other, "{other}");
    }
    for other in ["05-ether.network", "10-all.link", "99-default.link"] {
        assert!("00-gha-runner" < other, "{other}");
    }
}

#[test]
fn udev_reads_its_rules_without_a_word() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("99-zz-gha-runner.rules");
    fs::write(&file, links::udev()).unwrap();
    // Since 254.
    match Command::new("udevadm").arg("verify").arg(&file).output() {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("Unknown command") => {
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        }
        said => println!("skipped: no udevadm that verifies: {said:?}"),
    }
}

#[test]
fn what_all_containers_share_is_raised_for_as_many_as_there_may_be_and_never_below_the_kernels_own() {
    for containers in [1, 7, 1000] {
        let settings = Settings { max_concurrent: containers, ..example() };
        let text = &render(&settings, &places()).unwrap()[Path::new("sysctl.d/60-gha-runner-controller.conf")];
        assert_eq!(text.lines().next(), Some(MARKER));
        let values: BTreeMap<&str, u64> = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_once(" = ").unwrap())
            .map(|(key, value)| (key, value.parse().unwrap()))
            .collect();
        assert_eq!(values.len(), sysctl::LIMITS.len());
        for limit in &sysctl::LIMITS {
            let value = values[limit.key];
            assert!(value >= limit.each * containers as u64 + limit.host, "{} = {value}", limit.key);
            assert!(value >= limit.least, "{} = {value}", limit.key);
            // The kernel refuses more for most of them, and one that it refuses fails systemd-sysctl.
            assert!(value <= i32::MAX as u64, "{} = {value}", limit.key);
        }
        // Nine for each idle container, and 128 for a host without any.
        assert!(values["fs.inotify.max_user_instances"] > 9 * containers as u64 + 128);
    }
}

#[test]
fn the_polkit_rule_of_earlier_versions_goes_and_a_rule_of_somebody_else_stays() {
    let home = tempfile::tempdir().unwrap();
    let rule = home.path().join("polkit-1/rules.d/60-gha-runner-controller.rules");
    let files = rendered();
    install(home.path(), &files).unwrap();
    fs::create_dir_all(rule.parent().unwrap()).unwrap();
    for (text, goes) in [
        ("// Written by gha-runner-controller units; changes are lost.\npolkit.addRule(…);\n", true),
        ("// Written by hand.\npolkit.addRule(…);\n", false),
    ] {
        fs::write(&rule, text).unwrap();
        let changes = install(home.path(), &files).unwrap();
        let told = format!("removed {}", rule.display());
        assert_eq!((changes.contains(&told), !rule.exists()), (goes, goes), "{text}: {changes:?}");
    }
}
