//! The one-job grant: what lets the guest register as a runner, once.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A credential good for one runner and one job. `Debug` never shows its content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Grant {
    /// GitHub's JIT configuration as `generate-jitconfig` returned it (docs/github.md#contents-of-a-jit-configuration):
    /// base64 of a JSON object from file name to base64 file content.
    GithubJit {
        /// The `encoded_jit_config` field, unchanged.
        encoded_jit_config: String,
    },
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GithubJit { .. } => f.write_str("GithubJit(…)"),
        }
    }
}
