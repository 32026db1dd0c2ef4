//! A job container's template: the cached tree plus the files under test.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{
    cache::Cache,
    shelf::{Kept, Shelf},
};

/// Where a file's content comes from.
#[derive(Debug, Clone, Hash)]
pub enum Source {
    /// A file of this machine, copied.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A symbolic link to this path.
    Link(PathBuf),
}

/// The id of the job's user in every tree.
const JOB_USER: u32 = 1001;

#[derive(Debug, Clone)]
struct Entry {
    path: PathBuf,
    source: Source,
    mode: u32,
    owner: u32,
}

/// What to put into a copy of the job tree.
#[derive(Debug, Clone, Default)]
pub struct Template {
    entries: Vec<Entry>,
    /// An unpacked release of the forge's own runner.
    release: Option<PathBuf>,
}

impl Template {
    /// The job tree as it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file of root at `path`, in place of what may be there.
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>, source: Source, mode: u32) -> Self {
        self.entry(path.into(), source, mode, 0)
    }

    /// Puts a file of the job user at `path`, in place of what may be there.
    #[must_use]
    pub fn job_file(self, path: impl Into<PathBuf>, source: Source, mode: u32) -> Self {
        self.entry(path.into(), source, mode, JOB_USER)
    }

    /// Puts a unit in place that `target` wants.
    #[must_use]
    pub fn unit(self, name: &str, text: impl Into<Vec<u8>>, target: &str) -> Self {
        let link = format!("/etc/systemd/system/{target}.wants/{name}");
        self.file(format!("/etc/systemd/system/{name}"), Source::Bytes(text.into()), 0o644).file(
            link,
            Source::Link(format!("../{name}").into()),
            0o777,
        )
    }

    /// Puts a stand-in where the forge's own runner program would be.
    #[must_use]
    pub fn runner(self, source: Source) -> Self {
        self.job_file("/opt/actions-runner/bin/Runner.Listener", source, 0o755)
    }

    /// Puts an unpacked release of the forge's own runner there.
    #[must_use]
    pub fn runner_release(self, release: &Path) -> Self {
        Self { release: Some(release.to_owned()), ..self }
    }

    fn entry(mut self, path: PathBuf, source: Source, mode: u32, owner: u32) -> Self {
        self.entries.push(Entry { path, source, mode, owner });
        self
    }

    /// The template in the cache: found, or made now from hard links to `tree` and the entries as files of their own.
    pub(crate) fn ensure(&self, cache: &Cache, tree: &Path) -> Result<Kept> {
        let shelf = Shelf { cache, directory: cache.templates(), name: "template", kept: 4 };
        shelf.get(&self.key(tree)?, |path| self.make(tree, path))
    }

    /// Names what it is made from. A file is known by what changes when it is built anew.
    fn key(&self, tree: &Path) -> Result<String> {
        let mut hasher = DefaultHasher::new();
        tree.hash(&mut hasher);
        for entry in &self.entries {
            (&entry.path, &entry.source, entry.mode, entry.owner).hash(&mut hasher);
            if let Source::File(source) = &entry.source {
                state_of(source)?.hash(&mut hasher);
            }
        }
        if let Some(release) = &self.release {
            // All of it is as old as its program.
            (release, state_of(&release.join("bin/Runner.Listener"))?).hash(&mut hasher);
        }
        Ok(format!("{:016x}", hasher.finish()))
    }

    fn make(&self, tree: &Path, target: &Path) -> Result<()> {
        let status =
            Command::new("cp").args(["--archive", "--link", "--no-target-directory"]).arg(tree).arg(target).status()?;
        if !status.success() {
            bail!("cannot link {} to {}", tree.display(), target.display());
        }
        if let Some(release) = &self.release {
            put_release(target, release)?;
        }
        for entry in &self.entries {
            put(target, entry).with_context(|| format!("cannot put {}", entry.path.display()))?;
        }
        Ok(())
    }
}

/// Places an entry. What was there is unlinked first: it is a name of the cached tree's own file.
fn put(root: &Path, entry: &Entry) -> Result<()> {
    let relative: PathBuf =
        entry.path.components().filter(|component| !matches!(component, Component::RootDir)).collect();
    if relative.components().any(|component| !matches!(component, Component::Normal(_))) {
        bail!("not a plain path");
    }
    make_parents(root, &relative, entry.owner)?;
    let path = root.join(&relative);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut create = OpenOptions::new();
    create.write(true).create_new(true).mode(0o600);
    match &entry.source {
        Source::Link(target) => return Ok(symlink(target, &path)?),
        Source::Bytes(bytes) => create.open(&path)?.write_all(bytes)?,
        Source::File(source) => {
            let mut from = fs::File::open(source).with_context(|| format!("cannot open {}", source.display()))?;
            std::io::copy(&mut from, &mut create.open(&path)?)?;
        }
    }
    chown(&path, Some(entry.owner), Some(entry.owner))?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode))?)
}

/// Copies a release of the runner to where it belongs, and gives it to the job user.
fn put_release(root: &Path, release: &Path) -> Result<()> {
    make_parents(root, Path::new("opt/actions-runner"), 0)?;
    let path = root.join("opt/actions-runner");
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let copied = Command::new("cp").args(["--archive", "--no-target-directory"]).arg(release).arg(&path).status()?;
    let given = Command::new("chown").args(["--recursive", "1000:1000"]).arg(&path).status()?;
    if !copied.success() || !given.success() {
        bail!("cannot copy {} to {}", release.display(), path.display());
    }
    // A directory that was made for one user alone.
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
}

/// What changes when a file is built anew.
fn state_of(file: &Path) -> Result<(u64, u64, i64, i64)> {
    let found = fs::metadata(file).with_context(|| format!("cannot find {}", file.display()))?;
    Ok((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

/// Makes missing parents. One that is a link is refused: it could lead out of the template, into this machine.
fn make_parents(root: &Path, relative: &Path, owner: u32) -> Result<()> {
    let mut path = root.to_owned();
    for component in relative.parent().into_iter().flat_map(Path::components) {
        path.push(component);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => bail!("{} is not a directory", path.display()),
            Err(_) => {
                fs::create_dir(&path)?;
                chown(&path, Some(owner), Some(owner))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_cached_tree_is_not_written_through_its_hard_links() {
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("tree");
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/motd"), "cached").unwrap();
        let target = scratch.path().join("instance");
        let template = Template::new().file("/etc/motd", Source::Bytes(b"changed".to_vec()), 0o644);
        if rustix::process::geteuid().is_root() {
            template.make(&tree, &target).unwrap();
            assert_eq!(fs::read(tree.join("etc/motd")).unwrap(), b"cached");
            assert_eq!(fs::read(target.join("etc/motd")).unwrap(), b"changed");
        }
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        symlink("/tmp", scratch.path().join("out")).unwrap();
        for path in ["/out/file", "/../file"] {
            let entry = Entry { path: path.into(), source: Source::Bytes(Vec::new()), mode: 0o644, owner: 0 };
            assert!(put(scratch.path(), &entry).is_err(), "{path}");
        }
    }
}
