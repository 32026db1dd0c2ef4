//! The server's program: from the lab's cache, or built now, which takes about six minutes of a processor.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use lab::{Cache, Kept, Shelf};

const MODULE: &str = include_str!("../server/go.mod");
const SUMS: &str = include_str!("../server/go.sum");
/// The module's path, which is the program's as well.
const PATH: &str = "code.gitea.io/gitea";
const TAGS: &str = "sqlite sqlite_unlock_notify";
/// `cached`: one that is not in the cache is not built.
const VARIABLE: &str = "GHA_LAB_GITEA";
/// What of the module the program reads at run time.
const STATIC: [&str; 3] = ["templates", "options", "public"];

/// The directory with the program, `gitea`, and what it reads, `static`; or why there is none.
pub fn ensure() -> Result<Kept> {
    let cache = Cache::open()?;
    let shelf = Shelf { cache: &cache, directory: cache.trees(), name: "gitea-server", kept: 1 };
    let mut hasher = DefaultHasher::new();
    (MODULE, SUMS, TAGS, STATIC).hash(&mut hasher);
    shelf.get(&format!("{:016x}", hasher.finish()), build)
}

fn build(directory: &Path) -> Result<()> {
    ensure!(
        std::env::var(VARIABLE).as_deref() != Ok("cached"),
        "Gitea is not in the lab's cache, and {VARIABLE}=cached forbids to build it"
    );
    let version = MODULE.lines().find_map(|line| line.trim().strip_prefix("code.gitea.io/gitea v"));
    let version =
        version.and_then(|version| version.split(' ').next()).context("server/go.mod does not require Gitea")?;
    let module = directory.join("module");
    fs::create_dir_all(&module)?;
    fs::write(module.join("go.mod"), MODULE)?;
    fs::write(module.join("go.sum"), SUMS)?;
    let program = directory.join("gitea");
    let flags = format!("-s -w -X main.Version={version}");
    // Beside the tests of others.
    let mut build = Command::new("nice");
    build
        .args(["-n", "10", "go", "build", "-tags", TAGS, "-trimpath", "-ldflags", &flags, "-o"])
        .arg(&program)
        .arg(PATH);
    output(&mut build, &module)?;
    let found = output(Command::new("go").args(["list", "-m", "-f", "{{.Dir}}", PATH]), &module)?;
    let kept = directory.join("static");
    fs::create_dir(&kept)?;
    for part in STATIC {
        let from = PathBuf::from(found.trim()).join(part);
        output(Command::new("cp").args(["--recursive", "--no-preserve=mode"]).arg(&from).arg(&kept), &module)?;
    }
    Ok(())
}

fn output(command: &mut Command, directory: &Path) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.current_dir(directory).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().collect();
        bail!("{command:?}: {}:\n{}", output.status, lines[lines.len().saturating_sub(20)..].join("\n"));
    }
    Ok(String::from_utf8(output.stdout)?)
}
