//! The real forge, opened with the credentials the settings name.

use std::{collections::BTreeMap, rc::Rc};

use anyhow::Context;
use forge::{
    Forges, Https,
    gitea::Gitea,
    github::{App, Github, Rest, Session},
};
use settings::{CredentialKind, Problem, Problems, Settings, renewable::Renewable, token_file::SecretFile};

/// GitHub over HTTPS, with a token or as an App, and other forges with tokens.
pub type RealForge = Forges<Session<Https>, Https>;

/// Reads every credential and opens a client for all targets; asks nothing yet.
///
/// Credentials that cannot be read are told together, as [`Problems`].
pub fn open_forge(settings: &Settings) -> anyhow::Result<RealForge> {
    let mut problems = Vec::new();
    let mut secrets = BTreeMap::new();
    for (name, credential) in &settings.credentials {
        match Renewable::open(&SecretFile::of_credential(credential)) {
            Ok(secret) => {
                secrets.insert(name.as_str(), Rc::new(secret));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems).into());
    }
    let https = Https::new(settings.proxy.as_ref())?;
    let mut others = BTreeMap::new();
    for (name, credential) in &settings.credentials {
        let wire = match &credential.ca_file {
            None => https.clone(),
            Some(file) => Https::trusting(Some(file), settings.proxy.as_ref()).map_err(|error| {
                Problems::from(Problem::new(
                    format!("credential.{name}.ca_file"),
                    format!("{error:#}"),
                    "name a file with the authority's certificate in PEM that the controller may read",
                ))
            })?,
        };
        let secret = secrets.get(name.as_str()).context("a credential that was not read")?.clone();
        others.extend(Gitea::open(settings, name, wire, secret).map(|forge| (name.clone(), forge)));
    }
    let github = Github::open(settings, |login| {
        let credential = &login.credential;
        let rest = Rest::new(https.clone(), &credential.api_url);
        let secret = secrets.get(credential.name.as_str()).context("a credential that was not read")?.clone();
        Ok::<_, anyhow::Error>(match (&credential.kind, &login.installation) {
            (CredentialKind::App { id, .. }, Some(installation)) => {
                let app = App::new(*id, &secret.secret()).map_err(|error| {
                    Problems::from(Problem::new(
                        format!("credential.{}.private_key_file", credential.name),
                        format!("the key cannot be used: {error}"),
                        "generate a new private key on the App's settings page",
                    ))
                })?;
                Session::with_app_key(rest, app, installation.clone(), secret)
            }
            _ => Session::with_token(rest, secret),
        })
    })?;
    Ok(Forges::new(Rc::new(github), others))
}
