//! The breakout suite: named probes, each something a job could try against its host, its neighbours or the kernel.
//!
//! Every target is a stand-in of the lab. A probe that needs no stand-in changes nothing: it opens without reading, or
//! writes back what it read.

pub mod probes;
mod raw;
pub mod stand_in;
pub mod targets;

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing came of it.
    Refused,
    /// It worked.
    Succeeded,
    /// Whether it worked, a stand-in knows, by this word.
    Witness(String),
    /// It could not be tried.
    Skipped,
}

/// An outcome and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The outcome.
    pub outcome: Outcome,
    /// One line.
    pub seen: String,
}

impl Found {
    /// Nothing came of it.
    pub fn refused(seen: impl ToString) -> Self {
        Self { outcome: Outcome::Refused, seen: seen.to_string() }
    }

    /// It worked.
    pub fn succeeded(seen: impl ToString) -> Self {
        Self { outcome: Outcome::Succeeded, seen: seen.to_string() }
    }

    /// A stand-in knows.
    pub fn witness(word: impl ToString, seen: impl ToString) -> Self {
        Self { outcome: Outcome::Witness(word.to_string()), seen: seen.to_string() }
    }

    /// It could not be tried.
    pub fn skipped(why: impl ToString) -> Self {
        Self { outcome: Outcome::Skipped, seen: why.to_string() }
    }

    /// Success is success.
    pub fn of<T, E: ToString>(result: Result<T, E>, seen: impl ToString) -> Self {
        match result {
            Ok(_) => Self::succeeded(seen),
            Err(error) => Self::refused(error),
        }
    }
}

/// Something to try.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// What is tried, for people.
    pub tried: &'static str,
    /// Tries it. The word is one that nobody else uses.
    pub run: fn(word: &str) -> Found,
}

/// Every line of the probe program begins so.
pub const MARK: &str = "BREAKOUT";

/// A line of the probe program.
pub fn line(name: &str, found: &Found) -> String {
    let outcome = match &found.outcome {
        Outcome::Refused => "refused".to_owned(),
        Outcome::Succeeded => "succeeded".to_owned(),
        Outcome::Witness(word) => format!("witness={word}"),
        Outcome::Skipped => "skipped".to_owned(),
    };
    let seen: String = found.seen.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{MARK} | {name} | {outcome} | {}", seen.trim())
}

/// Reads such a line, wherever it begins.
pub fn parse(line: &str) -> Option<(String, Found)> {
    let mut fields = line.split_once(&format!("{MARK} | "))?.1.splitn(3, " | ");
    let (name, outcome, seen) = (fields.next()?, fields.next()?, fields.next()?);
    let outcome = match outcome {
        "refused" => Outcome::Refused,
        "succeeded" => Outcome::Succeeded,
        "skipped" => Outcome::Skipped,
        other => Outcome::Witness(other.strip_prefix("witness=")?.to_owned()),
    };
    Some((name.to_owned(), Found { outcome, seen: seen.to_owned() }))
}
