//! Tables for people.

use std::{fmt::Write as _, time::Duration};

/// Widest cell, in characters.
const WIDEST: usize = 100;

/// Columns as wide as their widest cell; control characters, which job names may hold, are dropped.
pub(super) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let plain = |cell: String| cell.chars().filter(|c| !c.is_control()).take(WIDEST).collect::<String>();
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect())
        .chain(rows.map(|row| row.into_iter().map(plain).collect()))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::from("\n");
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    text
}

/// A time span, in whole seconds.
pub(super) fn seconds(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// A time span, to a tenth of a second below a minute.
pub(super) fn milliseconds(milliseconds: u64) -> String {
    match milliseconds {
        0..60_000 => format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => seconds(milliseconds / 1000),
    }
}

/// Bytes, as systemd shows them.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{}K", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{}M", bytes >> 20),
        _ => format!("{}.{}G", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30),
    }
}

/// What is known, or a dash.
pub(super) fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_name_cannot_write_to_the_terminal() {
        let shown = table(&["A"], std::iter::once(vec!["\u{1b}[2Jowned\n".to_owned()]));
        assert_eq!(shown, "\nA\n[2Jowned\n");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!([bytes(512 << 10), bytes(300 << 20), bytes(3 << 29)], ["512K", "300M", "1.5G"]);
        assert_eq!([milliseconds(950), milliseconds(61_500)], ["0.9s", "1m 1s"]);
    }
}
