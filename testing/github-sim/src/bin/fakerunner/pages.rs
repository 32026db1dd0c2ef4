//! The logs of a job on disk, as long as its parts run.
//!
//! The real runner writes lines through a writer with a buffer and deletes a file once it is uploaded. Whoever wants to
//! read along has to cope with both. Every line stands twice: in the record of its step, and in that of the job, each
//! with a time of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A .NET `FileStream` keeps back what does not fill this much, and cuts lines wherever it is full.
const BUFFER: usize = 4_096;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    /// A page is only made when there is something to write.
    file: Option<File>,
    held: Vec<u8>,
    lines: u64,
}

impl Page {
    pub(crate) fn new(diag: &Path, timeline: &str, record: &str) -> Self {
        let path = diag.join("pages").join(format!("{timeline}_{record}_1.log"));
        Self { path, file: None, held: BYTE_ORDER_MARK.to_vec(), lines: 0 }
    }

    /// Writes a line behind the time, and gives it so. A full disk is the job's problem, not the log's.
    pub(crate) fn line(&mut self, text: &str) -> String {
        let line = format!("{} {text}\n", stamp());
        let _ = self.write(line.as_bytes());
        self.lines += 1;
        line
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if let Some(directory) = self.path.parent() {
                    std::fs::create_dir_all(directory)?;
                }
                let file = OpenOptions::new().write(true).create_new(true).open(&self.path)?;
                self.file.insert(file)
            }
        };
        self.held.extend_from_slice(line);
        let full = self.held.len() / BUFFER * BUFFER;
        file.write_all(&self.held[..full])?;
        self.held.drain(..full);
        Ok(())
    }

    /// The part is over: everything is written. Gives what is to be deleted after the upload, and how many lines it has.
    pub(crate) fn end(mut self) -> (PathBuf, u64) {
        if let Some(mut file) = self.file.take() {
            let _ = file.write_all(&self.held);
        }
        (self.path, self.lines)
    }
}

/// `2026-11-01T10:00:00.1234567Z`
fn stamp() -> String {
    let nanos = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    format!("{}Z", nanos.get(..27).unwrap_or(&nanos))
}

/// Now, as the results service has it.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Any UUID.
pub(crate) fn uuid() -> String {
    let bits: u128 = rand::random();
    let hex = format!("{bits:032x}");
    format!("{}-{}-4{}-8{}-{}", &hex[0..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}
