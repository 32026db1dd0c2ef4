//! The file a forge token is read from: where it may lie, who may read it, what it holds.

use std::{
    fmt,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Component, Path},
};

use super::{Problem, Settings};

/// Largest token file, in bytes.
const LIMIT: u64 = 4096;

/// A token; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token itself, for an `Authorization` header and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A token from elsewhere than a file, for tests.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What can be said of a token file by its path alone, even where it does not exist (a build machine).
pub fn check_path(key: &str, path: &Path) -> Option<Problem> {
    let shown = path.display();
    if path.starts_with("/nix/store") {
        return Some(Problem::new(
            key,
            format!("{shown} lies in the Nix store, which every user and every job can read"),
            "keep the token outside the store, e.g. a file in /run/secrets made by sops-nix or agenix",
        ));
    }
    let plain = path.is_absolute()
        && !path.components().any(|part| part == Component::ParentDir)
        && path.to_str().is_some_and(|text| !text.contains(|c: char| c.is_control() || ":%\\".contains(c)));
    (!plain).then(|| {
        Problem::new(
            key,
            format!("{shown} is not an absolute path"),
            "write a path that starts with / and has no .., colon, % or backslash",
        )
    })
}

/// Name of the systemd credential that holds the token of the target at `index`; targets with the same file share one.
pub fn credential_name(settings: &Settings, index: usize) -> String {
    let file = settings.targets.get(index).map(|target| &target.token_file);
    let first = settings.targets.iter().position(|target| Some(&target.token_file) == file).unwrap_or(index);
    format!("token-{first}")
}

/// The token of the target at `index`: from the service's credential if there is one (`LoadCredential=` let root read
/// the file for us), else from the file itself.
pub fn read_credential(settings: &Settings, index: usize) -> Result<Token, Problem> {
    let key = format!("target[{index}].token_file");
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
        .map(|dir| Path::new(&dir).join(credential_name(settings, index)))
        .filter(|path| path.exists());
    match (credential, settings.targets.get(index)) {
        (Some(path), _) => read(&key, &path),
        (None, Some(target)) => read(&key, &target.token_file),
        (None, None) => Err(Problem::new(key, "there is no such target", "name a target that exists")),
    }
}

/// Reads the token, refusing a file that is missing, empty, readable by others or in the Nix store.
pub fn read(key: &str, path: &Path) -> Result<Token, Problem> {
    if let Some(problem) = check_path(key, path) {
        return Err(problem);
    }
    let shown = path.display();
    let refused = |problem: String, remedy: String| Problem::new(key, problem, remedy);
    let unreadable = |error: std::io::Error| {
        refused(
            format!("{shown} cannot be read: {error}"),
            "create the file with the token in it, readable by the controller alone (chmod 0400)".to_owned(),
        )
    };
    // A link into the store is the store.
    let real = path.canonicalize().map_err(unreadable)?;
    if let Some(problem) = check_path(key, &real) {
        return Err(problem);
    }
    let file = std::fs::File::open(&real).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refused(format!("{shown} is not a regular file"), "name the file that holds the token".into()));
    }
    let mode = metadata.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(refused(
            format!("{shown} is open to every user (mode {:04o})", mode & 0o7777),
            format!("chmod 0400 {shown}"),
        ));
    }
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim();
    let good = !token.is_empty() && text.len() as u64 <= LIMIT && token.bytes().all(|b| b.is_ascii_graphic());
    if token.is_empty() {
        return Err(refused(format!("{shown} is empty"), "write the token into it, on one line".into()));
    }
    if !good {
        return Err(refused(
            format!("{shown} does not hold one token"),
            "write the token alone, on one line of printable ASCII".into(),
        ));
    }
    Ok(Token(token.to_owned()))
}
