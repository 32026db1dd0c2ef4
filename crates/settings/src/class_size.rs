//! Sizes of classes: one word for processors, memory and tasks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Limits;

const GIB: u64 = 1 << 30;

/// How much one container of a class may use, in a word. What the class names itself counts instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClassSize {
    /// One processor, 2 GiB.
    Xs,
    /// Two processors, 4 GiB, 2,048 tasks.
    Small,
    /// Six processors, 16 GiB, 4,096 tasks.
    Medium,
    /// Twelve processors, 32 GiB, 8,192 tasks.
    Large,
    /// As much as there is.
    Max,
}

impl ClassSize {
    /// Each by its word.
    pub const ALL: [(&str, Self); 5] = [
        ("xs", Self::Xs),
        ("small", Self::Small),
        ("medium", Self::Medium),
        ("large", Self::Large),
        ("max", Self::Max),
    ];

    /// What it stands for.
    pub fn limits(self) -> Limits {
        let (cpus, gibibytes, tasks) = match self {
            Self::Xs => (1.0, 2, None),
            Self::Small => (2.0, 4, Some(2048)),
            Self::Medium => (6.0, 16, Some(4096)),
            Self::Large => (12.0, 32, Some(8192)),
            Self::Max => return Limits::default(),
        };
        Limits { cpus: Some(cpus), memory: Some(gibibytes * GIB), tasks, io_weight: None }
    }
}
