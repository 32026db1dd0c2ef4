//! Labels of jobs, classes and scale sets, to compare: without case as GitHub does, or with it as Gitea and Forgejo do, and
//! everywhere in this one way.

use std::collections::BTreeSet;

/// A set of labels. They are shown as somebody wrote them, and compared in here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    all: BTreeSet<String>,
    /// Upper and lower case are different letters.
    exact: bool,
}

impl Labels {
    /// These, in which upper and lower case are different letters if `exact`.
    pub fn of<L: AsRef<str>>(labels: impl IntoIterator<Item = L>, exact: bool) -> Self {
        let mut own = Self { all: BTreeSet::new(), exact };
        for label in labels {
            own.add(label.as_ref());
        }
        own
    }

    /// Whether this is one of them.
    pub fn has(&self, label: &str) -> bool {
        self.all.contains(&self.compared(label))
    }

    /// Whether all of `wanted` are among them, which are compared as these are.
    pub fn have_all(&self, wanted: &Self) -> bool {
        wanted.all.is_subset(&self.all)
    }

    /// The same for labels as somebody wrote them.
    pub fn have_each(&self, wanted: &[String]) -> bool {
        wanted.iter().all(|label| self.has(label))
    }

    /// Adds one; false if it was there.
    pub fn add(&mut self, label: &str) -> bool {
        self.all.insert(self.compared(label))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn compared(&self, label: &str) -> String {
        if self.exact { label.to_owned() } else { label.to_lowercase() }
    }
}

impl<L: AsRef<str>> FromIterator<L> for Labels {
    fn from_iter<I: IntoIterator<Item = L>>(labels: I) -> Self {
        Self::of(labels, false)
    }
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

    #[test]
    fn case_counts_where_it_is_said_to() {
        let labels = Labels::of(["Nix", "gpu"], true);
        assert!(labels.has("Nix") && !labels.has("nix"));
        assert!(labels.have_each(&["gpu".to_owned()]) && !labels.have_each(&["GPU".to_owned()]));
    }
}
