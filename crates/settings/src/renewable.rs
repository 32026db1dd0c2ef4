//! A secret whose file may be written anew while the program runs.

use std::{
    cell::{Cell, RefCell},
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Problem,
    token_file::{self, Holds, SecretFile, Token},
};

/// Where root puts what was renewed, for the controller's group to read: systemd's own copies (`LoadCredential=`) are as
/// they were when the service started. The newest of both counts.
pub const RENEWED_DIR: &str = "/run/gha-runner-secrets";
/// Shortest time between two looks that nobody asked for.
const PAUSE: Duration = Duration::from_secs(5);

/// The secret, and where it is looked for again.
pub struct Renewable {
    key: String,
    holds: Holds,
    places: Vec<PathBuf>,
    looked: Cell<Instant>,
    /// What was read last, or could not be.
    read: RefCell<Option<Stamp>>,
    secret: RefCell<Token>,
}

/// Tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    modified: SystemTime,
    inode: u64,
    bytes: u64,
}

impl Renewable {
    /// Reads it where the service finds it: in its credentials or among what was renewed, else in the file itself.
    pub fn open(file: &SecretFile<'_>) -> Result<Self, Problem> {
        let brought = file.brought();
        let places = match &brought {
            Some(brought) => vec![brought.clone(), Path::new(RENEWED_DIR).join(&file.credential)],
            None => vec![file.path.to_owned()],
        };
        Self::at(&file.key, places, file.holds)
    }

    /// The newest of `places`.
    fn at(key: &str, places: Vec<PathBuf>, holds: Holds) -> Result<Self, Problem> {
        let newest = newest(&places);
        let path = newest.as_ref().map(|stamp| &stamp.path).or(places.first());
        let secret = token_file::read(key, path.map_or(Path::new(""), PathBuf::as_path), holds)?;
        let (looked, read, secret) = (Cell::new(Instant::now()), RefCell::new(newest), RefCell::new(secret));
        Ok(Self { key: key.to_owned(), holds, places, looked, read, secret })
    }

    /// As it was last read.
    pub fn secret(&self) -> Token {
        self.secret.borrow().clone()
    }

    /// Reads it again if its file is another one than before: now if it `was_refused`, else if it was not looked at for
    /// some seconds. What cannot be read is told once, and the secret stays what it was.
    pub fn look(&self, was_refused: bool) -> Result<(), Problem> {
        if !was_refused && self.looked.get().elapsed() < PAUSE {
            return Ok(());
        }
        self.looked.set(Instant::now());
        let newest = newest(&self.places);
        let Some(stamp) = newest.filter(|stamp| self.read.borrow().as_ref() != Some(stamp)) else { return Ok(()) };
        let secret = token_file::read(&self.key, &stamp.path, self.holds);
        self.read.replace(Some(stamp));
        self.secret.replace(secret?);
        Ok(())
    }
}

impl fmt::Debug for Renewable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewable").field("key", &self.key).field("places", &self.places).finish_non_exhaustive()
    }
}

fn newest(places: &[PathBuf]) -> Option<Stamp> {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some(Stamp { path: path.clone(), modified: found.modified().ok()?, inode: found.ino(), bytes: found.len() })
    };
    // Of two that are as old, the one that comes later was put there after the service began.
    places.iter().filter_map(stamp).max_by_key(|stamp| stamp.modified)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, secret: &str, age: u64) {
        // As secrets are renewed: another file takes the name.
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, secret).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o400)).unwrap();
        let at = SystemTime::now() - Duration::from_secs(age);
        fs::File::open(&fresh).unwrap().set_modified(at).unwrap();
        fs::rename(&fresh, path).unwrap();
    }

    #[test]
    fn what_was_renewed_counts_until_a_service_that_starts_brings_something_newer() {
        let home = tempfile::tempdir().unwrap();
        let (brought, renewed) = (home.path().join("brought"), home.path().join("renewed"));
        write(&brought, "first", 60);
        let open = || Renewable::at("token_file", vec![brought.clone(), renewed.clone()], Holds::Token).unwrap();
        let secret = open();
        secret.look(true).unwrap();
        assert_eq!(secret.secret().expose(), "first");
        write(&renewed, "second", 30);
        secret.look(false).unwrap();
        assert_eq!(secret.secret().expose(), "first", "not looked at again so soon");
        secret.look(true).unwrap();
        assert_eq!(secret.secret().expose(), "second");
        assert_eq!(open().secret().expose(), "second");
        write(&brought, "third", 0);
        assert_eq!(open().secret().expose(), "third");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_told_once_and_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        write(&path, "first", 60);
        let secret = Renewable::at("token_file", vec![path.clone()], Holds::Token).unwrap();
        write(&path, "two words", 30);
        assert!(secret.look(true).unwrap_err().to_string().contains("does not hold one token"));
        assert_eq!(secret.look(true), Ok(()));
        fs::remove_file(&path).unwrap();
        assert_eq!(secret.look(true), Ok(()));
        assert_eq!(secret.secret().expose(), "first");
        write(&path, "second", 0);
        secret.look(true).unwrap();
        assert_eq!(secret.secret().expose(), "second");
        assert!(!format!("{secret:?}").contains("second"));
    }
}
