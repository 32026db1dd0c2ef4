//! CDI specifications: what a vendor's tool says that a container needs for a device
//! (Container Device Interface, <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>).
//!
//! They are the host's own files, read as root: they must be root's alone, and small. Of what they say, device nodes and
//! mounts are made by the host, always read-only; links, the linker's directories and variables are the guest's to make,
//! inside; no hook is ever run. The crate `container-device-interface` edits OCI specifications, which there are none of
//! here, and brings a validator of schemas along that root has no use for.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use contract::guest_settings::SymbolicLink;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::{Found, Refused, Seen, trusted::trusted};

/// Where specifications lie; of the same device in both, the later one counts.
const DIRECTORIES: [&str; 2] = ["etc/cdi", "run/cdi"];
/// More than any host has.
const MOST_FILES: usize = 64;
/// Largest in bytes; one of eight cards with all their slices has a tenth.
const MOST_BYTES: u64 = 1 << 20;
/// Most of a kind in what is taken from specifications: nodes, mounts, links.
const MOST_ENTRIES: usize = 1024;
/// Where nothing of a specification may be mounted, or come from.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Likewise, because it is the container's or ours.
const NOT_INSIDE: [&str; 5] =
    ["/run/gha-runner-events", "/run/host", "/run/systemd", "/run/credentials", "/etc/systemd"];
/// Likewise, because it is people's or ours.
const NOT_FROM: [&str; 6] =
    ["/home/", "/root/", "/run/secrets", "/run/gha-runner", "/var/lib/gha-runner", "/etc/gha-runner"];
/// What goes when its owner does, and is a way to a service of the host: left out.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
const WRITE_ANEW: &str = "write the specification anew: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml (NixOS: \
                          systemctl restart nvidia-container-toolkit-cdi-generator), or the tool of its vendor";

/// All specifications of a host.
#[derive(Debug, Default)]
pub(super) struct Specifications {
    /// In the order in which they count, the first one first.
    found: Vec<(PathBuf, Specification)>,
    /// Files that do not count, and why.
    pub(super) refused: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specification {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Mount>,
    hooks: Vec<Hook>,
    intel_rdt: Option<IgnoredAny>,
    net_devices: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    #[serde(default)]
    host_path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    host_path: PathBuf,
    container_path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Hook {
    path: PathBuf,
    #[serde(default)]
    args: Vec<String>,
}

impl Specifications {
    /// Reads those of the host with this root directory.
    pub(super) fn read(root: &Path) -> Self {
        let mut all = Self::default();
        for directory in DIRECTORIES.iter().rev() {
            let entries = fs::read_dir(root.join(directory)).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> =
                entries.map(|entry| entry.path()).filter(|path| form(path).is_some()).collect();
            files.sort();
            for (at, file) in files.into_iter().enumerate() {
                let read = if at < MOST_FILES { read(root, &file) } else { Err("is one too many".to_owned()) };
                match read {
                    Ok(specification) => all.found.push((file, specification)),
                    Err(why) => all.refused.push(format!("{} {why}", file.display())),
                }
            }
        }
        all
    }

    /// The names of devices of a kind, each once.
    pub(super) fn names(&self, kind: &str) -> Vec<&str> {
        let of_kind = self.found.iter().filter(|(_, its)| its.kind == kind);
        let mut names: Vec<&str> = of_kind.flat_map(|(_, its)| &its.devices).map(|device| &*device.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Adds what a device needs.
    pub(super) fn add(&self, root: &Path, kind: &str, name: &str, found: &mut Found) -> Result<(), Refused> {
        let having = |its: &Specification| its.kind == kind && its.devices.iter().any(|device| device.name == name);
        let mut with = self.found.iter().filter(|(_, its)| having(its));
        let Some((file, specification)) = with.next() else { return Err(self.unknown(kind, name)) };
        if let Some((other, _)) = with.next().filter(|(other, _)| other.parent() == file.parent()) {
            return Err(Refused::new(
                format!("both {} and {} have {kind}={name}", file.display(), other.display()),
                "remove one of the files",
            ));
        }
        let of_device = specification.devices.iter().filter(|device| device.name == name);
        for edits in of_device.map(|device| &device.container_edits).chain([&specification.container_edits]) {
            edits
                .add(root, found)
                .map_err(|refused| Refused { what: format!("{}: {}", file.display(), refused.what), ..refused })?;
        }
        Ok(())
    }

    fn unknown(&self, kind: &str, name: &str) -> Refused {
        let mut what = format!("no CDI specification in /etc/cdi or /run/cdi has {kind}={name}");
        for (words, list) in
            [("; there are ", self.names(kind)), ("; ", self.refused.iter().map(|its| &**its).collect())]
        {
            if !list.is_empty() {
                what += &format!("{words}{}", list.join(", "));
            }
        }
        Refused::new(what, WRITE_ANEW)
    }
}

/// Reads the text of a file.
type Reader = fn(&str) -> Result<Specification, String>;

/// How a file is read, by its name; none = it is no specification.
fn form(path: &Path) -> Option<Reader> {
    match path.extension()?.to_str()? {
        "json" => Some(|text| serde_json::from_str(text).map_err(|error| error.to_string())),
        "yaml" | "yml" => Some(yaml),
        _ => None,
    }
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    // Of several lines, the first one says where.
    serde_saphyr::from_str(text).map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

fn read(root: &Path, path: &Path) -> Result<Specification, String> {
    let form = form(path).ok_or("has no known form")?;
    let file = trusted(root, path)?;
    let file = File::open(file).map_err(|error| format!("cannot be read: {error}"))?;
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    if !is_file {
        return Err("is not a file".to_owned());
    }
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(format!("has more than {MOST_BYTES} bytes"));
    }
    let specification = form(&text).map_err(|error| format!("is not a CDI specification: {error}"))?;
    let version = specification.cdi_version.trim_start_matches('v');
    // What later ones of these added is known here, or left out by its name.
    match version.split_once('.') {
        Some(("0" | "1", _)) => Ok(specification),
        _ => Err(format!("has version {version:?} of CDI, which is not known")),
    }
}

impl Edits {
    fn add(&self, root: &Path, found: &mut Found) -> Result<(), Refused> {
        for node in &self.device_nodes {
            let host = node.host_path.as_ref().unwrap_or(&node.path);
            let inside = plain(&node.path).filter(|path| path.starts_with("/dev") && path.components().count() > 2);
            let (Some(inside), Some(host)) = (inside, plain(host)) else {
                return Err(Refused::new(
                    format!("device node {} is not one below /dev", node.path.display()),
                    WRITE_ANEW,
                ));
            };
            let source = below(root, &host);
            if fs::symlink_metadata(&source).is_err() {
                return Err(Refused::new(
                    format!("device node {} does not exist", host.display()),
                    "load the driver (nvidia-modprobe -u -c=0 makes the nodes of NVIDIA's), or write the specification anew",
                ));
            }
            found.gpu.devices.push(Seen { source, inside });
        }
        for mount in &self.mounts {
            mount.add(root, found)?;
        }
        for variable in &self.env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || value.len() > 4096 || value.chars().any(char::is_control) {
                return Err(Refused::new(format!("{variable:?} is not a variable"), WRITE_ANEW));
            }
            found.gpu.guest.environment.insert(name.to_owned(), value.to_owned());
        }
        for hook in &self.hooks {
            hook.add(found)?;
        }
        for (field, there) in [("intelRdt", self.intel_rdt.is_some()), ("netDevices", self.net_devices.is_some())] {
            if there {
                found.leave_out(field, "it is not for a container of a job");
            }
        }
        let gpu = &found.gpu;
        if [gpu.devices.len(), gpu.mounts.len(), gpu.guest.links.len()].iter().any(|entries| *entries > MOST_ENTRIES) {
            return Err(Refused::new(format!("it has more than {MOST_ENTRIES} entries of a kind"), WRITE_ANEW));
        }
        Ok(())
    }
}

impl Mount {
    fn add(&self, root: &Path, found: &mut Found) -> Result<(), Refused> {
        let shown = self.host_path.display();
        let refused = |why: &str| Refused::new(format!("mount of {shown} {why}"), WRITE_ANEW);
        let host = plain(&self.host_path).ok_or_else(|| refused("has no plain absolute path"))?;
        let inside = plain(&self.container_path)
            .filter(|path| path.components().count() > 2 && !is_of(path, &KERNELS) && !is_of(path, &NOT_INSIDE))
            .ok_or_else(|| refused(&format!("is to be at {}", self.container_path.display())))?;
        if is_of(&host, &TEMPORARY) {
            found.leave_out(shown, "it is a temporary file of the host's");
            return Ok(());
        }
        let source = below(root, &host);
        let kind = fs::metadata(&source).map_err(|_| refused("does not exist on the host"))?;
        if !kind.is_file() && !kind.is_dir() {
            // nvidia-persistenced's and the fabric manager's.
            found.leave_out(shown, "a socket would be a way to a service of the host");
            return Ok(());
        }
        let source = trusted(root, &source).map_err(|why| refused(&why))?;
        let real =
            Path::new("/").join(source.strip_prefix(fs::canonicalize(root).unwrap_or_default()).unwrap_or(&source));
        for path in [&host, &real] {
            if path.components().count() < 3 || is_of(path, &KERNELS) || starts_like(path, &NOT_FROM) {
                return Err(refused("is none of a driver's files"));
            }
        }
        if kind.mode() & 0o004 == 0 {
            return Err(refused("can not be read by everybody on the host"));
        }
        found.gpu.mounts.push(Seen { source, inside });
        Ok(())
    }
}

impl Hook {
    /// The commands of `nvidia-cdi-hook` and of `nvidia-ctk hook`.
    fn add(&self, found: &mut Found) -> Result<(), Refused> {
        let known = |name: &&String| {
            ["create-symlinks", "update-ldcache", "enable-cuda-compat", "disable-device-node-modification", "chmod"]
                .contains(&name.as_str())
        };
        let name = self.args.iter().find(known).map_or_else(|| self.path.to_string_lossy(), |name| name.into());
        let bad = |value: &str| Refused::new(format!("hook {name} has the invalid argument {value:?}"), WRITE_ANEW);
        match &*name {
            "create-symlinks" => {
                for value in values(&self.args, "--link") {
                    let (target, at) = value.split_once("::").ok_or_else(|| bad(value))?;
                    let at = absolute(Path::new(at)).ok_or_else(|| bad(value))?;
                    if target.is_empty() || target.contains(char::is_control) || is_of(&at, &NOT_INSIDE) {
                        return Err(bad(value));
                    }
                    if is_of(&at, &KERNELS) {
                        found.leave_out(at.display(), "a container cannot write there");
                        continue;
                    }
                    found.gpu.guest.links.push(SymbolicLink { at, target: target.into() });
                }
            }
            "update-ldcache" => {
                for value in values(&self.args, "--folder") {
                    let folder = plain(Path::new(value)).filter(|folder| folder.to_str().is_some());
                    found.gpu.guest.libraries.push(folder.ok_or_else(|| bad(value))?);
                }
            }
            "disable-device-node-modification" => {
                found
                    .leave_out("hook disable-device-node-modification", "nobody in a container can make a device node");
            }
            "chmod" => found.leave_out("hook chmod", "everybody in the container can use its nodes"),
            "enable-cuda-compat" => found.leave_out(
                "hook enable-cuda-compat",
                "a job whose CUDA is newer than the driver sets LD_LIBRARY_PATH to its compat directory itself",
            ),
            _ => found.leave_out(format_args!("hook {name}"), "no hook runs as the host's root"),
        }
        Ok(())
    }
}

/// The values of an option that may stand several times, in either way of writing it.
fn values<'a>(arguments: &'a [String], option: &'a str) -> impl Iterator<Item = &'a str> {
    let behind = move |argument: &'a String| argument.strip_prefix(option)?.strip_prefix('=');
    let next = arguments.iter().zip(arguments.iter().skip(1)).filter(move |(name, _)| *name == option);
    arguments.iter().filter_map(behind).chain(next.map(|(_, value)| value.as_str()))
}

/// An absolute path without `..`, and without what systemd-nspawn would read as something else.
fn plain(path: &Path) -> Option<PathBuf> {
    absolute(path).filter(|path| path.to_str().is_some_and(|text| !text.contains([':', '\\'])))
}

/// An absolute path without `..`.
fn absolute(path: &Path) -> Option<PathBuf> {
    let good = path.is_absolute()
        && path.to_str().is_some_and(|text| !text.contains(char::is_control))
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // Without a slash at the end, and with one in each other place.
    good.then(|| path.components().collect())
}

fn is_of(path: &Path, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// Whether a path begins as one of these, also in the middle of a name.
fn starts_like(path: &Path, places: &[&str]) -> bool {
    places.iter().any(|place| path.to_str().is_none_or(|path| path.starts_with(place)))
}

/// A path of the host with this root directory.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}
