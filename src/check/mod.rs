//! `check`: whether what is configured can work, before a job finds out.
//!
//! A [`Finding`] names the thing, what is wrong with it and the remedy. What follows from the settings alone is pure
//! ([`labels`], [`elsewhere`], [`selection`]); what must be asked of the host ([`capacity`], [`gpu`]), its kernel
//! ([`host`]), its network
//! ([`reach`]) and the forge ([`forge`], [`runner`]) is beside it.

pub mod capacity;
pub mod elsewhere;
pub mod forge;
pub mod gpu;
pub mod host;
pub mod labels;
pub mod reach;
pub mod runner;
pub mod selection;

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// Something worth knowing about the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The key, target, class or template it is about.
    pub about: String,
    /// What is so.
    pub what: String,
    /// What to do about it; empty where nothing need be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Works, and perhaps not as meant.
    Warning,
    /// Does not work.
    Error,
}

impl Finding {
    /// As it should be.
    pub fn fine(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity: Severity::Fine, about: about.into(), what: what.into(), remedy: String::new() }
    }

    /// Works, and perhaps not as meant.
    pub fn warning(about: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, about: about.into(), what: what.into(), remedy: remedy.into() }
    }

    /// Does not work.
    pub fn error(about: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Error, about: about.into(), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Fine => "ok     ",
            Severity::Warning => "warning",
            Severity::Error => "error  ",
        };
        write!(f, "{mark}  {}: {}", self.about, self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, ". Remedy: {}", self.remedy) }
    }
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine)
}
