//! Labels of jobs, classes and scale sets, to compare: without case, as the forge does, and everywhere in this one way.

use std::collections::BTreeSet;

/// A set of labels. They are shown as somebody wrote them, and compared in here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeSet<String>);

impl Labels {
    /// Whether this is one of them.
    pub fn has(&self, label: &str) -> bool {
        self.0.contains(&folded(label))
    }

    /// Whether all of `wanted` are among them.
    pub fn have_all(&self, wanted: &Self) -> bool {
        wanted.0.is_subset(&self.0)
    }

    /// Adds one; false if it was there.
    pub fn add(&mut self, label: &str) -> bool {
        self.0.insert(folded(label))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<L: AsRef<str>> FromIterator<L> for Labels {
    fn from_iter<I: IntoIterator<Item = L>>(labels: I) -> Self {
        Self(labels.into_iter().map(|label| folded(label.as_ref())).collect())
    }
}

fn folded(label: &str) -> String {
    label.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_makes_no_difference_in_any_alphabet() {
        let mut labels: Labels = ["Nix", "GRÖSSE"].into_iter().collect();
        assert!(labels.has("nIX") && labels.has("grösse"));
        assert!(!labels.add("NIX") && labels.add("gpu"));
        assert!(labels.have_all(&["GPU", "nix"].into_iter().collect()));
        assert!(!labels.have_all(&["arm"].into_iter().collect()));
    }
}
