//! Whether a class's graphics processors can be used: what its containers would get, piece by piece.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use rustix::{
    fs::{major, minor},
    mount::{MountFlags, UnmountFlags},
};
use sandbox::{
    gpu::{self, Found, Seen},
    graphics,
};
use settings::{Gpu, Settings};

use super::{Finding, Severity, worst};

/// What the class is called that there is none of.
const NOBODYS: &str = "NAME";
/// Who opens the nodes, as little as a job's user is anybody on the host.
const NOBODY: u32 = 65_534;
/// Says of each node that it opens, or why not.
const SCRIPT: &str = r#"for node; do if why=$( (: <> "$node") 2>&1 ); then echo ok; else echo "${why##*: }"; fi; done"#;
const OPENS: &str = "ok";
const WORKS_FIRST: &str = "see that it works on the host first (nvidia-smi, rocminfo, vainfo); what is not permitted is of \
                           a kind in /proc/devices that a class with this value does not get";

/// Opens the nodes of a class that has these processors; for each whether that worked, or why not.
type Open = fn(&[Gpu], &[Seen]) -> anyhow::Result<Vec<Result<(), String>>>;

/// All that containers of each class with `gpu` get on the host with this root directory, and at the end of each class's
/// findings the verdict.
pub fn of_classes(root: &Path, settings: &Settings, open: Open) -> Vec<Finding> {
    let classes: Vec<(&str, &[Gpu], usize)> = settings
        .classes
        .values()
        .filter(|class| !class.gpu.is_empty())
        .map(|class| (&*class.name, &*class.gpu, class.max_concurrent))
        .collect();
    if classes.is_empty() {
        let none = Finding::warning(
            "gpu",
            "no class has graphics processors; what follows is what `gpu = true` would give",
            "write `gpu` into a class, or nothing if jobs need none",
        );
        return std::iter::once(none).chain(of_class(root, NOBODYS, &[Gpu::All], open).0).collect();
    }
    let mut all = Vec::new();
    let mut given: Vec<(&str, BTreeSet<PathBuf>)> = Vec::new();
    for (class, choices, most) in classes {
        let (findings, processors) = of_class(root, class, choices, open);
        let about = format!("class.{class}.gpu");
        if most > 1 && !processors.is_empty() {
            all.push(Finding::warning(
                about.clone(),
                format!("up to {most} jobs at once share these processors and their memory"),
                "write max_concurrent = 1, unless jobs may take the memory from each other",
            ));
        }
        for (other, theirs) in &given {
            let shared: Vec<String> = theirs.intersection(&processors).map(|node| node.display().to_string()).collect();
            if !shared.is_empty() {
                all.push(Finding::warning(
                    about.clone(),
                    format!("class {other} has {} as well", shared.join(", ")),
                    "name a card for each class, e.g. nvidia.com/gpu=0, unless jobs may share one",
                ));
            }
        }
        given.push((class, processors));
        all.extend(findings);
    }
    all
}

/// What is found of a class, and the nodes that are processors, not what goes with one.
fn of_class(root: &Path, class: &str, choices: &[Gpu], open: Open) -> (Vec<Finding>, BTreeSet<PathBuf>) {
    let about = format!("class.{class}.gpu");
    let found = match gpu::find(root, class, choices) {
        Ok(found) => found,
        Err(problem) => return (vec![Finding::error(problem.key, problem.problem, problem.remedy)], BTreeSet::new()),
    };
    let Found { gpu, left_out } = &found;
    let fine = |what: String| Finding::fine(&*about, what);
    let mut findings = nodes(&about, choices, &gpu.devices, open);
    findings.extend(gpu.mounts.iter().map(|mount| fine(format!("{} is mounted, read-only", shown(mount)))));
    let guest = &gpu.guest;
    findings
        .extend(guest.links.iter().map(|its| fine(format!("{} leads to {}", its.at.display(), its.target.display()))));
    findings.extend(
        guest.libraries.iter().map(|its| fine(format!("ldconfig is run for {}, if there is one", its.display()))),
    );
    findings.extend(
        guest.environment.iter().map(|(name, value)| fine(format!("{name}={value} is in the job's environment"))),
    );
    findings.extend(left_out.iter().map(|what| fine(format!("left out: {what}"))));
    findings.extend(stale(root, &about, &gpu.mounts));
    let (devices, mounts) = (gpu.devices.len(), gpu.mounts.len());
    findings.push(match worst(&findings) {
        Severity::Fine => fine(format!("works: {devices} device nodes, {mounts} files and directories")),
        Severity::Warning => Finding::warning(&*about, "was not tried in full", "see the warnings above"),
        Severity::Error => Finding::error(&*about, "does not work", "see the errors above"),
    });
    let is_processor = |node: &&PathBuf| {
        let name = node.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ["nvidia", "renderD"].iter().any(|kind| name.strip_prefix(kind).is_some_and(|rest| rest.parse::<u32>().is_ok()))
    };
    (findings, gpu.devices.iter().map(|device| &device.inside).filter(is_processor).cloned().collect())
}

fn nodes(about: &str, choices: &[Gpu], devices: &[Seen], open: Open) -> Vec<Finding> {
    let results = match open(choices, devices) {
        Ok(results) => results,
        Err(error) => {
            let what = format!("device nodes were not tried: {error:#}");
            return vec![Finding::warning(about, what, "run check --gpu as root on the host itself")];
        }
    };
    let finding = |(device, result): (&Seen, Result<(), String>)| {
        let number = fs::metadata(&device.source)
            .map_or_else(|_| "?".to_owned(), |its| format!("{}:{}", major(its.rdev()), minor(its.rdev())));
        match result {
            Ok(()) => Finding::fine(about, format!("{} ({number}) opens", shown(device))),
            Err(why) => {
                Finding::error(about, format!("{} ({number}) does not open: {why}", shown(device)), WORKS_FIRST)
            }
        }
    };
    devices.iter().zip(results).map(finding).collect()
}

fn shown(seen: &Seen) -> String {
    match seen.source == seen.inside {
        true => seen.inside.display().to_string(),
        false => format!("{}, from {},", seen.inside.display(), seen.source.display()),
    }
}

/// A library of another version than the driver that is loaded: the driver was updated, and the machine not started anew.
fn stale(root: &Path, about: &str, mounts: &[Seen]) -> Option<Finding> {
    let loaded = fs::read_to_string(root.join("sys/module/nvidia/version")).ok()?;
    let version = |mount: &Seen| mount.inside.file_name()?.to_str()?.strip_prefix("libcuda.so.").map(str::to_owned);
    let library = mounts.iter().filter_map(version).find(|version| version.contains('.'))?;
    (library != loaded.trim()).then(|| {
        Finding::error(
            about,
            format!("the driver that is loaded is {}, its library {library}", loaded.trim()),
            "start the machine anew, or write the CDI specification anew",
        )
    })
}

/// Opens copies of the nodes as a nobody, in a unit that has the device list of the class's own.
pub fn open_as_a_job(choices: &[Gpu], devices: &[Seen]) -> anyhow::Result<Vec<Result<(), String>>> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root can make device nodes");
    }
    let home = tempfile::Builder::new().prefix("gha-runner-check-gpu-").tempdir_in("/run")?;
    // Nodes in /run itself cannot be opened.
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount("gha-runner-check-gpu", home.path(), "tmpfs", flags, c"mode=0711,size=256k")
        .with_context(|| format!("cannot mount {}", home.path().display()))?;
    let result = open_copies(choices, devices, home.path());
    rustix::mount::unmount(home.path(), UnmountFlags::DETACH).context("cannot unmount the copies of device nodes")?;
    result
}

fn open_copies(choices: &[Gpu], devices: &[Seen], home: &Path) -> anyhow::Result<Vec<Result<(), String>>> {
    let copies: Vec<PathBuf> = (0..devices.len()).map(|number| home.join(number.to_string())).collect();
    let made: Vec<Result<(), String>> = devices
        .iter()
        .zip(&copies)
        .map(|(device, copy)| graphics::copy_node(&device.source, copy, NOBODY).map_err(|error| format!("{error:#}")))
        .collect();
    let list = gpu::device_allow(choices).into_iter().map(|line| format!("--property={line}"));
    let output = Command::new("timeout")
        .args(["30", "systemd-run", "--quiet", "--wait", "--pipe", "--collect"])
        .args(["--property=DevicePolicy=closed", "--property=RuntimeMaxSec=20"])
        .args(list)
        .args([format!("--uid={NOBODY}"), format!("--gid={NOBODY}")])
        .args(["/bin/sh", "-c", SCRIPT, "sh"])
        .args(&copies)
        .stdin(Stdio::null())
        .output()
        .context("cannot start systemd-run")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    if !output.status.success() || lines.len() != devices.len() {
        bail!("systemd-run: {}, {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let opened = lines.into_iter().map(|line| if line == OPENS { Ok(()) } else { Err(line.to_owned()) });
    Ok(made.into_iter().zip(opened).map(|(made, opened)| made.and(opened)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use settings::check::check;

    fn settings(classes: &str) -> Settings {
        let text = format!("token_file = \"/run/token\"\n[[target]]\nrepo = \"octo-org/hello\"\n{classes}");
        check(toml::from_str(&text).unwrap()).unwrap()
    }

    /// A host with two cards of Intel's and one of NVIDIA's, whose driver is of this version.
    fn host(loaded: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("dev/dri/renderD128", ""),
            ("dev/dri/renderD129", ""),
            ("dev/nvidia0", ""),
            ("sys/class/drm/renderD128/device/vendor", "0x8086\n"),
            ("sys/class/drm/renderD129/device/vendor", "0x8086\n"),
            ("sys/module/nvidia/version", loaded),
            ("usr/lib64/libcuda.so.1", ""),
            ("usr/lib64/libcuda.so.550.163.01", ""),
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const ALL_OPEN: Open = |_, devices| Ok(devices.iter().map(|_| Ok(())).collect());

    fn said(root: &Path, classes: &str, open: Open) -> (Severity, String) {
        let findings = of_classes(root, &settings(classes), open);
        (worst(&findings), findings.iter().map(|finding| format!("{finding}\n")).collect())
    }

    #[test]
    fn each_piece_has_a_line_and_the_last_one_is_the_verdict() {
        let root = host("550.163.01\n");
        let (worst, text) = said(root.path(), "[class.cuda]\ngpu = \"nvidia\"\nmax_concurrent = 1", ALL_OPEN);
        assert_eq!(worst, Severity::Fine, "{text}");
        for words in ["/dev/nvidia0, from ", "opens", "/usr/lib64/libcuda.so.550.163.01, from "] {
            assert!(text.contains(words), "{words} in {text}");
        }
        let verdict = text.lines().last().unwrap();
        assert_eq!(verdict, "ok       class.cuda.gpu: works: 1 device nodes, 2 files and directories");
    }

    #[test]
    fn a_node_that_does_not_open_an_old_library_and_a_card_that_is_not_there_are_errors() {
        let root = host("570.1\n");
        let (worst, text) = said(root.path(), "[class.cuda]\ngpu = \"nvidia\"\nmax_concurrent = 1", ALL_OPEN);
        assert!(worst == Severity::Error && text.contains("is 570.1, its library 550.163.01"), "{text}");
        let refused: Open = |_, devices| Ok(devices.iter().map(|_| Err("No such device".to_owned())).collect());
        let (worst, text) = said(host("550.163.01").path(), "[class.cuda]\ngpu = \"nvidia\"", refused);
        assert!(worst == Severity::Error && text.contains("does not open: No such device. Remedy: "), "{text}");
        assert!(text.trim_end().ends_with("class.cuda.gpu: does not work. Remedy: see the errors above"), "{text}");
        let (worst, text) = said(root.path(), "[class.rocm]\ngpu = \"amd\"", ALL_OPEN);
        assert!(worst == Severity::Error && text.contains("no graphics processor of AMD's"), "{text}");
    }

    #[test]
    fn jobs_and_classes_that_share_a_card_are_named_and_what_was_not_tried_is_no_success() {
        let root = host("550.163.01");
        let classes = "[class.one]\ngpu = \"/dev/dri/renderD128\"\nmax_concurrent = 1\n[class.two]\ngpu = \"intel\"\n\
                       max_concurrent = 1\n[class.three]\ngpu = \"/dev/dri/renderD129\"\nmax_concurrent = 2\n";
        let (worst, text) = said(root.path(), classes, ALL_OPEN);
        assert_eq!(worst, Severity::Warning, "{text}");
        for words in [
            "class.two.gpu: class one has /dev/dri/renderD128 as well",
            "class.two.gpu: class three has /dev/dri/renderD129 as well",
            "class.three.gpu: up to 2 jobs at once share",
        ] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(!text.contains("class.one.gpu: class"), "{text}");
        let (worst, text) = said(root.path(), "[class.one]\ngpu = \"intel\"", |_, _| bail!("only root can"));
        assert!(worst == Severity::Warning && text.contains("were not tried: only root can"), "{text}");
        let (_, text) = said(root.path(), "", ALL_OPEN);
        assert!(text.contains("no class has graphics processors") && text.contains("class.NAME.gpu: works"), "{text}");
    }
}
