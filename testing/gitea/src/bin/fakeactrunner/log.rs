//! Lines as logrus writes them, on standard error.

use std::time::SystemTime;

/// Prints one.
pub(crate) fn log(level: &str, message: &str, error: Option<&str>) {
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    let error = error.map(|error| format!(" error={error:?}")).unwrap_or_default();
    eprintln!("time=\"{time}\" level={level} msg={message:?}{error}");
}
