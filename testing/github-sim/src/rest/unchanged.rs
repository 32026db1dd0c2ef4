//! Lists of runs that are what they were when they were last given: a client that has them is told so without making
//! them anew, which is most of what a simulated week would spend its time with.

use crate::world::{Repo, World};
use std::collections::BTreeMap;

/// What a list was made from. The same again gives the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MadeFrom {
    repo: u64,
    revision: u64,
    salt: u64,
}

impl MadeFrom {
    /// A list of this repository's runs.
    pub(super) fn runs_of(world: &World, repo: &Repo) -> Self {
        Self { repo: repo.id.0, revision: repo.revision, salt: world.faults().etag_salt }
    }
}

/// The last entity tag by token and address.
#[derive(Debug, Default)]
pub(crate) struct Given(BTreeMap<(String, String), (String, MadeFrom)>);

impl Given {
    /// What was made from `made_from` for this token and address has the tag `wanted`.
    pub(super) fn is_unchanged(&self, account: &str, address: &str, made_from: MadeFrom, wanted: &str) -> bool {
        let given = self.0.get(&(account.to_owned(), address.to_owned()));
        given.is_some_and(|(tag, from)| *from == made_from && tag == wanted)
    }

    pub(super) fn note(&mut self, account: &str, address: &str, tag: &str, made_from: MadeFrom) {
        self.0.insert((account.to_owned(), address.to_owned()), (tag.to_owned(), made_from));
    }
}
