//! The name of a container: unit instance, machine name, directory name and part of an interface name at once.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// `j` and the last seven digits of the job id, or `i` and seven digits for an idle container booted ahead of demand;
/// then up to three lower-case letters that make it unique.
///
/// At most eleven characters, so that `gj-<name>` fits an interface name (15), and nothing in it means anything to a
/// path, a unit name or a host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// A string that is not a container name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a container name (j or i, seven digits, up to three letters a-z)")]
pub struct InvalidName(String);

const DIGITS: usize = 7;
const SUFFIX_MAX: usize = 3;

impl ContainerName {
    /// The first free name for a job: `j` + the last seven digits of its id, then with a suffix if `taken` says so.
    /// `None` when all suffixes are taken.
    pub fn for_job(job_id: u64, taken: impl Fn(&Self) -> bool) -> Option<Self> {
        Self::first_free('j', job_id, taken)
    }

    /// The first free name for a container booted ahead of demand.
    pub fn for_idle(seed: u64, taken: impl Fn(&Self) -> bool) -> Option<Self> {
        Self::first_free('i', seed, taken)
    }

    fn first_free(letter: char, number: u64, taken: impl Fn(&Self) -> bool) -> Option<Self> {
        let base = format!("{letter}{:07}", number % 10_000_000);
        std::iter::once(String::new())
            .chain(suffixes())
            .map(|suffix| Self(format!("{base}{suffix}")))
            .find(|name| !taken(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `a`..`z`, then `aa`..`zz`: more than any host runs at once.
fn suffixes() -> impl Iterator<Item = String> {
    let one = ('a'..='z').map(String::from);
    let two = ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("{a}{b}")));
    one.chain(two)
}

impl FromStr for ContainerName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let valid = || {
            let rest = text.strip_prefix(['j', 'i'])?;
            let (digits, suffix) = rest.split_at_checked(DIGITS)?;
            (digits.bytes().all(|b| b.is_ascii_digit())
                && suffix.len() <= SUFFIX_MAX
                && suffix.bytes().all(|b| b.is_ascii_lowercase()))
            .then(|| Self(text.to_owned()))
        };
        valid().ok_or_else(|| InvalidName(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for ContainerName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_is_j_and_the_last_seven_digits_and_unique_on_collision() {
        let mut taken = BTreeSet::new();
        for expected in ["j4567890", "j4567890a", "j4567890b"] {
            let name = ContainerName::for_job(1_234_567_890, |n| taken.contains(n)).unwrap();
            assert_eq!(name.as_str(), expected);
            assert_eq!(expected.parse::<ContainerName>().unwrap(), name);
            taken.insert(name);
        }
        assert_eq!(ContainerName::for_job(42, |_| false).unwrap().as_str(), "j0000042");
    }

    #[test]
    fn foreign_names_are_refused() {
        for text in [
            "",
            "j",
            "j123456",
            "x1234567",
            "j1234567abcd",
            "j1234567A",
            "../etc",
            "j1234567/",
            "j123456\u{0661}",
            "j1234567\n",
            "jäöü1234",
        ] {
            assert!(text.parse::<ContainerName>().is_err(), "{text:?}");
        }
    }
}
