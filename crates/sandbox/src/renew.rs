//! Secrets that were renewed while the controller runs, for the controller to read: systemd's copies of them are as they
//! were when its service started.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::Context;
use settings::{Problem, Problems, Settings, token_file::SecretFile};

/// Copies the secret of each credential into `directory`, whose group may read it, and removes those of others. A file
/// that cannot be used is reported, and the copy before it stays.
pub fn renew(settings: &Settings, directory: &Path) -> anyhow::Result<()> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut kept = BTreeSet::new();
    for credential in settings.credentials.values() {
        let file = SecretFile::of_credential(credential);
        match file.read() {
            Ok(secret) => write(directory, &file.credential, secret.expose())
                .with_context(|| format!("cannot write {}/{}", directory.display(), file.credential))?,
            Err(problem) => problems.push(problem),
        }
        kept.insert(file.credential);
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|name| kept.contains(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems).into()) }
}

/// Whole or not at all. Its group is the directory's (setgid).
fn write(directory: &Path, name: &str, secret: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(secret.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o440))?;
    file.persist(directory.join(name))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_credential_is_there_for_the_group_and_what_cannot_be_used_is_told_and_stays_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let (token, renewed) = (home.path().join("token"), home.path().join("renewed"));
        fs::create_dir(&renewed).unwrap();
        fs::write(renewed.join("forge-former"), "x").unwrap();
        let text = format!("[credential.main]\ntoken_file = {token:?}\n[[target]]\nrepo = \"o/r\"\n[class.small]\n");
        let settings = settings::check::check(toml::from_str(&text).unwrap()).unwrap();
        let give = |secret: &str| {
            let _ = fs::remove_file(&token);
            fs::write(&token, secret).unwrap();
            fs::set_permissions(&token, fs::Permissions::from_mode(0o400)).unwrap();
            renew(&settings, &renewed)
        };
        let copy = || fs::read_to_string(renewed.join("forge-main")).unwrap();
        give("sesame\n").unwrap();
        assert_eq!(copy(), "sesame");
        assert_eq!(fs::metadata(renewed.join("forge-main")).unwrap().permissions().mode() & 0o777, 0o440);
        assert!(!renewed.join("forge-former").exists());
        let told = give("two words").unwrap_err().to_string();
        assert!(told.contains("credential.main.token_file") && !told.contains("words"), "{told}");
        assert_eq!(copy(), "sesame");
        give("another").unwrap();
        assert_eq!((copy(), fs::read_dir(&renewed).unwrap().count()), ("another".to_owned(), 1));
    }
}
