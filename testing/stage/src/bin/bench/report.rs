//! What the benchmark prints: tables, on a terminal or as Markdown.

use stage::show;

use crate::stats::Sample;

/// How tables are printed.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// As Markdown.
    pub markdown: bool,
}

impl Report {
    /// A table with a headline; the columns from `right` on hold numbers.
    pub fn table(self, title: &str, head: &[&str], rows: &[Vec<String>], right: usize) {
        let lines = if self.markdown {
            println!("\n**{title}**\n");
            show::markdown(head, rows, right)
        } else {
            show::headline(title);
            show::table(head, rows, right)
        };
        for line in lines {
            println!("{line}");
        }
    }

    /// A table of figures with one value each.
    pub fn figures(self, title: &str, figures: &[(&str, String, &str)]) {
        let row =
            |(what, value, aim): &(&str, String, &str)| vec![(*what).to_owned(), value.clone(), (*aim).to_owned()];
        self.table(title, &["", "measured", "aim"], &figures.iter().map(row).collect::<Vec<_>>(), 1);
    }
}

/// A row of a table of times.
pub fn times(what: &str, sample: &Sample, aim: &str) -> Vec<String> {
    let cell = |percent| format!("{:.1}", sample.percentile(percent));
    vec![what.to_owned(), cell(50), cell(95), cell(100), aim.to_owned()]
}

/// The head of a table of times.
pub const TIMES: [&str; 5] = ["", "p50 ms", "p95 ms", "max ms", "aim"];
