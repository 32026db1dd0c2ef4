//! What the demonstration and the benchmark print with: progress of slow steps, and tables.

use std::{
    io::{IsTerminal, Write},
    sync::mpsc,
    time::{Duration, Instant},
};

/// How often a slow step says that it still goes on: on a terminal, and elsewhere.
const PULSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// Says what is being done, does it, and says how long it took.
pub fn doing<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let terminal = std::io::stdout().is_terminal();
    let pulse = if terminal { PULSE.0 } else { PULSE.1 };
    say(what, terminal, None);
    let (done, wait) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while wait.recv_timeout(pulse) == Err(mpsc::RecvTimeoutError::Timeout) {
                say(what, terminal, Some(begun.elapsed()));
            }
        });
        let result = work();
        drop(done);
        let seconds = begun.elapsed().as_secs_f64();
        if terminal {
            println!("\r\x1b[K{what}: {seconds:.1} s");
        } else {
            println!("{what}: done in {seconds:.1} s");
        }
        result
    })
}

fn say(what: &str, terminal: bool, since: Option<Duration>) {
    let since = since.map_or(String::new(), |since| format!(" {} s", since.as_secs()));
    if terminal {
        print!("\r\x1b[K{what} …{since}");
        let _ = std::io::stdout().flush();
    } else {
        println!("{what} …{since}");
    }
}

/// A headline.
pub fn headline(text: &str) {
    println!("\n{text}\n{}", "─".repeat(text.chars().count()));
}

/// Columns as wide as their widest cell; the columns from `right` on are aligned right.
pub fn table(head: &[&str], rows: &[Vec<String>], right: usize) -> Vec<String> {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &&Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column >= right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// The same as a Markdown table.
pub fn markdown(head: &[&str], rows: &[Vec<String>], right: usize) -> Vec<String> {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let rule: Vec<String> =
        (0..head.len()).map(|column| if column >= right { "---:" } else { "---" }.to_owned()).collect();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    [line(&head), line(&rule)].into_iter().chain(rows.iter().map(|row| line(row))).collect()
}

/// Text of a job as one may print it: no control characters.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_line_up_at_the_right() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "10".to_owned()]];
        assert_eq!(table(&["x", "ms"], &rows, 1), ["x     ms", "a      1", "long  10"]);
        assert_eq!(markdown(&["x", "ms"], &rows, 1), ["| x | ms |", "| --- | ---: |", "| a | 1 |", "| long | 10 |"]);
    }
}
