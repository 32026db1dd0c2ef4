//! The life of a container: one type, transitions checked in one place.
//!
//! ```text
//! Requested → Preparing → Booting → Registering → Idle → Running → Finishing → Gone | Failed
//! ```
//! Forward only, skipping allowed (a signal may be missed, a controller may have been away); every phase may end.

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[derive(strum::Display, strum::VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Phase {
    /// Recorded; registration and unit are being asked for.
    Requested,
    /// The unit's *prepare* step runs.
    Preparing,
    /// The container's init runs.
    Booting,
    /// The runner program was started and connects to the forge.
    Registering,
    /// The runner listens for a job.
    Idle,
    /// The runner has a job.
    Running,
    /// The job or the runner ended, or the container is being stopped.
    Finishing,
    /// Ended in good order.
    Gone,
    /// Ended otherwise.
    Failed,
}

/// A transition backwards or out of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no way from {from} to {to}")]
pub struct BadTransition {
    /// From here.
    pub from: Phase,
    /// To there.
    pub to: Phase,
}

impl Phase {
    /// All phases in order.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// No way leads out.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Gone | Self::Failed)
    }

    /// The next phase, if there is a way to it.
    pub fn to(self, to: Self) -> Result<Self, BadTransition> {
        if !self.is_end() && to > self { Ok(to) } else { Err(BadTransition { from: self, to }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_only_goes_forward_and_an_end_is_an_end() {
        for &from in Phase::ALL {
            for &to in Phase::ALL {
                let allowed = !from.is_end() && (to as u8) > (from as u8);
                assert_eq!(from.to(to).is_ok(), allowed, "{from} to {to}");
            }
        }
    }

    #[test]
    fn documents_and_words_agree() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).ok(), Some(phase.to_string().into()));
        }
    }
}
