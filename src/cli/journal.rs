//! Reads systemd's journal through journalctl(1), which alone knows the files' format.

use std::{io::ErrorKind, process::Stdio, time::Duration};

use anyhow::{Context, bail, ensure};
use contract::unit_name::JOURNAL_NAMESPACE;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

/// Longest line of journalctl's that is read, in bytes: systemd-journald cuts what a unit writes at 48 KiB, and a byte
/// that is not text takes up to four.
const LONGEST: u64 = 1 << 20;
/// Longest silence of a journalctl that does not follow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which lines.
#[derive(Debug)]
pub(super) struct Query {
    /// One of these fields has its value (`FIELD=value`), or both.
    pub either: [String; 2],
    /// Written at this time or later, in microseconds since the Unix epoch.
    pub since_us: u64,
    /// Written at this time or earlier.
    pub until_us: Option<u64>,
    /// Go on with what is written from now on.
    pub follow: bool,
}

/// The lines of this host's journal that a query asks for.
pub(super) struct Journal {
    child: Child,
    output: BufReader<ChildStdout>,
    follow: bool,
}

/// A line of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// When it was written, in microseconds since the Unix epoch.
    pub at_us: u64,
    /// Who wrote it.
    pub by: String,
    /// What.
    pub message: String,
}

/// A line of `journalctl --output=json` (systemd.journal-fields(7)).
#[derive(Deserialize)]
struct JournalLine {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at_us: String,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Option<Field>,
    #[serde(rename = "_COMM", default)]
    program: Option<Field>,
    #[serde(rename = "MESSAGE", default)]
    message: Option<Field>,
}

/// A field's value: as text, as bytes where it is none that can be printed, or several where it is there several times.
#[derive(Deserialize)]
#[serde(untagged)]
enum Field {
    Text(String),
    Bytes(Vec<u8>),
    Several(Vec<Option<Field>>),
}

impl Field {
    /// The first value.
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Self::Several(all) => all.into_iter().flatten().next()?.text(),
        }
    }
}

impl Query {
    fn arguments(&self) -> Vec<String> {
        let time = |us: u64| format!("@{}.{:06}", us / 1_000_000, us % 1_000_000);
        let mut arguments: Vec<String> =
            ["--output=json", "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_COMM", "--all", "--quiet", "--no-pager"]
                .map(str::to_owned)
                .into();
        // Containers have a journal of their own; systemd's and the controller's words on them are in the host's.
        arguments.push(format!("--namespace=+{JOURNAL_NAMESPACE}"));
        arguments.push(format!("--since={}", time(self.since_us)));
        arguments.extend(self.until_us.map(|until| format!("--until={}", time(until))));
        if self.follow {
            arguments.extend(["--follow", "--no-tail"].map(str::to_owned));
        }
        let [one, other] = self.either.clone();
        arguments.extend([one, "+".to_owned(), other]);
        arguments
    }
}

impl Journal {
    /// Asks for what this user may read: for anything of the system's, as root or in the group `systemd-journal`. Must
    /// be called inside a tokio runtime.
    pub fn open(query: &Query) -> anyhow::Result<Self> {
        let mut command = Command::new("journalctl");
        // What it complains of goes to our own standard error.
        command.args(query.arguments()).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!("journalctl is not there. Remedy: install systemd's journalctl"),
            _ => anyhow::Error::new(error).context("journalctl cannot be started"),
        })?;
        let output = BufReader::new(child.stdout.take().context("journalctl has no output")?);
        Ok(Self { child, output, follow: query.follow })
    }

    /// The next line; none = that was the last.
    pub async fn line(&mut self) -> anyhow::Result<Option<Line>> {
        let silence = if self.follow { Duration::MAX } else { PATIENCE };
        let Ok(line) = tokio::time::timeout(silence, self.read()).await else {
            bail!(
                "journalctl did not answer within {} s. Remedy: try again, or journalctl --verify",
                PATIENCE.as_secs()
            )
        };
        if let Some(line) = line? {
            return parsed(&line).map(Some);
        }
        let status = self.child.wait().await.context("journalctl")?;
        let remedy = "Remedy: run this as root or as a member of the group systemd-journal";
        ensure!(status.success(), "the journal cannot be read: journalctl ended with {status}. {remedy}");
        Ok(None)
    }

    async fn read(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        (&mut self.output).take(LONGEST).read_until(b'\n', &mut line).await.context("journalctl")?;
        ensure!((line.len() as u64) < LONGEST, "a line of the journal has more than {LONGEST} bytes");
        Ok(Some(line).filter(|line| !line.is_empty()))
    }
}

fn parsed(line: &[u8]) -> anyhow::Result<Line> {
    let entry: JournalLine = serde_json::from_slice(line).context("journalctl's output is not understood")?;
    let text = |field: Option<Field>| field.and_then(Field::text);
    Ok(Line {
        at_us: entry.at_us.parse().context("journalctl's output has no time")?,
        by: text(entry.identifier).or_else(|| text(entry.program)).unwrap_or_default(),
        message: text(entry.message).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_are_text_bytes_several_or_nothing() {
        let read = |fields: &str| {
            parsed(format!(r#"{{"__REALTIME_TIMESTAMP":"7","_PID":"1",{fields}}}"#).as_bytes())
                .map(|line| (line.at_us, line.by, line.message))
                .unwrap()
        };
        let is = |by: &str, message: &str| (7, by.to_owned(), message.to_owned());
        assert_eq!(read(r#""SYSLOG_IDENTIFIER":"a","_COMM":"b","MESSAGE":"hello""#), is("a", "hello"));
        assert_eq!(read(r#""_COMM":"b","MESSAGE":[104,105,255]"#), is("b", "hi\u{fffd}"));
        assert_eq!(read(r#""SYSLOG_IDENTIFIER":null,"_COMM":"b","MESSAGE":null"#), is("b", ""));
        assert_eq!(read(r#""SYSLOG_IDENTIFIER":["a","b"],"MESSAGE":[[104,105],null,"x"]"#), is("a", "hi"));
        assert!(parsed(b"{\"MESSAGE\":\"no time\"}").is_err() && parsed(b"-- No entries --").is_err());
    }

    #[test]
    fn a_query_is_arguments_of_journalctl() {
        let query =
            Query { either: ["A=x y".into(), "B=$(z)".into()], since_us: 1_500_000, until_us: Some(7), follow: true };
        let arguments = query.arguments();
        let at = arguments.iter().position(|argument| argument.starts_with("--since")).unwrap();
        let told = ["--since=@1.500000", "--until=@0.000007", "--follow", "--no-tail", "A=x y", "+", "B=$(z)"];
        assert_eq!(arguments[at..], told);
    }
}
