//! Ranges of user and group ids: which there are, and who else has some of them.

use std::{fs, io, ops::Range, path::Path};

use anyhow::{Context, bail};
use settings::{IDS, Settings};

/// The ranges of containers: as many as there are subnets, one after the other.
pub fn pool(settings: &Settings) -> Range<u32> {
    let first = settings.ids.first;
    first..first.saturating_add(settings.network.pool.len().saturating_mul(IDS))
}

/// A range no live container has: that at `index`, which the subnet suggests, or the next free one. They differ when
/// the pool of subnets was changed under containers that live on.
pub fn free(settings: &Settings, index: u32, taken: &[u32]) -> Option<u32> {
    let count = settings.network.pool.len();
    (0..count)
        .map(|step| settings.ids.first + (index.wrapping_add(step) % count) * IDS)
        .find(|base| taken.iter().all(|other| other.abs_diff(*base) >= IDS))
}

/// Fails if a user or group of the host, or a range that somebody may delegate (subuid(5), subgid(5)), lies in `range`.
pub fn refuse_foreign(etc: &Path, range: &Range<u32>) -> anyhow::Result<()> {
    // Column of the first id, and of the count, if the file has one.
    for (file, first, count) in
        [("passwd", 2, None), ("group", 2, None), ("subuid", 1, Some(2)), ("subgid", 1, Some(2))]
    {
        let path = etc.join(file);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let collides = |line: &&str| {
            let column = |column: usize| line.split(':').nth(column)?.trim().parse::<u64>().ok();
            let first = column(first)?;
            let count = count.map_or(Some(1), column)?;
            Some(first < u64::from(range.end) && first + count > u64::from(range.start))
        };
        if let Some(line) = text.lines().find(|line| collides(line) == Some(true)) {
            let name = line.split(':').next().unwrap_or_default();
            bail!(
                "ids {}-{} of containers reach into those of {name} in {}; choose another ids.first",
                range.start,
                range.end - 1,
                path.display()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use settings::check::check;

    fn settings() -> Settings {
        let text = "token_file = \"/t\"\nmax_concurrent = 4\n[[target]]\nrepo = \"o/r\"\n[ids]\nfirst = 655360\n\
                    [network]\npool = \"10.0.0.0/28\"\nprefix = 30\n";
        check(toml::from_str(text).unwrap()).unwrap()
    }

    proptest! {
        /// Also when the ranges of live containers are those of an older pool and lie across ours.
        #[test]
        fn no_range_is_shared_with_a_live_container(index: u32, taken in proptest::collection::vec(600_000u32..1_000_000, 0..5)) {
            let pool = pool(&settings());
            prop_assert_eq!(pool.len(), 4 * 65_536);
            match free(&settings(), index, &taken) {
                Some(base) => {
                    prop_assert!(pool.contains(&base) && pool.contains(&(base + IDS - 1)));
                    prop_assert!(taken.iter().all(|other| other + IDS <= base || base + IDS <= *other));
                }
                None => prop_assert!(!taken.is_empty()),
            }
        }
    }

    #[test]
    fn a_range_that_belongs_to_somebody_is_refused_by_name() {
        let etc = tempfile::tempdir().unwrap();
        let range = pool(&settings());
        refuse_foreign(etc.path(), &range).unwrap();
        fs::write(etc.path().join("passwd"), "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
            .unwrap();
        fs::write(etc.path().join("subuid"), "alice:100000:65536\n").unwrap();
        refuse_foreign(etc.path(), &range).unwrap();
        for (file, line) in [
            ("passwd", "joe:x:655360:1::/:/bin/sh"),
            ("group", "staff:x:917503:"),
            ("subuid", "bob:600000:65536"),
            ("subgid", "bob:1:4294967295"),
        ] {
            let path = etc.path().join(file);
            let before = fs::read_to_string(&path).unwrap_or_default();
            fs::write(&path, format!("{before}# no line\n{line}\n")).unwrap();
            let said = refuse_foreign(etc.path(), &range).unwrap_err().to_string();
            let name = line.split(':').next().unwrap();
            assert!(said.contains(name) && said.contains(file) && said.contains("ids.first"), "{said}");
            fs::write(&path, before).unwrap();
        }
    }
}
