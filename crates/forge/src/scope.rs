//! Where runners are registered at a forge.

use std::fmt;

/// A place runners are registered with. Written `owner/repository`, `organisation`, `enterprises/name`, which is how
/// records, plans and the status name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One repository, `owner/repository`: its runners serve it alone.
    Repository(String),
    /// An organisation: its runners serve every repository their runner group allows.
    Organisation(String),
    /// An enterprise: as an organisation, one step up.
    Enterprise(String),
}

impl Scope {
    /// The scope that is written so.
    pub fn parse(written: &str) -> Self {
        match written.split_once('/') {
            Some(("enterprises", name)) => Self::Enterprise(name.to_owned()),
            Some(_) => Self::Repository(written.to_owned()),
            None => Self::Organisation(written.to_owned()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(name) | Self::Organisation(name) => f.write_str(name),
            Self::Enterprise(name) => write!(f, "enterprises/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_back_as_it_is_written() {
        for written in ["octo-org/hello", "octo-org", "enterprises/octo"] {
            assert_eq!(Scope::parse(written).to_string(), written);
        }
    }
}
