//! The logs of a job's steps as runners upload them, and what they say the job printed.

use std::collections::BTreeMap;

/// Output beyond this is dropped from the front, so a runaway job cannot fill the memory of a test.
const MAX_OUTPUT: usize = 1024 * 1024;
/// Most logs of one job.
const MAX_LOGS: usize = 1_024;
/// Steps that the runner makes itself and in which nothing of the job prints.
const OF_THE_RUNNER: [&str; 2] = ["Set up job", "Complete job"];

/// The logs of one job.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// By the step's id, in the order in which they began.
    logs: Vec<(String, Vec<u8>)>,
    /// The steps' names.
    names: BTreeMap<String, String>,
}

impl Logs {
    /// A step has this name.
    pub(super) fn name(&mut self, step: &str, name: &str) {
        if self.names.len() < MAX_LOGS {
            self.names.insert(step.to_owned(), name.to_owned());
        }
    }

    /// The log of a step is this.
    pub(super) fn set(&mut self, step: &str, bytes: &[u8]) {
        if let Some(log) = self.log(step) {
            log.clear();
        }
        self.append(step, bytes);
    }

    /// The log of a step goes on so.
    pub(super) fn append(&mut self, step: &str, bytes: &[u8]) {
        let Some(log) = self.log(step) else {
            return;
        };
        log.extend_from_slice(bytes);
        let surplus = log.len().saturating_sub(MAX_OUTPUT);
        // Whole lines go.
        let cut = log[surplus..].iter().position(|byte| *byte == b'\n').map_or(surplus, |end| surplus + end + 1);
        if surplus > 0 {
            log.drain(..cut);
        }
    }

    fn log(&mut self, step: &str) -> Option<&mut Vec<u8>> {
        let at = match self.logs.iter().position(|(id, _)| id == step) {
            Some(at) => at,
            None if self.logs.len() >= MAX_LOGS => return None,
            None => {
                self.logs.push((step.to_owned(), Vec::new()));
                self.logs.len() - 1
            }
        };
        self.logs.get_mut(at).map(|(_, log)| log)
    }

    /// What the job printed: without times, and without what the runner says before a step.
    pub(super) fn output(&self) -> String {
        let of_the_job = |id: &str| self.names.get(id).is_none_or(|name| !OF_THE_RUNNER.contains(&name.as_str()));
        self.logs.iter().filter(|(id, _)| of_the_job(id)).map(|(_, log)| printed(log)).collect()
    }
}

fn printed(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let mut lines = text.trim_start_matches('\u{feff}').split_inclusive('\n').map(without_time).peekable();
    if lines.peek().is_some_and(|line| line.starts_with("##[group]Run ")) {
        // Nothing is left while the end of it is not here.
        let _ = lines.by_ref().find(|line| line.trim_end() == "##[endgroup]");
    }
    lines.collect()
}

/// A line without `2026-11-01T10:00:00.1234567Z `.
fn without_time(line: &str) -> &str {
    match line.split_once(' ') {
        Some((stamp, rest)) if stamp.len() == 28 && stamp.ends_with('Z') && stamp.as_bytes()[10] == b'T' => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_job_printed_is_told_from_what_the_runner_did() {
        let mut logs = Logs::default();
        logs.name("1", "Set up job");
        logs.append("1", b"\xef\xbb\xbf2026-11-01T10:00:00.1234567Z Current runner version: '2.336.0'\n");
        logs.append("2", b"\xef\xbb\xbf2026-11-01T10:00:00.1234567Z ##[group]Run make\n");
        assert_eq!(logs.output(), "");
        logs.append("2", b"2026-11-01T10:00:00.1234567Z make\n2026-11-01T10:00:00.1234567Z ##[endgroup]\n");
        logs.append("2", b"2026-11-01T10:00:00.1234567Z made\nas it is\n");
        assert_eq!(logs.output(), "made\nas it is\n");
        logs.set("2", b"anew\n");
        assert_eq!(logs.output(), "anew\n");
    }

    #[test]
    fn the_beginning_of_too_much_is_dropped() {
        let mut logs = Logs::default();
        for number in 0..40_000 {
            logs.append("1", format!("line {number} of too many lines\n").as_bytes());
        }
        let output = logs.output();
        assert!(
            output.len() <= MAX_OUTPUT
                && output.starts_with("line ")
                && output.ends_with("line 39999 of too many lines\n")
        );
    }
}
