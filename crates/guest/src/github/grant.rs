//! Unpacks GitHub's JIT configuration, so that it is in nobody's arguments and nobody's environment.
//!
//! The runner would do the same with `--jitconfig` (docs/github.md#contents-of-a-jit-configuration): every entry
//! becomes a file in its root directory.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, fchown},
    path::Path,
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use crate::account::Account;

/// Most files and most bytes in them; a configuration has three files of about 4 KiB together.
const MOST_FILES: usize = 16;
const MOST_BYTES: usize = 128 * 1024;
const SETTINGS_FILE: &str = ".runner";

/// Why a configuration is refused. Never quotes any of it but a file name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Invalid {
    #[error("the JIT configuration is not base64 of a JSON object of base64 texts")]
    Shape,
    #[error("the JIT configuration has {0} files or more bytes than allowed")]
    Size(usize),
    #[error("the JIT configuration has a file named {0:?}")]
    Name(String),
    #[error("the JIT configuration has no valid {SETTINGS_FILE}")]
    Settings,
}

/// The files in the configuration, self-update switched off in the one that knows about it.
pub fn files(encoded: &str) -> Result<BTreeMap<String, Vec<u8>>, Invalid> {
    let decode = |text: &str| BASE64_STANDARD.decode(text.trim()).map_err(|_| Invalid::Shape);
    let entries: BTreeMap<String, String> = serde_json::from_slice(&decode(encoded)?).map_err(|_| Invalid::Shape)?;
    let count = entries.len();
    if count > MOST_FILES || entries.values().map(String::len).sum::<usize>() > MOST_BYTES {
        return Err(Invalid::Size(count));
    }
    let mut files = BTreeMap::new();
    for (name, content) in entries {
        if !is_plain(&name) {
            return Err(Invalid::Name(name.chars().take(40).collect()));
        }
        files.insert(name, decode(&content)?);
    }
    let settings = files.get_mut(SETTINGS_FILE).ok_or(Invalid::Settings)?;
    *settings = without_update(settings).ok_or(Invalid::Settings)?;
    Ok(files)
}

/// A dot and then a word: no path, and nothing that is a program or a script of the runner.
fn is_plain(name: &str) -> bool {
    name.strip_prefix('.').is_some_and(|word| {
        (1..=60).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

/// A runner that replaces itself in a container for one job loses the job (docs/github.md#runner-versions).
fn without_update(settings: &[u8]) -> Option<Vec<u8>> {
    let text = settings.strip_prefix("\u{feff}".as_bytes()).unwrap_or(settings);
    let mut settings: Map<String, Value> = serde_json::from_slice(text).ok()?;
    settings.retain(|key, _| !key.eq_ignore_ascii_case("DisableUpdate"));
    settings.insert("DisableUpdate".to_owned(), Value::Bool(true));
    serde_json::to_vec(&settings).ok()
}

/// URL of the service that the runner asks first.
pub fn service(files: &BTreeMap<String, Vec<u8>>) -> Option<String> {
    let settings: Map<String, Value> = serde_json::from_slice(files.get(SETTINGS_FILE)?).ok()?;
    let named = |name: &str| {
        let found = settings.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_str()?;
        Some(found.to_owned()).filter(|url| !url.is_empty())
    };
    named("ServerUrlV2").or_else(|| named("ServerUrl")).or_else(|| named("GitHubUrl"))
}

/// Writes the files into the runner's root directory, for the job user alone. Nothing of the job runs yet.
pub fn write(files: &BTreeMap<String, Vec<u8>>, root: &Path, account: &Account) -> anyhow::Result<()> {
    for (name, content) in files {
        let path = root.join(name);
        let write = || -> io::Result<()> {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(content)?;
            fchown(&file, Some(account.uid), Some(account.gid))
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{MetadataExt, symlink};

    use serde_json::json;

    use super::*;

    fn encode(entries: &[(&str, &str)]) -> String {
        let object: Map<String, Value> =
            entries.iter().map(|(name, text)| ((*name).to_owned(), json!(BASE64_STANDARD.encode(text)))).collect();
        BASE64_STANDARD.encode(serde_json::to_vec(&object).unwrap())
    }

    #[test]
    fn the_files_come_out_and_self_update_is_off() {
        for before in [r#"{"AgentId":7}"#, r#"{"AgentId":7,"disableUpdate":"False"}"#, "\u{feff}{\"AgentId\":7}"] {
            let found = files(&encode(&[(".runner", before), (".credentials", "{}"), (".credentials_rsaparams", "k")]));
            let found = found.unwrap();
            let settings: Value = serde_json::from_slice(&found[".runner"]).unwrap();
            assert_eq!(settings, json!({"AgentId": 7, "DisableUpdate": true}));
            assert_eq!(found[".credentials_rsaparams"], b"k");
            assert_eq!(found.len(), 3);
        }
    }

    #[test]
    fn the_service_that_is_asked_first_is_known() {
        let service = |settings: &str| service(&files(&encode(&[(".runner", settings)])).unwrap());
        let both = r#"{"serverUrl":"https://one.example/","ServerUrlV2":"https://broker.example/"}"#;
        assert_eq!(service(both).as_deref(), Some("https://broker.example/"));
        assert_eq!(service(r#"{"ServerUrl":"https://one.example/"}"#).as_deref(), Some("https://one.example/"));
        assert_eq!(service(r#"{"ServerUrlV2":""}"#), None);
    }

    #[test]
    fn a_name_that_is_more_than_a_dot_and_a_word_is_refused() {
        for name in
            ["", ".", "..", "run.sh", "bin/Runner.Listener", "../x", "./.runner", ".a/b", ".a\\b", "/etc/passwd", ".ä"]
        {
            let refused = files(&encode(&[(".runner", "{}"), (name, "x")]));
            assert_eq!(refused, Err(Invalid::Name(name.into())), "{name:?}");
        }
        let long = format!(".{}", "x".repeat(61));
        assert!(files(&encode(&[(".runner", "{}"), (&long, "x")])).is_err());
    }

    #[test]
    fn what_is_no_configuration_is_refused_without_being_quoted() {
        let many: Vec<String> = (0..20).map(|i| format!(".f{i}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "{}")).collect();
        for text in [
            "".to_owned(),
            "swordfish!".to_owned(),
            BASE64_STANDARD.encode("swordfish"),
            BASE64_STANDARD.encode(r#"["swordfish"]"#),
            BASE64_STANDARD.encode(r#"{".runner":{"swordfish":1}}"#),
            BASE64_STANDARD.encode(r#"{".runner":"swordfish!"}"#),
            encode(&[(".credentials", "swordfish")]),
            encode(&[(".runner", "swordfish")]),
            encode(&[(".runner", &" ".repeat(MOST_BYTES))]),
            encode(&many),
        ] {
            let refused = files(&text).unwrap_err();
            assert!(!refused.to_string().contains("swordfish"), "{refused}");
        }
    }

    #[test]
    fn files_are_the_users_alone_and_replace_links() {
        let home = tempfile::tempdir().unwrap();
        let outside = home.path().join("outside");
        fs::write(&outside, "precious").unwrap();
        let root = home.path().join("root");
        fs::create_dir(&root).unwrap();
        symlink(&outside, root.join(".runner")).unwrap();
        let me = fs::metadata(&root).unwrap();
        let account = Account {
            name: "runner".into(),
            uid: me.uid(),
            gid: me.gid(),
            groups: vec![],
            home: "/".into(),
            shell: "/bin/sh".into(),
        };
        write(&files(&encode(&[(".runner", "{}")])).unwrap(), &root, &account).unwrap();
        assert_eq!(fs::read_to_string(outside).unwrap(), "precious");
        let written = root.join(".runner").symlink_metadata().unwrap();
        assert!(written.is_file());
        assert_eq!((written.mode() & 0o7777, written.uid()), (0o600, account.uid));
    }
}
