//! Debian's releases.

use anyhow::{Context, Result, anyhow, bail};
use strum::{Display, EnumString, IntoStaticStr, VariantNames};

const VARIABLE: &str = "GHA_LAB_SUITE";

/// A release of Debian that a tree can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case", parse_err_ty = anyhow::Error, parse_err_fn = unknown)]
pub enum Suite {
    /// Debian 12, systemd 252.
    Bookworm,
    /// Debian 13, systemd 257.
    Trixie,
    /// Debian 14, testing until it is released.
    Forky,
    /// What is always unstable.
    Sid,
}

impl Suite {
    /// The newest that trees can be relied on to be built of: sid is at times without a package that another wants.
    pub const NEWEST: Self = Self::Forky;

    /// How Debian calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What hosts are to be of that a test does not choose: `$GHA_LAB_SUITE`, or `None` for the same as this machine.
    pub(crate) fn of_hosts() -> Result<Option<Self>> {
        match std::env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => name.parse().map(Some).with_context(|| format!("in {VARIABLE}")),
            Err(std::env::VarError::NotUnicode(_)) => bail!("{VARIABLE} is not the name of a Debian release"),
            _ => Ok(None),
        }
    }

    /// Whether it has separate archives beside its own for updates and security.
    pub(crate) fn is_updated(self) -> bool {
        self != Self::Sid
    }

    /// Whether it has been released. What has not says of itself that it is to be used for a week, and a mirror or a
    /// snapshot of it is often older.
    pub(crate) fn is_released(self) -> bool {
        matches!(self, Self::Bookworm | Self::Trixie)
    }
}

fn unknown(name: &str) -> anyhow::Error {
    let names = Suite::VARIANTS.join(", ");
    anyhow!("the lab has no trees of a Debian release called {name}, only of {names}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_found_by_its_name_and_another_is_refused_with_the_names_there_are() {
        for name in Suite::VARIANTS {
            assert_eq!(name.parse::<Suite>().unwrap().name(), *name);
        }
        let error = "trixy".parse::<Suite>().unwrap_err().to_string();
        assert!(error.contains("trixy") && error.contains("bookworm, trixie"), "{error}");
    }
}
