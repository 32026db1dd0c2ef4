//! The controller's files: its records under the state directory, the hand-over under `/run`, the endings it reads.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use contract::{ContainerName, ContainerRecord, ENDINGS_DIR, Ending, GRANT_FILE, Grant, HANDOVER_DIR, RECORD_FILE};
use forge::{SetKey, github::scale_set::assignments::Assignments};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::warn;

use super::{
    drains::Drains,
    ports::{PortError, Records},
    record::Record,
};

/// Largest file read, in bytes.
const LIMIT: u64 = 64 * 1024;

/// Largest file of a scale set read, in bytes: thousands of jobs that are over are kept against replays.
const SET_LIMIT: u64 = 16 << 20;

/// What the operator told to take no new jobs, in the state directory.
const DRAINS: &str = "drains.json";

/// What the name of a file begins with that is being written.
const UNFINISHED: &str = ".tmp";

/// What is written of a scale set.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFile {
    set: SetKey,
    assignments: Assignments,
}

/// The real files.
#[derive(Debug, Clone)]
pub struct Ledger {
    records: PathBuf,
    sets: PathBuf,
    drains: PathBuf,
    handover: PathBuf,
    endings: PathBuf,
    boot_id: String,
}

impl Ledger {
    /// Files in `state_dir` and in their places under `/run`. Makes the directories it may write.
    pub fn open(state_dir: &Path) -> Result<Self, PortError> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_err(|error| failed("/proc/sys/kernel/random/boot_id", &error))?;
        // A directory in /run that a reboot empties also tells containers' lives apart where the boot id does not
        // change: a host that is itself a container shares its kernel's.
        let life = life_of_run(Path::new(HANDOVER_DIR))?;
        Self::at(state_dir, HANDOVER_DIR.as_ref(), ENDINGS_DIR.as_ref(), format!("{}-{life}", boot_id.trim()))
    }

    /// Files in directories of the caller's choice.
    pub fn at(state_dir: &Path, handover: &Path, endings: &Path, boot_id: String) -> Result<Self, PortError> {
        let records = state_dir.join("containers");
        let sets = state_dir.join("sets");
        for dir in [records.as_path(), sets.as_path(), handover] {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed(dir, &error))?;
        }
        // A controller that was killed left what it was writing.
        for dir in [state_dir, &records, &sets] {
            remove_unfinished(dir).map_err(|error| failed(dir, &error))?;
        }
        let drains = state_dir.join(DRAINS);
        Ok(Self { records, sets, drains, handover: handover.to_owned(), endings: endings.to_owned(), boot_id })
    }

    fn record_path(&self, name: &ContainerName) -> PathBuf {
        self.records.join(format!("{name}.json"))
    }

    fn set_path(&self, key: &SetKey) -> PathBuf {
        // Neither a class nor a name at the forge has an @ or a %.
        self.sets.join(format!("{}@{}.json", key.class, key.scope.replace('/', "%")))
    }
}

/// The records in `state_dir`, read without changing anything; those that cannot be read are left out. No directory =
/// none.
pub fn records_in(state_dir: &Path) -> Result<Vec<Record>, PortError> {
    let dir = state_dir.join("containers");
    match dir.try_exists() {
        Ok(false) => Ok(Vec::new()),
        Ok(true) => Ok(json_files(&dir)?.iter().filter_map(|path| read_json(path).ok()).collect()),
        Err(error) => Err(failed(&dir, &error)),
    }
}

/// What the operator told to take no new jobs, read without changing anything.
pub fn drains_in(state_dir: &Path) -> Result<Drains, PortError> {
    read_drains(&state_dir.join(DRAINS))
}

fn read_drains(path: &Path) -> Result<Drains, PortError> {
    match path.try_exists() {
        Ok(false) => Ok(Drains::default()),
        _ => read_json(path),
    }
}

/// A token made once for each life of `/run`.
fn life_of_run(handover: &Path) -> Result<String, PortError> {
    let path = handover.parent().unwrap_or(handover).join("life");
    match read_text(&path) {
        Ok(life) if !life.trim().is_empty() => Ok(life.trim().to_owned()),
        _ => {
            let life = super::random().to_string();
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(|error| failed(parent, &error))?;
            }
            write_whole(&path, life.as_bytes(), false).map_err(|error| failed(&path, &error))?;
            Ok(life)
        }
    }
}

impl Records for Ledger {
    fn load(&self) -> Result<Vec<Record>, PortError> {
        let mut records: Vec<Record> = Vec::new();
        for path in json_files(&self.records)? {
            match read_json::<Record>(&path) {
                Ok(record) if self.record_path(&record.name) == path => records.push(record),
                Ok(record) => warn!(path = %path.display(), name = %record.name, "a record under another's name"),
                Err(error) => {
                    // Kept aside, not deleted: a newer version's record may mean something to it.
                    warn!(path = %path.display(), %error, "record cannot be read; set aside");
                    let aside = path.with_extension("unreadable");
                    fs::rename(&path, &aside).map_err(|error| failed(&aside, &error))?;
                }
            }
        }
        records.sort_by_key(|record| record.timeline.recorded_ms);
        Ok(records)
    }

    fn put(&self, record: &Record) -> Result<(), PortError> {
        let path = self.record_path(&record.name);
        let text = serde_json::to_vec(record).map_err(|error| PortError(error.to_string()))?;
        // The first write must survive a power cut, since a registration follows it; the later ones only say more.
        let durable = record.runner_id.is_none();
        write_whole(&path, &text, durable).map_err(|error| failed(&path, &error))
    }

    fn remove(&self, name: &ContainerName) -> Result<(), PortError> {
        remove_file(&self.record_path(name))
    }

    fn hand_over(&self, record: &ContainerRecord, grant: &Grant) -> Result<(), PortError> {
        let dir = self.handover.join(record.name.as_str());
        self.take_back(&record.name)?;
        DirBuilder::new().mode(0o700).create(&dir).map_err(|error| failed(&dir, &error))?;
        put_json(&dir.join(GRANT_FILE), grant)?;
        put_json(&dir.join(RECORD_FILE), record)
    }

    fn take_back(&self, name: &ContainerName) -> Result<(), PortError> {
        let dir = self.handover.join(name.as_str());
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&dir, &error)),
            _ => Ok(()),
        }
    }

    fn granted(&self, name: &ContainerName) -> Option<Grant> {
        read_json(&self.handover.join(name.as_str()).join(GRANT_FILE)).ok()
    }

    fn handed_over(&self) -> Result<Vec<ContainerRecord>, PortError> {
        let entries = fs::read_dir(&self.handover).map_err(|error| failed(&self.handover, &error))?;
        let mut found = Vec::new();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().to_string_lossy().parse::<ContainerName>() else { continue };
            match read_json::<ContainerRecord>(&entry.path().join(RECORD_FILE)) {
                Ok(record) if record.name == name => found.push(record),
                _ => {
                    warn!(container = %name, "half a hand-over is removed");
                    self.take_back(&name)?;
                }
            }
        }
        Ok(found)
    }

    fn load_sets(&self) -> Result<Vec<(SetKey, Assignments)>, PortError> {
        let mut found = Vec::new();
        for path in json_files(&self.sets)? {
            let read = File::open(&path).map_err(|error| error.to_string()).and_then(|file| {
                serde_json::from_reader::<_, SetFile>(io::BufReader::new(file.take(SET_LIMIT)))
                    .map_err(|error| error.to_string())
            });
            match read {
                Ok(file) if self.set_path(&file.set) == path => found.push((file.set, file.assignments)),
                Ok(file) => warn!(path = %path.display(), set = %file.set, "a scale set's jobs under another's name"),
                Err(error) => {
                    // Kept aside, not deleted, as records are.
                    let aside = path.with_extension("unreadable");
                    warn!(path = %path.display(), error, "a scale set's jobs cannot be read; set aside, the forge counts them");
                    fs::rename(&path, &aside).map_err(|error| failed(&aside, &error))?;
                }
            }
        }
        Ok(found)
    }

    fn put_set(&self, key: &SetKey, assignments: &Assignments) -> Result<(), PortError> {
        let path = self.set_path(key);
        let file = SetFile { set: key.clone(), assignments: assignments.clone() };
        let text = serde_json::to_vec(&file).map_err(|error| PortError(error.to_string()))?;
        write_whole(&path, &text, true).map_err(|error| failed(&path, &error))
    }

    fn remove_set(&self, key: &SetKey) -> Result<(), PortError> {
        remove_file(&self.set_path(key))
    }

    fn load_drains(&self) -> Result<Drains, PortError> {
        read_drains(&self.drains)
    }

    fn put_drains(&self, drains: &Drains) -> Result<(), PortError> {
        let text = serde_json::to_vec(drains).map_err(|error| PortError(error.to_string()))?;
        write_whole(&self.drains, &text, true).map_err(|error| failed(&self.drains, &error))
    }

    fn ending(&self, name: &ContainerName) -> Option<Ending> {
        let path = self.endings.join(format!("{name}.json"));
        match read_json::<Ending>(&path) {
            Ok(ending) if ending.name == *name => Some(ending),
            Ok(_) => None,
            Err(error) => {
                if path.exists() {
                    warn!(path = %path.display(), %error, "ending cannot be read");
                }
                None
            }
        }
    }

    fn left_behind(&self) -> Vec<Ending> {
        // Without the directory no container has ended since the boot.
        let Ok(entries) = fs::read_dir(&self.endings) else { return Vec::new() };
        let names = entries.flatten().map(|entry| entry.file_name());
        let names = names.filter_map(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
        names.filter_map(|name| self.ending(&name)).filter(|ending| !ending.left_behind.is_empty()).collect()
    }

    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }
}

fn failed(path: impl AsRef<Path>, error: &dyn std::fmt::Display) -> PortError {
    PortError(format!("{}: {error}", path.as_ref().display()))
}

fn json_files(dir: &Path) -> Result<Vec<PathBuf>, PortError> {
    let entries = fs::read_dir(dir).map_err(|error| failed(dir, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    Ok(paths)
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, PortError> {
    let text = read_text(path).map_err(|error| failed(path, &error))?;
    serde_json::from_str(&text).map_err(|error| failed(path, &error))
}

fn put_json<T: Serialize>(path: &Path, value: &T) -> Result<(), PortError> {
    let text = serde_json::to_vec(value).map_err(|error| PortError(error.to_string()))?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| failed(path, &error))?;
    file.write_all(&text).map_err(|error| failed(path, &error))
}

/// Nothing there is no error.
fn remove_file(path: &Path) -> Result<(), PortError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

/// Removes what [`write_whole`] began and could not finish.
fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn write_whole(path: &Path, text: &[u8], durable: bool) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text)?;
    if durable {
        file.as_file().sync_data()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::{Stage, Timeline};

    fn ledger(dir: &Path) -> Ledger {
        Ledger::at(&dir.join("state"), &dir.join("handover"), &dir.join("endings"), "boot".into()).unwrap()
    }

    fn record(name: &str, recorded_ms: u64) -> Record {
        Record {
            name: name.parse().unwrap(),
            class: "default".into(),
            scope: "o/r".into(),
            set: false,
            subnet: "10.0.0.0/24".parse().unwrap(),
            job_id: Some(1),
            repository: None,
            job_name: "build".into(),
            took: None,
            handle: None,
            task: None,
            rerun: false,
            runner_name: "h-default-x".into(),
            runner_id: None,
            stage: Stage::Settling { cause: crate::cause::Cause::JobFailed },
            boot_id: "boot".into(),
            timeline: Timeline { recorded_ms: Some(recorded_ms), ..Timeline::default() },
        }
    }

    #[test]
    fn records_come_back_oldest_first_and_go_when_removed() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        let (old, new) = (record("j0000002", 1), record("j0000001", 2));
        ledger.put(&new).unwrap();
        ledger.put(&old).unwrap();
        assert_eq!(ledger.load().unwrap(), [old.clone(), new.clone()]);
        ledger.remove(&old.name).unwrap();
        ledger.remove(&old.name).unwrap();
        assert_eq!(ledger.load().unwrap(), [new]);
    }

    #[test]
    fn a_record_cut_short_by_a_power_cut_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        let good = record("j0000001", 1);
        ledger.put(&good).unwrap();
        fs::write(ledger.record_path(&"j0000002".parse().unwrap()), b"{\"name\":").unwrap();
        assert_eq!(ledger.load().unwrap(), [good]);
    }

    #[test]
    fn what_a_killed_controller_was_writing_is_gone_with_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let good = record("j0000001", 1);
        ledger(dir.path()).put(&good).unwrap();
        let state = dir.path().join("state");
        let begun = ["", "containers", "sets"].map(|of| state.join(of).join(format!("{UNFINISHED}Wx7")));
        begun.iter().for_each(|path| fs::write(path, "{").unwrap());
        assert_eq!(ledger(dir.path()).load().unwrap(), [good]);
        assert!(begun.iter().all(|path| !path.exists()));
    }

    fn key(class: &str, scope: &str) -> SetKey {
        SetKey { class: class.into(), scope: scope.into() }
    }

    fn of_set(id: u64) -> Assignments {
        let mut assignments = Assignments::default();
        assignments.belong_to(id);
        assignments
    }

    #[test]
    fn what_is_known_of_each_scale_set_outlives_the_controller_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let sets = [key("small", "o"), key("small", "o/r"), key("big", "o/r")];
        for (set, id) in sets.iter().zip(1..) {
            ledger(dir.path()).put_set(set, &of_set(id)).unwrap();
        }
        let mut kept = ledger(dir.path()).load_sets().unwrap();
        kept.sort_by_key(|(_, assignments)| serde_json::to_string(assignments).unwrap());
        assert_eq!(kept, sets.iter().cloned().zip((1..).map(of_set)).collect::<Vec<_>>());
        for _ in 0..2 {
            ledger(dir.path()).remove_set(&sets[1]).unwrap();
        }
        let left: Vec<SetKey> = ledger(dir.path()).load_sets().unwrap().into_iter().map(|(set, _)| set).collect();
        assert!(left.len() == 2 && !left.contains(&sets[1]), "{left:?}");
    }

    #[test]
    fn a_scale_sets_file_that_cannot_be_read_is_set_aside_and_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        let (good, bad) = (key("small", "o/r"), key("big", "o/r"));
        ledger.put_set(&good, &of_set(1)).unwrap();
        fs::write(ledger.set_path(&bad), b"{\"set\":{\"class\":").unwrap();
        // Somebody copied it: it says nothing of the set whose name it has.
        fs::copy(ledger.set_path(&good), ledger.set_path(&key("huge", "o/r"))).unwrap();
        for _ in 0..2 {
            assert_eq!(ledger.load_sets().unwrap(), [(good.clone(), of_set(1))]);
        }
        assert!(ledger.set_path(&bad).with_extension("unreadable").exists());
        ledger.put_set(&bad, &of_set(2)).unwrap();
        assert_eq!(ledger.load_sets().unwrap().len(), 2);
    }

    #[test]
    fn a_write_that_was_cut_short_leaves_the_scale_set_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        let set = key("small", "o/r");
        ledger.put_set(&set, &of_set(1)).unwrap();
        // What a crash leaves of the next write.
        fs::write(dir.path().join("state/sets/.tmpA1b2C3"), b"{\"set\":").unwrap();
        assert_eq!(ledger.load_sets().unwrap(), [(set, of_set(1))]);
    }

    #[test]
    fn a_hand_over_is_for_the_owner_alone_and_can_be_taken_back_twice() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        let record = ContainerRecord {
            version: contract::VERSION,
            name: "j0000001".parse().unwrap(),
            class: "default".into(),
            subnet: "10.0.0.0/24".parse().unwrap(),
            scope: "o/r".into(),
            job_id: None,
            runner_name: "h".into(),
            allow_forks: false,
            set: false,
        };
        let grant = Grant::GithubJit { encoded_jit_config: "c2VjcmV0".into() };
        ledger.hand_over(&record, &grant).unwrap();
        let path = dir.path().join("handover/j0000001/grant.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ledger.handed_over().unwrap(), std::slice::from_ref(&record));
        ledger.take_back(&record.name).unwrap();
        ledger.take_back(&record.name).unwrap();
        assert_eq!(ledger.handed_over().unwrap(), []);
    }
}
