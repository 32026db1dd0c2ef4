//! Which login serves a name. A login is a credential, and for a GitHub App without a fixed installation one of its
//! installations: each has tokens and a rate limit of its own.

use settings::{Credential, CredentialKind, ForgeKind, Settings, Target, TargetKind};

use super::app::Installation;

/// A way in.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// With this.
    pub credential: Credential,
    /// Of a GitHub App: where it is installed.
    pub installation: Option<Installation>,
}

/// The targets and what opens them.
#[derive(Debug)]
pub(super) struct Routes {
    targets: Vec<(Target, usize)>,
}

impl Routes {
    /// The logins that the settings need, and which target uses which.
    pub fn plan(settings: &Settings) -> (Vec<Login>, Self) {
        // Owner beside each login whose installation is looked up.
        let mut logins: Vec<(Login, Option<String>)> = Vec::new();
        let mut targets = Vec::new();
        // An account's own installation is more likely to be there than that of one of its repositories.
        let mut order: Vec<&Target> = settings.targets.iter().collect();
        order.retain(|target| target.forge == ForgeKind::Github);
        order.sort_by_key(|target| target.kind == TargetKind::Repository);
        for target in order {
            let Some(credential) = settings.credentials.get(&target.credential) else { continue };
            let lookup = match &credential.kind {
                CredentialKind::App { installation_id: None, .. } => Some(lookup(target)),
                _ => None,
            };
            let owner = lookup.as_ref().map(|_| owner(&target.name).to_ascii_lowercase());
            let known = logins.iter().position(|(login, of)| login.credential.name == credential.name && *of == owner);
            let at = known.unwrap_or(logins.len());
            match (known.and_then(|at| logins.get_mut(at)), lookup) {
                (Some((Login { installation: Some(Installation::Lookup(paths)), .. }, _)), Some(path)) => {
                    paths.push(path);
                }
                (Some(_), _) => {}
                (None, lookup) => {
                    let installation = match (&credential.kind, lookup) {
                        (_, Some(path)) => Some(Installation::Lookup(vec![path])),
                        (CredentialKind::App { installation_id: Some(id), .. }, None) => Some(Installation::Id(*id)),
                        _ => None,
                    };
                    logins.push((Login { credential: credential.clone(), installation }, owner));
                }
            }
            targets.push((target.clone(), at));
        }
        (logins.into_iter().map(|(login, _)| login).collect(), Self { targets })
    }

    /// The target that `name` (a target, a scope or a repository) belongs to, and its login: the target of that name,
    /// else that of its owner, else an enterprise, whose repositories have other owners.
    pub fn find(&self, name: &str) -> Option<(&Target, usize)> {
        let named = |wanted: &str| self.targets.iter().find(|(target, _)| target.name.eq_ignore_ascii_case(wanted));
        let enterprise = || self.targets.iter().find(|(target, _)| target.kind == TargetKind::Enterprise);
        let found = named(name).or_else(|| named(owner(name))).or_else(enterprise)?;
        Some((&found.0, found.1))
    }
}

fn owner(name: &str) -> &str {
    name.split_once('/').map_or(name, |(owner, _)| owner)
}

fn lookup(target: &Target) -> String {
    let name = &target.name;
    match target.kind {
        TargetKind::Repository => format!("/repos/{name}/installation"),
        TargetKind::Organisation => format!("/orgs/{name}/installation"),
        TargetKind::User => format!("/users/{name}/installation"),
        // Refused by the configuration: an App cannot serve one.
        TargetKind::Enterprise | TargetKind::Instance => format!("/{name}/installation"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use settings::check::check;

    fn settings(text: &str) -> Settings {
        check(toml::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn the_target_of_that_name_comes_before_its_owners_and_an_enterprise_last() {
        let settings = settings(
            "token_file = \"/t\"\n[[target]]\nenterprise = \"octo\"\n[[target]]\norg = \"acme\"\n[[target]]\n\
             repo = \"Acme/Web\"\n[[target]]\nuser = \"octocat\"\n[class.default]\nintake = \"auto\"\n",
        );
        let (_, routes) = Routes::plan(&settings);
        for (name, target) in [
            ("acme/web", "Acme/Web"),
            ("acme/api", "acme"),
            ("ACME", "acme"),
            ("octocat/hello", "octocat"),
            ("enterprises/octo", "enterprises/octo"),
            ("elsewhere/x", "enterprises/octo"),
        ] {
            assert_eq!(routes.find(name).unwrap().0.name, target, "{name}");
        }
    }

    #[test]
    fn nobody_serves_what_no_target_covers() {
        let (_, routes) = Routes::plan(&settings("token_file = \"/t\"\n[[target]]\nrepo = \"acme/web\"\n"));
        assert!(routes.find("acme/api").is_none() && routes.find("acme").is_none());
    }

    #[test]
    fn an_app_without_an_installation_has_a_login_for_each_owner() {
        let settings = settings(
            "[credential.app]\napp_id = 1\nprivate_key_file = \"/k\"\n\
             [credential.fixed]\napp_id = 1\ninstallation_id = 9\nprivate_key_file = \"/k\"\n\
             [[target]]\nrepo = \"acme/web\"\ncredential = \"app\"\n[[target]]\norg = \"acme\"\ncredential = \"app\"\n\
             [[target]]\nuser = \"octocat\"\ncredential = \"app\"\n\
             [[target]]\norg = \"a\"\ncredential = \"fixed\"\n[[target]]\norg = \"b\"\ncredential = \"fixed\"\n",
        );
        let (logins, routes) = Routes::plan(&settings);
        let installations: Vec<Installation> = logins.into_iter().filter_map(|login| login.installation).collect();
        let of = |paths: &[&str]| Installation::Lookup(paths.iter().map(|path| (*path).to_owned()).collect());
        assert_eq!(
            installations,
            [
                of(&["/orgs/acme/installation", "/repos/acme/web/installation"]),
                of(&["/users/octocat/installation"]),
                Installation::Id(9),
            ]
        );
        assert_eq!(routes.find("acme/web").unwrap().1, routes.find("acme").unwrap().1);
        assert_eq!(routes.find("a").unwrap().1, routes.find("b").unwrap().1);
    }
}
