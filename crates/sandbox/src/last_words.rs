//! What a unit's processes wrote to the journal last: why a container ended that nobody can explain otherwise.

use std::{fs, time::Duration};

use contract::unit_name::JOURNAL_NAMESPACE;
use serde::Deserialize;

/// Longest wait for one answer of the journal.
const PATIENCE: Duration = Duration::from_secs(3);
/// Lines looked at.
const LINES: &str = "50";
/// Most characters kept.
const LIMIT: usize = 300;
/// Priority of an error (syslog(3)); what is worse has a lower number.
const ERROR: u8 = 3;

/// One entry, of `journalctl --output=json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct JournalEntry {
    /// Absent, or an array of bytes, where it is not a text.
    #[serde(rename = "MESSAGE", default)]
    message: serde_json::Value,
    #[serde(rename = "PRIORITY", default)]
    priority: Option<String>,
    #[serde(rename = "_COMM", default)]
    command: Option<String>,
    #[serde(rename = "_PID", default)]
    pid: Option<String>,
}

/// The last words of this invocation of a unit. `None` if there are none, or the journal does not answer.
pub fn of_invocation(invocation: &str) -> Option<String> {
    let own = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let output = runtime.block_on(async {
        // What was written a moment ago may not be there yet; without this, a line is missed at worst.
        let namespace = format!("--namespace={JOURNAL_NAMESPACE}");
        let _ = journalctl(&["--sync", &namespace]).await;
        let (theirs, of_it) = (format!("_SYSTEMD_INVOCATION_ID={invocation}"), format!("INVOCATION_ID={invocation}"));
        let shape = ["--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE,PRIORITY,_COMM,_PID"];
        // systemd's own words are in the host's journal.
        let both = format!("--namespace=+{JOURNAL_NAMESPACE}");
        let which = [&both, "--boot", "--lines", LINES, &theirs, "+", "_PID=1", &of_it];
        journalctl(&[&shape[..], &which[..]].concat()).await
    })?;
    let entries: Vec<JournalEntry> =
        output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    choose(&entries, own.trim())
}

async fn journalctl(arguments: &[&str]) -> Option<Vec<u8>> {
    let mut command = tokio::process::Command::new("journalctl");
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    output.status.success().then_some(output.stdout)
}

/// The last errors that systemd-nspawn reported, or else what came last from it or from inside, or else systemd's own words. `own` = the
/// name of this program, which has nothing to say of the matter.
fn choose(entries: &[JournalEntry], own: &str) -> Option<String> {
    let text = |entry: &JournalEntry| entry.message.as_str().map(printable).filter(|text| !text.is_empty());
    let theirs =
        || entries.iter().filter(|entry| entry.pid.as_deref() != Some("1") && entry.command.as_deref() != Some(own));
    let is_error = |entry: &&JournalEntry| {
        entry.priority.as_deref().and_then(|priority| priority.parse::<u8>().ok()).is_some_and(|found| found <= ERROR)
    };
    // The last one often says no more than that there was one before.
    let last_two = |mut lines: Vec<String>| {
        lines.dedup();
        let two = lines[lines.len().saturating_sub(2)..].join("; ");
        Some(two).filter(|two| !two.is_empty())
    };
    last_two(theirs().filter(is_error).filter_map(text).collect())
        .or_else(|| last_two(theirs().filter_map(text).collect()))
        .or_else(|| entries.iter().filter(|entry| entry.pid.as_deref() == Some("1")).filter_map(text).next_back())
        .map(|text| text.chars().take(LIMIT).collect())
}

/// It may come from inside a container.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: &str = "gha-runner-cont";

    fn entry(command: &str, priority: &str, message: &str) -> JournalEntry {
        let pid = if command == "systemd" { "1" } else { "77" };
        let line = serde_json::json!({"MESSAGE": message, "PRIORITY": priority, "_COMM": command, "_PID": pid});
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn the_errors_of_nspawn_come_before_what_was_written_last() {
        let mut entries = vec![
            entry(OWN, "6", "prepared j0000001 in 9 ms"),
            entry("systemd-nspawn", "4", "a warning"),
            entry("systemd-nspawn", "3", "Network interface gp-x is not initialized yet."),
            entry("systemd-nspawn", "6", "a last line\u{1b}[31m"),
            entry("systemd", "5", "Main process exited, code=exited, status=1/FAILURE"),
        ];
        assert_eq!(choose(&entries, OWN).unwrap(), "Network interface gp-x is not initialized yet.");
        entries.remove(2);
        assert_eq!(choose(&entries, OWN).unwrap(), "a warning; a last line [31m");
        entries.drain(1..3);
        assert_eq!(choose(&entries, OWN).unwrap(), "Main process exited, code=exited, status=1/FAILURE");
        assert_eq!(choose(&entries[..1], OWN), None);
    }

    #[test]
    fn what_is_no_text_or_endless_is_bounded() {
        let bytes: JournalEntry =
            serde_json::from_value(serde_json::json!({"MESSAGE": [255, 254], "_PID": "7"})).unwrap();
        assert_eq!(choose(&[bytes, entry("init", "3", &"x".repeat(10_000))], OWN).unwrap().len(), LIMIT);
    }
}
