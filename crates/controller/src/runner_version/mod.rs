//! The forge's runner program ages: a forge stops serving a version some weeks after the next one is released, and
//! where the program cannot replace itself somebody has to (docs/github.md#runner-versions).

mod tree;
mod verdict;

pub use self::{
    tree::{in_template, in_tree},
    verdict::{RETRY_REFUSED, Standing, WARN_DAYS, days_left, standing},
};

/// Which version a class runs: what its template's tree says, which is so before any container boots; else what the
/// operator says; else what a container's runner said last.
pub fn known<'a>(tree: Option<&'a str>, configured: Option<&'a str>, reported: Option<&'a str>) -> Option<&'a str> {
    tree.or(configured).or(reported)
}
