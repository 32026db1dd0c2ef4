//! The host as a virtual machine, with a kernel of its own: where limits must be enforced that this machine's control
//! groups do not offer. Slow where there is no hardware help, so it runs one script and ends.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{
    cache::Cache,
    recipe::Recipe,
    shelf::{Kept, Shelf},
    suite::Suite,
    template::{Source, Template},
    tree::Tree,
};

const PROGRAM: &str = "qemu-system-x86_64";
/// Image sizes are the most they may hold; the files are sparse.
const ROOT_SIZE: &str = "4G";
const TEMPLATE_SIZE: &str = "2G";
const ERRAND_SIZE: &str = "256M";
/// How long a kernel may take to start by hardware help.
const PROBE: Duration = Duration::from_secs(15);

/// Why no virtual machine can run here, or `None` when one can.
#[must_use]
pub fn missing_machine_requirement() -> Option<String> {
    if let Some(reason) = crate::requirements::missing_requirement() {
        return Some(reason);
    }
    let missing = ["mke2fs", "debugfs", PROGRAM].into_iter().find(|program| !crate::requirements::is_there(program));
    missing.map(|program| format!("the virtual machine needs {program}: run tests/setup.sh as root"))
}

/// What a machine is started for.
#[derive(Debug)]
pub struct Errand<'a> {
    /// The job template, which the machine has at `/srv/template`.
    pub template: &'a Template,
    /// Files it has in `/srv/errand`: path below that, content.
    pub files: Vec<(String, Source)>,
    /// A bash script, run in `/srv/errand` as root when the machine is up. Then it is switched off.
    pub script: String,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    directory: tempfile::TempDir,
}

impl Errand<'_> {
    /// Boots a machine, runs the script and waits for the end.
    pub fn run(&self) -> Result<Report> {
        let cache = Cache::open()?;
        let tree = Tree::ensure(&cache, &Recipe::MACHINE.or(Suite::of_hosts()?))?;
        let job_tree = Tree::ensure(&cache, &Recipe::JOB)?;
        let template = self.template.ensure(&cache, job_tree.path())?;
        let root = image(&cache, "root", tree.path(), ROOT_SIZE)?;
        let template = image(&cache, "jobs", template.path(), TEMPLATE_SIZE)?;
        let directory = tempfile::tempdir()?;
        let errand = self.pack(directory.path())?;
        let console = directory.path().join("console");
        let log = fs::File::create(directory.path().join("qemu"))?;
        let kernel = boot_file(tree.path(), "vmlinuz")?;
        // Ends with this process, however that ends.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig=KILL", "--", PROGRAM])
            .args(options(accelerator(&kernel)?, &kernel, &boot_file(tree.path(), "initrd.img")?))
            .args(drive(root.path(), true))
            .args(drive(template.path(), true))
            .args(drive(&errand, false))
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        let status = crate::exec::wait(&mut child, self.timeout)?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let report = Report { directory };
        let dump = format!("rdump / {}", report.path().display());
        fs::create_dir(report.path())?;
        quiet(Command::new("debugfs").arg("-R").arg(dump).arg(&errand))?;
        let said = |name: &str| fs::read_to_string(report.directory.path().join(name)).unwrap_or_default();
        match (status, report.read("status").map(|status| status.trim() == "0")) {
            (Some(status), Ok(true)) if status.success() => Ok(report),
            (status, _) => bail!(
                "the errand failed (machine: {status:?}):\n{}\nconsole:\n{}\n{}",
                report.read("log").unwrap_or_default(),
                said("console"),
                said("qemu")
            ),
        }
    }

    fn pack(&self, directory: &Path) -> Result<PathBuf> {
        let content = directory.join("content");
        fs::create_dir(&content)?;
        fs::write(content.join("errand.sh"), &self.script)?;
        for (path, source) in &self.files {
            let path = content.join(path);
            fs::create_dir_all(path.parent().context("a file needs a name")?)?;
            match source {
                Source::File(from) => drop(fs::copy(from, &path)?),
                Source::Bytes(bytes) => fs::write(&path, bytes)?,
                Source::Link(target) => std::os::unix::fs::symlink(target, &path)?,
            }
        }
        let image = directory.join("errand.img");
        format(&content, &image, ERRAND_SIZE)?;
        Ok(image)
    }
}

impl Report {
    /// What the script left in this file of its directory.
    pub fn read(&self, path: &str) -> Result<String> {
        let path = self.path().join(path);
        fs::read_to_string(&path).with_context(|| format!("the errand left no {}", path.display()))
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("report")
    }
}

/// A disk image of a directory, from the cache or made now.
fn image(cache: &Cache, name: &'static str, directory: &Path, size: &str) -> Result<Kept> {
    let shelf = Shelf { cache, directory: cache.images(), name, kept: 2 };
    let key = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    shelf.get(&key, |path| format(directory, path, size))
}

fn format(directory: &Path, image: &Path, size: &str) -> Result<()> {
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(directory).arg(image).arg(size);
    quiet(&mut command)
}

/// The newest file in the tree's `/boot` whose name starts so.
fn boot_file(tree: &Path, name: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(tree.join("boot"))?.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)));
    found.sort();
    found.pop().with_context(|| format!("the tree has no {name}"))
}

/// By hardware help, if a kernel really starts by it: on some machines `/dev/kvm` answers, and every guest hangs.
fn accelerator(kernel: &Path) -> Result<&'static str> {
    const SOFTWARE: &str = "tcg,thread=multi";
    if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(SOFTWARE);
    }
    let directory = tempfile::tempdir()?;
    let console = directory.path().join("console");
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig=KILL", "--", PROGRAM, "-accel", "kvm", "-cpu", "max", "-m", "256M"])
        .args(["-nodefaults", "-no-reboot", "-display", "none", "-append", "console=ttyS0 panic=-1"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {PROGRAM}"))?;
    // Without a disk it ends as soon as it has started.
    crate::exec::wait(&mut child, PROBE)?;
    let _ = child.kill();
    child.wait()?;
    let started = fs::read(&console).is_ok_and(|said| said.windows(13).any(|part| part == b"Linux version"));
    Ok(if started { "kvm" } else { SOFTWARE })
}

fn options(accelerator: &str, kernel: &Path, initrd: &Path) -> Vec<OsString> {
    let mut options: Vec<OsString> = [
        "-accel",
        accelerator,
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "2G",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-append",
        "root=/dev/vda rw console=ttyS0 quiet panic=-1",
    ]
    .map(OsString::from)
    .to_vec();
    options.extend(["-kernel".into(), kernel.into(), "-initrd".into(), initrd.into()]);
    options
}

/// `throw_away`: what is written is not kept, so that several machines can use the same image.
fn drive(image: &Path, throw_away: bool) -> [String; 2] {
    let snapshot = if throw_away { "on" } else { "off" };
    ["-drive".to_owned(), format!("file={},format=raw,if=virtio,snapshot={snapshot}", image.display())]
}

fn quiet(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
