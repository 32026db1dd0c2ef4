//! Files that hold a secret (a token, an App's private key, a webhook's secret): where they may lie, who may read them,
//! what they hold.

use std::{
    fmt,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use super::{Credential, CredentialKind, Http, Problem, Settings, Webhook};

/// Largest file, in bytes: the private key of a GitHub App takes about 1,700.
const LIMIT: u64 = 16 << 10;
/// Longest token, in bytes.
const TOKEN_LIMIT: usize = 4096;

/// A secret; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The secret itself, for what it opens and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A secret from elsewhere than a file: minted by the forge, or for tests.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What can be said of such a file by its path alone, even where it does not exist (a build machine).
pub fn check_path(key: &str, path: &Path) -> Option<Problem> {
    let shown = path.display();
    if path.starts_with("/nix/store") {
        return Some(Problem::new(
            key,
            format!("{shown} lies in the Nix store, which every user and every job can read"),
            "keep it outside the store, e.g. a file in /run/secrets made by sops-nix or agenix",
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

/// What a file must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// One line of printable characters without white space.
    Token,
    /// One line of text, of several words perhaps.
    Phrase,
    /// A private key in PEM.
    PrivateKey,
}

/// A file the controller needs, and the systemd credential that brings it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile<'a> {
    /// Key that names it, e.g. `credential.main.token_file`.
    pub key: String,
    /// Name of the systemd credential.
    pub credential: String,
    /// Where it is.
    pub path: &'a Path,
    /// What it holds.
    pub holds: Holds,
}

/// Name of the systemd credential of the webhook's secret.
pub const WEBHOOK_CREDENTIAL: &str = "webhook-secret";
/// Name of the systemd credential of the token that readers over HTTP must show.
pub const HTTP_CREDENTIAL: &str = "http-token";

/// Every file with a secret that the settings name.
pub fn secret_files(settings: &Settings) -> Vec<SecretFile<'_>> {
    let webhook = settings.webhook.as_ref().and_then(SecretFile::of_webhook);
    let http = SecretFile::of_http(&settings.http);
    let credentials = settings.credentials.values();
    let hooks = credentials.clone().filter_map(SecretFile::of_hook);
    credentials.map(SecretFile::of_credential).chain(hooks).chain(webhook).chain(http).collect()
}

impl<'a> SecretFile<'a> {
    /// The file of a forge credential.
    pub fn of_credential(credential: &'a Credential) -> Self {
        let (field, path, holds) = match &credential.kind {
            CredentialKind::Token { file } => ("token_file", file, Holds::Token),
            CredentialKind::App { private_key_file, .. } => ("private_key_file", private_key_file, Holds::PrivateKey),
        };
        let name = &credential.name;
        Self { key: format!("credential.{name}.{field}"), credential: format!("forge-{name}"), path, holds }
    }

    /// The file of the secret that GitHub signs deliveries with, if it sends any.
    pub fn of_webhook(webhook: &'a Webhook) -> Option<Self> {
        (!webhook.secret_file.as_os_str().is_empty()).then(|| Self {
            key: "webhook.secret_file".to_owned(),
            credential: WEBHOOK_CREDENTIAL.to_owned(),
            path: &webhook.secret_file,
            holds: Holds::Phrase,
        })
    }

    /// The file of the secret that another forge signs deliveries with, if it sends any.
    pub fn of_hook(credential: &'a Credential) -> Option<Self> {
        let name = &credential.name;
        Some(Self {
            key: format!("credential.{name}.webhook_secret_file"),
            credential: format!("{WEBHOOK_CREDENTIAL}-{name}"),
            path: credential.webhook_secret_file.as_deref()?,
            holds: Holds::Phrase,
        })
    }

    /// The file of the token that readers over HTTP must show, if they must.
    pub fn of_http(http: &'a Http) -> Option<Self> {
        Some(Self {
            key: "http.token_file".to_owned(),
            credential: HTTP_CREDENTIAL.to_owned(),
            path: http.token_file.as_deref()?,
            holds: Holds::Token,
        })
    }

    /// Reads it where the service finds it: in its credentials if it is there (`LoadCredential=` let root read the file
    /// for us), else the file itself.
    pub fn read_credential(&self) -> Result<Token, Problem> {
        read(&self.key, self.brought().as_deref().unwrap_or(self.path), self.holds)
    }

    /// systemd's copy for the service, if there is one.
    pub(crate) fn brought(&self) -> Option<PathBuf> {
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY")?;
        Some(Path::new(&directory).join(&self.credential)).filter(|path| path.exists())
    }

    /// Reads the file itself.
    pub fn read(&self) -> Result<Token, Problem> {
        read(&self.key, self.path, self.holds)
    }
}

/// Reads the secret, refusing a file that is missing, empty, readable by others, in the Nix store, or that holds something
/// else.
pub fn read(key: &str, path: &Path, holds: Holds) -> Result<Token, Problem> {
    if let Some(problem) = check_path(key, path) {
        return Err(problem);
    }
    let shown = path.display();
    let refused = |problem: String, remedy: String| Problem::new(key, problem, remedy);
    let unreadable = |error: std::io::Error| {
        refused(
            format!("{shown} cannot be read: {error}"),
            "create the file with the secret in it, readable by the controller alone (chmod 0400)".to_owned(),
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
        return Err(refused(format!("{shown} is not a regular file"), "name the file that holds the secret".into()));
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
    let secret = match holds {
        // Spaces at its ends are part of what somebody typed at the forge.
        Holds::Phrase => text.trim_end_matches(['\r', '\n']),
        Holds::Token | Holds::PrivateKey => text.trim(),
    };
    if secret.trim().is_empty() {
        return Err(refused(format!("{shown} is empty"), "write the secret into it".into()));
    }
    let too_long = text.len() as u64 > LIMIT;
    match holds {
        Holds::Token => {
            if too_long || secret.len() > TOKEN_LIMIT || !secret.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(refused(
                    format!("{shown} does not hold one token"),
                    "write the token alone, on one line of printable ASCII".into(),
                ));
            }
        }
        Holds::Phrase => {
            if too_long || secret.len() > TOKEN_LIMIT || secret.contains(char::is_control) {
                return Err(refused(
                    format!("{shown} does not hold one line of text"),
                    "write the secret alone, on one line, as it was given to the forge".into(),
                ));
            }
        }
        Holds::PrivateKey => {
            if too_long || !is_private_key(secret) {
                return Err(refused(
                    format!("{shown} does not hold one private key in PEM"),
                    "use the file the App's settings page gave, which begins with -----BEGIN RSA PRIVATE KEY-----"
                        .into(),
                ));
            }
        }
    }
    Ok(Token(secret.to_owned()))
}

/// One PEM block, of a kind that is a private RSA key and not encrypted.
fn is_private_key(text: &str) -> bool {
    ["RSA PRIVATE KEY", "PRIVATE KEY"].iter().any(|kind| {
        let inside = text
            .strip_prefix(&format!("-----BEGIN {kind}-----"))
            .and_then(|rest| rest.strip_suffix(&format!("-----END {kind}-----")));
        inside.is_some_and(|body| {
            let base64 =
                |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=') || b.is_ascii_whitespace();
            !body.trim().is_empty() && body.bytes().all(base64)
        })
    })
}
