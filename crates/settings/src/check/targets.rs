//! Targets: what is served, with which credential, by which classes, for how much of the host.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        Class, CredentialKind, ForgeKind, Intake, Target, TargetKind,
        file::{Forks, Register, SettingsWritten, TargetWritten},
    },
    Checker,
    credentials::Credentials,
    names,
};

/// Takes the targets, and with them the credentials their token files stand for.
pub(super) fn targets(
    found: &mut Checker,
    written: &SettingsWritten,
    credentials: &mut Credentials,
    classes: &BTreeMap<String, Class>,
) -> Vec<Target> {
    found.unless(
        !written.targets.is_empty(),
        "target",
        "no repository is named",
        "set GITHUB_REPO=owner/repository, or write [[target]] with repo, org, user, enterprise or instance",
    );
    let mut seen = BTreeSet::new();
    let mut targets = Vec::new();
    for (i, target) in written.targets.iter().enumerate() {
        let whole = format!("target[{i}]");
        let key = |field: &str| format!("{whole}.{field}");
        // First, so that a credential is not called unused because the target that uses it is wrong.
        let credential = credential(found, &whole, target, written, credentials);
        let Some((kind, name)) = what(found, &whole, target) else { continue };
        let forge = credential.as_deref().and_then(|name| credentials.get(name)).map(|known| known.forge);
        let forge = forge.unwrap_or_default();
        // Two forges may both have a repository of that name.
        let name = match (forge, &credential) {
            (ForgeKind::Gitea | ForgeKind::Forgejo, Some(credential)) => format!("{credential}:{name}"),
            _ => name,
        };
        found.unless(
            seen.insert(name.to_ascii_lowercase()),
            &whole,
            format!("{name} is named twice"),
            "name each repository, organisation, account and enterprise once",
        );
        let Some(credential) = credential else { continue };
        let is_app = |name: &str| {
            credentials.get(name).is_some_and(|credential| matches!(credential.kind, CredentialKind::App { .. }))
        };
        found.unless(
            kind != TargetKind::Enterprise || !is_app(&credential),
            key("credential"),
            format!("{credential} is a GitHub App, which cannot register an enterprise's runners"),
            "name a credential with a classic token that has manage_runners:enterprise",
        );
        let is_there = match forge {
            ForgeKind::Github => kind != TargetKind::Instance,
            ForgeKind::Gitea | ForgeKind::Forgejo => kind != TargetKind::Enterprise,
        };
        found.unless(
            is_there,
            &whole,
            format!("{} has no {}", forge.name(), if kind == TargetKind::Instance { "instance" } else { "enterprise" }),
            "write repo, org or user; instance at Gitea and Forgejo, enterprise at GitHub",
        );
        let mut target = Target {
            name,
            kind,
            forge,
            credential,
            register_per_repository: register(found, &key("register"), (kind, forge), target.register),
            runner_group: target.runner_group.clone(),
            include: target.include.clone(),
            exclude: target.exclude.clone(),
            pushed_within: target.pushed_within,
            rediscover: target.rediscover,
            classes: target.classes.clone(),
            priority: target.priority,
            weight: target.weight,
            max_concurrent: target.max_concurrent.unwrap_or(written.max_concurrent),
            allow_forks: target.forks == Forks::Allow,
        };
        discovery(found, &whole, &target);
        runner_group(found, &key("runner_group"), &target);
        serving(found, &key("classes"), &mut target, classes);
        targets.push(target);
    }
    targets
}

/// What the target is, and its name.
fn what(found: &mut Checker, whole: &str, target: &TargetWritten) -> Option<(TargetKind, String)> {
    let written = [
        ("repo", TargetKind::Repository, &target.repo),
        ("org", TargetKind::Organisation, &target.org),
        ("user", TargetKind::User, &target.user),
        ("enterprise", TargetKind::Enterprise, &target.enterprise),
    ];
    let instance = target.instance.then(|| ("instance", TargetKind::Instance, "*".to_owned()));
    let mut written = written
        .into_iter()
        .filter_map(|(field, kind, name)| name.as_ref().map(|name| (field, kind, name.clone())))
        .chain(instance);
    let remedy = "write exactly one of repo, org, user, enterprise and instance";
    let Some((field, kind, name)) = written.next() else {
        found.push(whole, "names nothing to serve", remedy);
        return None;
    };
    if let Some((other, ..)) = written.next() {
        found.push(whole, format!("names {field} and {other}"), remedy);
        return None;
    }
    let key = format!("{whole}.{field}");
    if kind == TargetKind::Instance {
        return Some((kind, name));
    }
    if kind == TargetKind::Repository {
        found.unless(
            is_repo(&name),
            key,
            format!("{name:?} is not owner/repository"),
            "write it as in the repository's address, e.g. octo-org/hello",
        );
    } else {
        found.unless(
            is_part(&name),
            key,
            format!("invalid name {name:?}"),
            "write it as in its address at the forge, e.g. octo-org, without slash",
        );
    }
    let name = match kind {
        TargetKind::Enterprise => format!("enterprises/{name}"),
        _ => name,
    };
    Some((kind, name))
}

/// The credential it names, or the one its token file stands for, or the only one there is.
fn credential(
    found: &mut Checker,
    whole: &str,
    target: &TargetWritten,
    written: &SettingsWritten,
    credentials: &mut Credentials,
) -> Option<String> {
    let file = |found: &mut Checker, path, credentials: &mut Credentials| {
        Some(credentials.of_file(found, &format!("{whole}.token_file"), path))
    };
    match (&target.credential, &target.token_file, &written.token_file) {
        (Some(name), None, _) => Some(credentials.named(found, &format!("{whole}.credential"), name)),
        (Some(name), Some(_), _) => {
            credentials.named(found, &format!("{whole}.credential"), name);
            found.push(
                format!("{whole}.token_file"),
                format!("there is the credential {name:?} as well"),
                "name one credential or one token file",
            );
            None
        }
        (None, Some(path), _) | (None, None, Some(path)) => file(found, path, credentials),
        (None, None, None) => {
            let only = credentials.only();
            if only.is_none() {
                found.push(
                    format!("{whole}.token_file"),
                    "no token file and no credential",
                    "set GITHUB_TOKEN_FILE, or token_file at the top or in the target, to a file holding the token, \
                     or name a credential",
                );
            }
            only
        }
    }
}

fn register(found: &mut Checker, key: &str, (kind, forge): (TargetKind, ForgeKind), written: Option<Register>) -> bool {
    match (kind, written) {
        // GitHub registers no runners with an account.
        (TargetKind::User, None) => forge == ForgeKind::Github,
        (TargetKind::User, Some(Register::Repository)) if forge != ForgeKind::Github => true,
        (_, None) | (TargetKind::Organisation, Some(Register::Organisation)) => false,
        (TargetKind::Organisation, Some(Register::Repository)) => true,
        _ => {
            found.push(key, "only an organisation's runners can be registered in one or the other way", "leave it out");
            false
        }
    }
}

/// Filters, which need repositories that are discovered.
fn discovery(found: &mut Checker, whole: &str, target: &Target) {
    let discovers = matches!(target.kind, TargetKind::Organisation | TargetKind::User | TargetKind::Instance);
    for (field, patterns) in [("include", &target.include), ("exclude", &target.exclude)] {
        let key = format!("{whole}.{field}");
        for pattern in patterns {
            found.unless(
                is_pattern(pattern),
                &key,
                format!("invalid pattern of repository names {pattern:?}"),
                "write a repository's name without its owner; * stands for any characters, ? for one",
            );
        }
    }
    for (field, written) in [
        ("include", !target.include.is_empty()),
        ("exclude", !target.exclude.is_empty()),
        ("pushed_within", target.pushed_within.is_some()),
        ("rediscover", target.rediscover != TargetWritten::default().rediscover),
    ] {
        found.unless(
            discovers || !written,
            format!("{whole}.{field}"),
            format!("{} has no repositories to discover", target.name),
            "leave it out; it is for org and user",
        );
    }
}

fn runner_group(found: &mut Checker, key: &str, target: &Target) {
    let Some(group) = &target.runner_group else { return };
    found.unless(
        target.forge == ForgeKind::Github,
        key,
        format!("{} has no runner groups", target.forge.name()),
        "leave it out",
    );
    found.unless(
        !target.registers_with_repositories(),
        key,
        format!("runners of {} are registered with repositories, which have no groups", target.name),
        "leave it out; it is for org without register = \"repository\", and for enterprise",
    );
    found.unless(
        (1..=100).contains(&group.chars().count()) && group.trim() == group && !group.contains(char::is_control),
        key,
        format!("invalid runner group name {group:?}"),
        "write the group's name as the forge shows it",
    );
}

/// The classes it is served by exist and can serve it; where it names none, those whose runner is for its forge.
fn serving(found: &mut Checker, key: &str, target: &mut Target, classes: &BTreeMap<String, Class>) {
    let forge = target.forge;
    if target.classes.is_empty() && classes.values().any(|class| class.forge != forge) {
        let fitting = classes.values().filter(|class| class.forge == forge);
        target.classes = fitting.map(|class| class.name.clone()).collect();
        found.unless(
            !target.classes.is_empty(),
            key,
            format!("no class has a runner for {}, where {} is", forge.name(), target.name),
            format!("write kind = \"{}\" in the template of a class, and put such a runner into it", forge.word()),
        );
        return;
    }
    for class in target.classes.iter().filter_map(|name| classes.get(name)).filter(|class| class.forge != forge) {
        found.push(
            key,
            format!(
                "the runner of class {} is for {}, and {} is at {}",
                class.name,
                class.forge.name(),
                target.name,
                forge.name()
            ),
            format!("name classes whose template has kind = \"{}\"", forge.word()),
        );
    }
    let mut seen = BTreeSet::new();
    for name in &target.classes {
        found.unless(
            classes.contains_key(name),
            key,
            format!("there is no class {name:?}"),
            format!("define [class.{name}], or name one of: {}", names(classes)),
        );
        found.unless(seen.insert(name), key, format!("{name:?} is named twice"), "name each class once");
    }
    if target.kind != TargetKind::Enterprise {
        return;
    }
    for class in classes.values() {
        found.unless(
            !target.has_class(&class.name) || class.intake != Intake::Polling,
            key,
            format!("an enterprise cannot be polled, and class {} only polls", class.name),
            "give the class intake = \"scale-set\" or \"auto\", or name other classes",
        );
    }
}

fn is_repo(repo: &str) -> bool {
    // `enterprises` is no account, and enterprises/NAME is how an enterprise is called.
    repo.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name) && owner != "enterprises")
}

fn is_part(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_pattern(pattern: &str) -> bool {
    (1..=100).contains(&pattern.len())
        && pattern.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'*' | b'?'))
}
