//! Writes rendered files, and removes those of classes that are gone.

use std::{
    collections::BTreeSet,
    fs, io,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{Files, MARKER};

/// Directory whose files may be left over from an earlier configuration.
const UNIT_DIR: &str = "systemd/system";
const UNIT_PREFIX: &str = "gha-runner-";
/// Files outside it that earlier versions wrote. The polkit rule let the controller's user manage units by itself.
const FORMER: [&str; 1] = ["polkit-1/rules.d/60-gha-runner-controller.rules"];

/// Writes every file that differs, each in one step, and removes unit files of ours that are not among them, and what
/// earlier versions wrote elsewhere. Returns one line for each change.
pub fn install(output: &Path, files: &Files) -> anyhow::Result<Vec<String>> {
    let mut changes = Vec::new();
    for (path, text) in files {
        let path = output.join(path);
        if fs::read_to_string(&path).is_ok_and(|present| present == *text) {
            continue;
        }
        write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        changes.push(format!("wrote {}", path.display()));
    }
    for stale in stale(output, files).with_context(|| format!("cannot list {}", output.join(UNIT_DIR).display()))? {
        fs::remove_file(&stale).with_context(|| format!("cannot remove {}", stale.display()))?;
        changes.push(format!("removed {}", stale.display()));
    }
    Ok(changes)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut fresh = tempfile::NamedTempFile::new_in(directory)?;
    fresh.write_all(text.as_bytes())?;
    fresh.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    fresh.persist(path)?;
    Ok(())
}

fn stale(output: &Path, files: &Files) -> io::Result<Vec<PathBuf>> {
    let wanted: BTreeSet<PathBuf> = files.keys().map(|path| output.join(path)).collect();
    let mut stale = Vec::new();
    for entry in fs::read_dir(output.join(UNIT_DIR))? {
        let entry = entry?;
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(UNIT_PREFIX))
            && entry.file_type()?.is_file();
        if ours {
            stale.push(entry.path());
        }
    }
    stale.extend(FORMER.map(|path| output.join(path)).into_iter().filter(|path| path.is_file()));
    stale.retain(|path| !wanted.contains(path));
    let mut marked = Vec::new();
    for path in stale {
        if is_marked(&path)? {
            marked.push(path);
        }
    }
    marked.sort();
    Ok(marked)
}

/// Whether this program wrote it. Rules of polkit are JavaScript, whose comments begin in another way.
fn is_marked(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    fs::File::open(path)?.take(MARKER.len() as u64 + 1).read_to_end(&mut start)?;
    let words = MARKER.trim_start_matches("# ").as_bytes();
    Ok(["# ", "// "].iter().any(|sign| start.strip_prefix(sign.as_bytes()).is_some_and(|rest| rest.starts_with(words))))
}
