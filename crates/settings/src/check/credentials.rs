//! Credentials: the written ones, and those that a target's `token_file` stands for.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    super::{
        Credential, CredentialKind, ForgeKind,
        file::CredentialWritten,
        token_file::{self, SecretFile},
    },
    Checker, names,
};

/// The credentials there are, and which of them a target uses.
pub(super) struct Credentials {
    all: BTreeMap<String, Credential>,
    used: BTreeSet<String>,
    /// API root of a credential that names none.
    api_url: String,
}

/// Takes the written ones.
pub(super) fn written(
    found: &mut Checker,
    credentials: &BTreeMap<String, CredentialWritten>,
    api_url: &str,
) -> Credentials {
    let all = credentials
        .iter()
        .map(|(name, written)| {
            let key = |field: &str| format!("credential.{name}.{field}");
            found.name(&format!("credential.{name}"), name);
            let github = written.kind == ForgeKind::Github;
            let credential = Credential {
                name: name.clone(),
                kind: kind(found, name, written),
                forge: written.kind,
                api_url: match (&written.api_url, github) {
                    (Some(url), true) => found.api_url(&key("api_url"), url),
                    (None, true) => api_url.to_owned(),
                    (_, false) => root(found, &key("url"), written),
                },
                ca_file: written.ca_file.clone().inspect(|file| found.absolute(&key("ca_file"), file)),
                webhook_secret_file: written.webhook_secret_file.clone(),
                share: written.share,
            };
            if let Some(hook) = SecretFile::of_hook(&credential) {
                found.problems.extend(token_file::check_path(&hook.key, hook.path));
            }
            for (field, is_written) in [
                ("url", written.url.is_some()),
                ("ca_file", written.ca_file.is_some()),
                ("webhook_secret_file", written.webhook_secret_file.is_some()),
            ] {
                let remedy = "leave it out, or write kind = \"gitea\" or kind = \"forgejo\"";
                found.unless(!github || !is_written, key(field), "is of no use at GitHub", remedy);
            }
            (name.clone(), credential)
        })
        .collect();
    Credentials { all, used: BTreeSet::new(), api_url: api_url.to_owned() }
}

/// Where a forge is that is not GitHub.
fn root(found: &mut Checker, key: &str, written: &CredentialWritten) -> String {
    let name = written.kind.name();
    let remedy = format!("write where the {name} is, e.g. https://git.example.org");
    let url = written.url.as_deref().unwrap_or_default();
    found.root(key, url, &format!("a {name}"), &remedy)
}

fn kind(found: &mut Checker, name: &str, written: &CredentialWritten) -> CredentialKind {
    let whole = format!("credential.{name}");
    let key = |field: &str| format!("{whole}.{field}");
    let app = written.app_id.is_some() || written.installation_id.is_some() || written.private_key_file.is_some();
    if written.kind != ForgeKind::Github {
        let forge = written.kind.name();
        found.unless(!app, &whole, format!("{forge} has no Apps"), "write url and token_file alone");
        let remedy = "replace it by url, the root of the forge";
        found.unless(written.api_url.is_none(), key("api_url"), "is GitHub's", remedy);
        let file = written.token_file.clone().unwrap_or_default();
        if written.token_file.is_none() {
            found.push(key("token_file"), format!("{forge} is opened by a token"), "name the file it is in");
        } else {
            found.problems.extend(token_file::check_path(&key("token_file"), &file));
        }
        return CredentialKind::Token { file };
    }
    if let Some(file) = &written.token_file {
        found.unless(
            !app,
            &whole,
            "is a token and a GitHub App at once",
            "keep token_file, or app_id and private_key_file; write a second credential for the other",
        );
        found.problems.extend(token_file::check_path(&key("token_file"), file));
        return CredentialKind::Token { file: file.clone() };
    }
    if !app {
        found.push(&whole, "is neither a token nor a GitHub App", "write token_file, or app_id and private_key_file");
    } else {
        found.unless(
            written.app_id.is_some_and(|id| id > 0),
            key("app_id"),
            "the App has no id",
            "write the number that the App's settings page calls App ID",
        );
        found.unless(
            written.installation_id != Some(0),
            key("installation_id"),
            "invalid installation 0",
            "write the number at the end of the installation's address, or leave it out to have it looked up",
        );
        match &written.private_key_file {
            Some(file) => found.problems.extend(token_file::check_path(&key("private_key_file"), file)),
            None => found.push(
                key("private_key_file"),
                "the App has no private key",
                "generate one on the App's settings page and name the file it is in",
            ),
        }
    }
    CredentialKind::App {
        id: written.app_id.unwrap_or_default(),
        installation_id: written.installation_id,
        private_key_file: written.private_key_file.clone().unwrap_or_default(),
    }
}

impl Credentials {
    /// Marks the one called `name` as used.
    pub fn named(&mut self, found: &mut Checker, key: &str, name: &str) -> String {
        found.unless(
            self.all.contains_key(name),
            key,
            format!("there is no credential {name:?}"),
            match self.all.is_empty() {
                true => format!("define [credential.{name}]"),
                false => format!("define [credential.{name}], or name one of: {}", names(&self.all)),
            },
        );
        self.used.insert(name.to_owned());
        name.to_owned()
    }

    /// The one that stands for this token file; the same for every target that names the file.
    pub fn of_file(&mut self, found: &mut Checker, key: &str, file: &Path) -> String {
        let kind = CredentialKind::Token { file: file.to_owned() };
        let same = |known: &&Credential| {
            known.kind == kind && known.api_url == self.api_url && known.forge == ForgeKind::Github
        };
        if let Some(known) = self.all.values().find(same) {
            self.used.insert(known.name.clone());
            return known.name.clone();
        }
        found.problems.extend(token_file::check_path(key, file));
        // One more number than there are names: one of them is free.
        let name = (1..=self.all.len() + 1).map(|number| format!("token-{number}"));
        let name = name.into_iter().find(|name| !self.all.contains_key(name)).unwrap_or_default();
        let share = CredentialWritten::default().share;
        let credential = Credential {
            name: name.clone(),
            kind,
            forge: ForgeKind::Github,
            api_url: self.api_url.clone(),
            ca_file: None,
            webhook_secret_file: None,
            share,
        };
        self.all.insert(name.clone(), credential);
        self.used.insert(name.clone());
        name
    }

    /// The only one there is.
    pub fn only(&mut self) -> Option<String> {
        let name = self.all.keys().next().filter(|_| self.all.len() == 1)?.clone();
        self.used.insert(name.clone());
        Some(name)
    }

    /// The one called `name`.
    pub fn get(&self, name: &str) -> Option<&Credential> {
        self.all.get(name)
    }

    /// All of them; each must be used.
    pub fn in_use(self, found: &mut Checker) -> BTreeMap<String, Credential> {
        for name in self.all.keys().filter(|name| !self.used.contains(*name)) {
            found.push(
                format!("credential.{name}"),
                "no target uses it",
                format!("write credential = \"{name}\" in a target, or remove it"),
            );
        }
        self.all
    }
}
