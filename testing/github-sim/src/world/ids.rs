//! Identifiers, and where new ones come from.

use rand::Rng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A job of one attempt of a run.
    JobId
);
id!(
    /// A workflow run.
    RunId
);
id!(
    /// A runner record.
    RunnerId
);
id!(
    /// A runner scale set.
    ScaleSetId
);
id!(
    /// A repository, whatever it is called at the moment.
    RepoId
);

/// Where ids start. Run and job ids are beyond 32 bits, as the real ones are.
#[derive(Debug)]
pub(super) struct Counters {
    job: u64,
    run: u64,
    runner: u64,
    repo: u64,
    scale_set: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { job: 41_000_000_000, run: 14_000_000_000, runner: 20, repo: 700_000_000, scale_set: 0 }
    }
}

impl Counters {
    /// Ids of others lie between ours, so that nobody relies on them being consecutive.
    pub(super) fn job(&mut self, rng: &mut StdRng) -> JobId {
        self.job += rng.random_range(1..=5_000);
        JobId(self.job)
    }

    pub(super) fn run(&mut self, rng: &mut StdRng) -> RunId {
        self.run += rng.random_range(1..=5_000);
        RunId(self.run)
    }

    pub(super) fn runner(&mut self) -> RunnerId {
        self.runner += 1;
        RunnerId(self.runner)
    }

    pub(super) fn scale_set(&mut self) -> ScaleSetId {
        self.scale_set += 1;
        ScaleSetId(self.scale_set)
    }

    pub(super) fn repo(&mut self) -> RepoId {
        self.repo += 1;
        RepoId(self.repo)
    }
}

/// Random bytes written as a version 4 UUID.
pub(super) fn uuid(rng: &mut StdRng) -> String {
    let high: u64 = rng.random();
    let low: u64 = rng.random();
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}
