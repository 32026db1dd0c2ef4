//! What appears on the console. A closed pipe is nobody's business: the job goes on.

use std::io::Write as _;
use std::time::SystemTime;

/// A line on standard output.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// A line on standard output behind the time.
pub(crate) fn stamped(text: &str) {
    line(&format!("{}: {text}", stamp()));
}

/// A line on standard error.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A line on standard error behind the time.
pub(crate) fn stamped_error(text: &str) {
    error(&format!("{}: {text}", stamp()));
}

/// `2026-11-01 10:00:00Z`
fn stamp() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace('T', " ")
}
