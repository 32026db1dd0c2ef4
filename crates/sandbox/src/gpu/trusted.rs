//! Which files of the host count when root acts by them: those that nobody but root can change.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The file itself, links resolved, if it lies below `root` and nobody but root (or who asks) can write to it, or to a
/// directory on the way, or replace either; else why it does not count.
pub(super) fn trusted(root: &Path, path: &Path) -> Result<PathBuf, String> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let root = fs::canonicalize(root).map_err(unreadable)?;
    let file = fs::canonicalize(path).map_err(unreadable)?;
    if !file.starts_with(&root) {
        return Err(format!("leads to {}", file.display()));
    }
    let caller = rustix::process::geteuid().as_raw();
    for part in file.ancestors().take_while(|part| part.starts_with(&root)) {
        let found = fs::metadata(part).map_err(unreadable)?;
        let shown = part.display();
        if found.uid() != 0 && found.uid() != caller {
            return Err(format!("cannot be trusted: {shown} belongs to user {}, not to root", found.uid()));
        }
        // In a directory with the sticky bit nobody can replace what is root's (/nix/store is one).
        let sticky = found.is_dir() && found.mode() & 0o1000 != 0;
        if found.mode() & 0o022 != 0 && !sticky {
            return Err(format!(
                "cannot be trusted: {shown} can be written by others (mode {:04o})",
                found.mode() & 0o7777
            ));
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn what_others_could_change_does_not_count_wherever_on_the_way_that_is() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        let directory = root.join("etc/cdi");
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("nvidia.json");
        fs::write(&file, "{}").unwrap();
        let allow = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let why = || trusted(root, &file).unwrap_err();
        allow(&file, 0o644);
        allow(&directory, 0o755);
        assert_eq!(trusted(root, &file).unwrap(), fs::canonicalize(&file).unwrap());
        allow(&file, 0o664);
        assert!(why().contains("nvidia.json can be written by others (mode 0664)"), "{}", why());
        allow(&file, 0o644);
        allow(&directory, 0o777);
        assert!(why().contains("etc/cdi can be written by others"), "{}", why());
        allow(&directory, 0o1777);
        assert!(trusted(root, &file).is_ok(), "nobody can replace it there");
        let link = root.join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(trusted(root, &link).unwrap_err().contains("leads to /etc/passwd"));
        assert_eq!(trusted(root, &root.join("none")).unwrap_err(), "does not exist");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(65_534), None).unwrap();
            assert!(why().contains("belongs to user 65534"), "{}", why());
        }
    }
}
