//! Reads a runner's version where it is installed.

use std::{
    fs::{self, File},
    io::Read,
    iter::successors,
    path::{Component, Path, PathBuf},
};

use contract::runner_version::is_version;
use serde::Deserialize;
use serde_json::Value;
use settings::{RUNNER_MOUNT, Root, Template};

/// What .NET publishes beside the program: its own name and version, and those of what it needs.
const FILE: &str = "Runner.Listener.deps.json";
/// The library in it that is the program itself.
const PROGRAM: &str = "Runner.Listener/";
/// Where nixpkgs puts the program's files; the program in `bin` starts it there (docs/github.md#runner-in-nixpkgs).
const NIXPKGS: &str = "lib/github-runner";
/// The one place outside of its tree a template's files may lie: the sandbox shows it to containers.
const STORE: &str = "/nix/store";
/// Links followed from the program at most.
const LINKS: usize = 8;
/// Largest file read; the real one is about 80 KiB.
const LIMIT: u64 = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct Dependencies {
    libraries: serde_json::Map<String, Value>,
}

/// The version of the runner that a template starts: in its tree, in the store, or in the directory the host keeps.
pub fn in_template(template: &Template) -> Option<String> {
    match &template.root {
        Root::Tree(path) => in_tree(path, &template.runner),
        Root::System { closure, runner_dir } => match (runner_dir, template.runner.strip_prefix(RUNNER_MOUNT)) {
            (Some(directory), Ok(inside)) => in_tree(directory, inside),
            _ => in_tree(closure, &template.runner),
        },
    }
}

/// The version of `runner`, a path inside the container, in the tree at `root`. `None` where nothing tells: the
/// program is not of .NET, or the tree cannot be read.
pub fn in_tree(root: &Path, runner: &Path) -> Option<String> {
    let places = successors(Some(runner.to_owned()), |program| target(root, program)).take(LINKS);
    places.filter_map(|program| Some(program.parent()?.to_owned())).find_map(|beside| {
        let candidates = [Some(beside.join(FILE)), beside.parent().map(|parent| parent.join(NIXPKGS).join(FILE))];
        candidates.into_iter().flatten().find_map(|path| {
            let file = File::open(find(root, &path)?).ok()?;
            let mut text = String::new();
            file.take(LIMIT).read_to_string(&mut text).ok()?;
            version_in(&text)
        })
    })
}

/// Where the link `program` leads, as a path inside the container; `None` if it is no link.
fn target(root: &Path, program: &Path) -> Option<PathBuf> {
    let target = fs::read_link(root.join(relative(program))).ok()?;
    Some(program.parent()?.join(target))
}

fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::RootDir)).collect()
}

/// Where `path` lies on this host: below `root`, or in the store. A link that leads elsewhere is not followed.
fn find(root: &Path, path: &Path) -> Option<PathBuf> {
    let below = root
        .join(relative(path))
        .canonicalize()
        .ok()
        .filter(|found| root.canonicalize().is_ok_and(|root| found.starts_with(root)) || found.starts_with(STORE));
    below.or_else(|| path.canonicalize().ok().filter(|found| path.starts_with(STORE) && found.starts_with(STORE)))
}

fn version_in(text: &str) -> Option<String> {
    let Dependencies { libraries } = serde_json::from_str(text).ok()?;
    let version = libraries.keys().find_map(|library| library.strip_prefix(PROGRAM))?;
    is_version(version).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    fn dependencies(version: &str) -> String {
        serde_json::json!({
            "runtimeTarget": {"name": ".NETCoreApp,Version=v8.0/linux-x64"},
            "libraries": {
                "Newtonsoft.Json/13.0.3": {"type": "package"},
                format!("Runner.Listener/{version}"): {"type": "project", "serviceable": false, "sha512": ""},
                "Runner.Common/1.0.0": {"type": "project"},
            },
        })
        .to_string()
    }

    fn tree(directory: &str, text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(directory)).unwrap();
        fs::write(root.path().join(directory).join(FILE), text).unwrap();
        root
    }

    #[test]
    fn the_version_is_found_where_github_and_where_nixpkgs_put_it() {
        for (directory, runner) in [
            ("opt/actions-runner/bin", "/opt/actions-runner/bin/Runner.Listener"),
            ("usr/lib/github-runner", "/usr/bin/Runner.Listener"),
        ] {
            let root = tree(directory, &dependencies("2.336.0"));
            assert_eq!(in_tree(root.path(), Path::new(runner)).as_deref(), Some("2.336.0"), "{runner}");
        }
    }

    #[test]
    fn a_link_inside_the_tree_is_followed_and_one_out_of_it_is_not() {
        let root = tree("opt/actions-runner-2.336.0/bin", &dependencies("2.336.0"));
        symlink("actions-runner-2.336.0", root.path().join("opt/actions-runner")).unwrap();
        let runner = Path::new("/opt/actions-runner/bin/Runner.Listener");
        assert_eq!(in_tree(root.path(), runner).as_deref(), Some("2.336.0"));
        let other = tempfile::tempdir().unwrap();
        fs::create_dir(other.path().join("opt")).unwrap();
        symlink(root.path().join("opt/actions-runner-2.336.0"), other.path().join("opt/actions-runner")).unwrap();
        assert_eq!(in_tree(other.path(), runner), None);
    }

    #[test]
    fn a_program_that_is_a_link_has_the_version_of_where_it_leads() {
        let root = tree("opt/actions-runner/bin", &dependencies("2.336.0"));
        let link = root.path().join("usr/local/bin/Runner.Listener");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        for target in ["/opt/actions-runner/bin/Runner.Listener", "../../../opt/actions-runner/bin/Runner.Listener"] {
            symlink(target, &link).unwrap();
            let runner = Path::new("/usr/local/bin/Runner.Listener");
            assert_eq!(in_tree(root.path(), runner).as_deref(), Some("2.336.0"), "{target}");
            fs::remove_file(&link).unwrap();
        }
        symlink("Runner.Listener", &link).unwrap();
        assert_eq!(in_tree(root.path(), Path::new("/usr/local/bin/Runner.Listener")), None, "a link to itself");
    }

    #[test]
    fn what_does_not_tell_a_version_tells_none() {
        let runner = Path::new("/r/bin/Runner.Listener");
        for text in ["", "{}", "[]", r#"{"libraries":{}}"#, &dependencies("../x"), &dependencies("")] {
            assert_eq!(in_tree(tree("r/bin", text).path(), runner), None, "{text}");
        }
        assert_eq!(in_tree(Path::new("/nonexistent"), runner), None);
        assert_eq!(in_tree(Path::new("/"), Path::new("/")), None);
    }
}
