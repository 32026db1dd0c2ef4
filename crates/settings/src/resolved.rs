//! The settings written out in full, in the file's own format, so that every process reads the same decisions.

use super::{
    Credential, CredentialKind, Root, Settings, Target, TargetKind,
    file::{
        ClassWritten, CredentialWritten, DockerWritten, Forks, GithubWritten, HttpWritten, IdsWritten, LimitsWritten,
        NetworkWritten, Register, Size, TargetWritten, TemplateWritten, WebhookWritten, Written,
    },
};

impl From<&Settings> for Written {
    fn from(settings: &Settings) -> Self {
        Self {
            token_file: None,
            max_concurrent: Some(settings.max_concurrent),
            poll_interval: Some(settings.poll_interval),
            idle_poll_interval: Some(settings.idle_poll_interval),
            job_timeout: Some(settings.job_timeout),
            idle_grace: Some(settings.idle_grace),
            boot_timeout: Some(settings.boot_timeout),
            registration_linger: Some(settings.registration_linger),
            history_keep: Some(settings.history_keep),
            operators: Some(settings.operators.clone()),
            runner_labels: None,
            state_dir: Some(settings.state_dir.clone()),
            host_name: settings.host_name.clone(),
            http: HttpWritten {
                address: Some(settings.http.address),
                port: Some(settings.http.port),
                token_file: settings.http.token_file.clone(),
            },
            network: NetworkWritten {
                pool: Some(settings.network.pool.to_string()),
                prefix: Some(settings.network.pool.prefix()),
                dns: Some(settings.network.dns.clone()),
                connections: Some(settings.network.connections as usize),
                deny: Some(settings.network.deny.clone()),
                shared: settings.network.shared.iter().map(|(name, shared)| (name.clone(), shared.into())).collect(),
            },
            limits: LimitsWritten::from(&settings.limits),
            ids: IdsWritten { first: Some(settings.ids.first) },
            github: GithubWritten { api_url: Some(settings.github.api_url.clone()) },
            webhook: settings.webhook.as_ref().map(|webhook| WebhookWritten {
                address: Some(webhook.address),
                port: Some(webhook.port),
                secret_file: Some(webhook.secret_file.clone()),
            }),
            credentials: settings
                .credentials
                .values()
                .map(|credential| (credential.name.clone(), CredentialWritten::from(credential)))
                .collect(),
            targets: settings.targets.iter().map(TargetWritten::from).collect(),
            classes: settings
                .classes
                .values()
                .map(|class| {
                    let written = ClassWritten {
                        labels: Some(class.labels.clone()),
                        template: Some(class.template.clone()),
                        cpus: class.cpus,
                        memory: class.memory.map(Size::Bytes),
                        tasks: class.tasks,
                        io_weight: class.io_weight,
                        gpu: Some(class.gpu),
                        disk: class.disk.map(Size::Bytes),
                        caches: class.caches.iter().map(|cache| (cache.name.clone(), cache.into())).collect(),
                        timeout: Some(class.timeout),
                        max_concurrent: Some(class.max_concurrent),
                        min_idle: Some(class.min_idle),
                        intake: Some(class.intake),
                        network: (&class.network).into(),
                        privileged: Some(class.privileged),
                        docker: class.docker.as_ref().map_or_else(DockerWritten::default, DockerWritten::from),
                    };
                    (class.name.clone(), written)
                })
                .collect(),
            templates: settings
                .templates
                .iter()
                .map(|(name, template)| {
                    let (path, system, runner_dir) = match template.root.clone() {
                        Root::Tree(path) => (Some(path), None, None),
                        Root::System { closure, runner_dir } => (None, Some(closure), runner_dir),
                    };
                    let written = TemplateWritten {
                        path,
                        system,
                        runner_dir,
                        nix_store: template.nix_store.clone(),
                        runner: Some(template.runner.clone()),
                        runner_version: template.runner_version.clone(),
                        user: Some(template.user.clone()),
                    };
                    (name.clone(), written)
                })
                .collect(),
        }
    }
}

impl From<&Credential> for CredentialWritten {
    fn from(credential: &Credential) -> Self {
        let common =
            Self { api_url: Some(credential.api_url.clone()), share: Some(credential.share), ..Self::default() };
        match &credential.kind {
            CredentialKind::Token { file } => Self { token_file: Some(file.clone()), ..common },
            CredentialKind::App { id, installation_id, private_key_file } => Self {
                app_id: Some(*id),
                installation_id: *installation_id,
                private_key_file: Some(private_key_file.clone()),
                ..common
            },
        }
    }
}

impl From<&Target> for TargetWritten {
    fn from(target: &Target) -> Self {
        let mut written = Self {
            credential: Some(target.credential.clone()),
            runner_group: target.runner_group.clone(),
            pushed_within: target.pushed_within,
            classes: Some(target.classes.clone()),
            priority: Some(target.priority),
            weight: Some(target.weight),
            max_concurrent: Some(target.max_concurrent),
            forks: Some(if target.allow_forks { Forks::Allow } else { Forks::Refuse }),
            ..Self::default()
        };
        let name = Some(target.name.clone());
        match target.kind {
            TargetKind::Repository => written.repo = name,
            TargetKind::Organisation => written.org = name,
            TargetKind::User => written.user = name,
            TargetKind::Enterprise => {
                written.enterprise = target.name.strip_prefix("enterprises/").map(str::to_owned);
            }
        }
        // What only makes sense where repositories are discovered is refused elsewhere.
        if matches!(target.kind, TargetKind::Organisation | TargetKind::User) {
            written.include = Some(target.include.clone());
            written.exclude = Some(target.exclude.clone());
            written.rediscover = Some(target.rediscover);
        }
        if target.kind == TargetKind::Organisation && target.register_per_repository {
            written.register = Some(Register::Repository);
        }
        written
    }
}
