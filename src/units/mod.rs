//! Renders what systemd, udev, systemd-networkd, systemd-sysctl, systemd-tmpfiles and systemd-sysusers need to
//! know, from the checked settings.
//!
//! Unit files are written nowhere else: a NixOS module runs this at build time, other hosts run it once.

pub mod container;
pub mod controller;
mod install;
pub mod journal;
pub mod launcher;
mod limits;
pub mod links;
pub mod root;
pub mod slice;
pub mod sysctl;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use contract::unit_name;
use sandbox::{devices, gpu, guest, ids};
use settings::{Class, Problem, Problems, Root, Settings, resolved, token_file};

pub use install::install;

/// Where every process finds the resolved settings unless told otherwise.
pub const SETTINGS_PATH: &str = "/etc/gha-runner-controller/settings.json";
/// The controller's user and group.
pub const USER: &str = "gha-runner-controller";
/// First line of every file this program may replace or remove.
pub const MARKER: &str = "# Written by gha-runner-controller units; changes are lost.";

/// Paths the units name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// This program.
    pub binary: PathBuf,
    /// The resolved settings.
    pub settings: PathBuf,
}

/// Files by their path below the output directory.
pub type Files = BTreeMap<PathBuf, String>;

/// Everything.
pub fn render(settings: &Settings, places: &Places) -> anyhow::Result<Files> {
    let mut files = Files::new();
    let mut put = |path: String, text: String| {
        files.insert(path.into(), text);
    };
    let unit = |name: &str| format!("systemd/system/{name}");
    put(unit("gha-runner-controller.service"), controller::service(settings, places));
    put(unit("gha-runner-launcher.socket"), launcher::socket());
    put(unit("gha-runner-launcher.service"), launcher::service(places));
    put(unit("gha-runner-firewall.service"), root::firewall(places));
    put(unit("gha-runner-sweep.service"), root::sweep(places));
    put(unit("gha-runner-prune.path"), root::prune_path());
    put(unit("gha-runner-prune.service"), root::prune(places));
    put(unit("gha-runner.slice"), slice::all(&settings.limits));
    for class in settings.classes.values() {
        put(unit(&unit_name::class_slice(&class.name)), slice::class(&class.name));
        put(unit(&unit_name::container_template(&class.name)), container::service(settings, class, places));
    }
    put("tmpfiles.d/gha-runner-controller.conf".into(), root::tmpfiles(settings));
    put("sysusers.d/gha-runner-controller.conf".into(), controller::sysusers(settings));
    put(links::UDEV_FILE.into(), links::udev());
    put(links::LINK_FILE.into(), links::link());
    put(links::NETWORK_FILE.into(), links::network());
    put(sysctl::FILE.into(), sysctl::conf(settings));
    put(journal::file(), journal::conf());
    let resolved = resolved::text(settings).context("cannot write the settings")?;
    put("gha-runner-controller/settings.json".into(), resolved);
    Ok(files)
}

/// What can only be checked on the host itself: secret files hold secrets, templates are there.
pub fn check_host(settings: &Settings) -> Result<(), Problems> {
    let mut problems = Vec::new();
    problems.extend(token_file::secret_files(settings).iter().filter_map(|file| file.read().err()));
    for class in settings.classes.values() {
        // A template that does not exist by name was refused before.
        let Some(template) = settings.templates.get(&class.template) else { continue };
        let key = format!("template.{}", class.template);
        let directory = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_dir());
        let mut expect = |good: bool, field: &str, problem: String, remedy: &str| {
            if !good {
                problems.push(Problem::new(format!("{key}.{field}"), problem, remedy));
            }
        };
        if let Some(store) = &template.nix_store {
            expect(
                directory(store),
                "nix_store",
                format!("{} is not a directory", store.display()),
                "name the host's store, /nix/store, or remove it",
            );
        }
        match &template.root {
            Root::Tree(path) => expect(
                directory(path),
                "path",
                format!("{} is not a directory", path.display()),
                "build the template there, or name the directory it is in",
            ),
            Root::System { closure, runner_dir } => {
                expect(
                    closure.join("init").exists(),
                    "system",
                    format!("{} has no init", closure.display()),
                    "build config.system.build.toplevel of the container's configuration",
                );
                if let Some(runner) = runner_dir {
                    expect(
                        directory(runner),
                        "runner_dir",
                        format!("{} is not a directory", runner.display()),
                        "unpack a release of the runner there",
                    );
                }
            }
        }
    }
    let without_gpu = |class: &Class| gpu::find(Path::new("/"), &class.name, &class.gpu).err();
    problems.extend(settings.classes.values().filter_map(without_gpu));
    let missing = |class: &Class| devices::missing(Path::new("/"), &class.name, &class.devices);
    problems.extend(settings.classes.values().flat_map(missing));
    if let Err(error) = ids::refuse_foreign(Path::new("/etc"), &ids::pool(settings)) {
        problems.push(Problem::new("ids.first", error.to_string(), "choose a multiple of 65536 nobody else uses"));
    }
    problems.dedup();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// The guest's program lies beside this one on the host.
pub fn check_guest(places: &Places) -> Result<(), Problems> {
    let guest = guest::beside(&places.binary);
    if fs::metadata(&guest).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let problem = format!("{} is missing", guest.display());
    Err(Problems(vec![Problem::new("--binary", problem, "install gha-runner-guest beside gha-runner-controller")]))
}

/// Paths must mean the same to a unit file as to this program.
pub fn check_places(places: &Places) -> Result<(), Problems> {
    let plain = |key: &str, path: &Path| {
        let good = path.is_absolute()
            && path.to_str().is_some_and(|text| {
                !text.contains(|c: char| c.is_control() || c.is_whitespace() || "%\\\"'$".contains(c))
            });
        (!good).then(|| {
            Problem::new(
                key,
                format!("{} cannot be written into a unit file", path.display()),
                "use an absolute path without white space, %, backslash, quotes or $",
            )
        })
    };
    let problems: Vec<Problem> = [("--binary", &places.binary), ("--settings-path", &places.settings)]
        .into_iter()
        .filter_map(|(key, path)| plain(key, path))
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

#[cfg(test)]
mod tests;
