//! The log of a step on disk, as long as the step runs.
//!
//! The real runner writes lines through a writer with a buffer and deletes the file once it is uploaded. Whoever
//! wants to read along has to cope with both.

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
}

impl Page {
    pub(crate) fn new(diag: &Path, timeline: &str) -> Self {
        let name = format!("{timeline}_{}_1.log", uuid());
        Self { path: diag.join("pages").join(name), file: None, held: BYTE_ORDER_MARK.to_vec() }
    }

    /// Writes a line behind the time. A full disk is the job's problem, not the log's.
    pub(crate) fn line(&mut self, text: &str) {
        let _ = self.try_line(text);
    }

    fn try_line(&mut self, text: &str) -> io::Result<()> {
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
        writeln!(self.held, "{} {text}", stamp())?;
        let full = self.held.len() / BUFFER * BUFFER;
        file.write_all(&self.held[..full])?;
        self.held.drain(..full);
        Ok(())
    }

    /// The step is over: everything is written, and after the upload the file goes.
    pub(crate) fn end(mut self) {
        if let Some(mut file) = self.file.take() {
            let _ = file.write_all(&self.held);
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// `2026-11-01T10:00:00.1234567Z`
fn stamp() -> String {
    let nanos = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    format!("{}Z", nanos.get(..27).unwrap_or(&nanos))
}

/// Any UUID.
pub(crate) fn uuid() -> String {
    let bits: u128 = rand::random();
    let hex = format!("{bits:032x}");
    format!("{}-{}-4{}-8{}-{}", &hex[0..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}
