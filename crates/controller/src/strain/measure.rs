//! Reading the host: file systems, and the kernel's pressure (its `accounting/psi` document).

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{FileSystem, Measured};

/// A reading of the file systems at `places` and of the whole host's pressure.
pub fn measure(places: &[PathBuf]) -> Measured {
    let pressure = |of: &str, line: &str| avg10(&fs::read_to_string(Path::new("/proc/pressure").join(of)).ok()?, line);
    Measured {
        file_systems: places.iter().filter_map(|place| file_system(place)).collect(),
        memory: pressure("memory", "full"),
        io: pressure("io", "full"),
        cpu: pressure("cpu", "some"),
        // What the forges said: not of the host itself.
        clock: None,
    }
}

/// Of what is not there yet: where it will be made.
fn file_system(place: &Path) -> Option<FileSystem> {
    let (path, found) = place.ancestors().find_map(|path| Some((path, rustix::fs::statvfs(path).ok()?)))?;
    Some(FileSystem {
        path: path.to_owned(),
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        // btrfs and others make them as they need them, and say that there are none.
        free_inodes: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// Percent of the last ten seconds, of a file's line (`some` or `full`).
fn avg10(file: &str, line: &str) -> Option<f64> {
    let line = file.lines().find_map(|found| found.strip_prefix(line))?;
    line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernels_lines_are_read_and_anything_else_is_not_known() {
        let file = "some avg10=1.23 avg60=0.50 avg300=0.10 total=12\nfull avg10=0.45 avg60=0.00 avg300=0.00 total=3\n";
        assert_eq!(avg10(file, "some"), Some(1.23));
        assert_eq!(avg10(file, "full"), Some(0.45));
        for other in ["", "full", "full avg10=", "full avg10=x", "some avg10=1.0"] {
            assert_eq!(avg10(other, "full"), None, "{other:?}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_measured_where_it_will_be_made() {
        let home = tempfile::tempdir().unwrap();
        let measured = measure(&[home.path().join("not/yet")]);
        assert_eq!(measured.file_systems[0].path, home.path());
        assert!(measured.file_systems[0].free_bytes > 0, "{measured:?}");
    }
}
