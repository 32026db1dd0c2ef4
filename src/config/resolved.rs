//! The settings written out in full, in the file's own format, so that every process reads the same decisions.

use super::{
    Root, Settings,
    file::{
        ClassWritten, DockerWritten, GithubWritten, HttpWritten, IdsWritten, LimitsWritten, NetworkWritten, Size,
        TargetWritten, TemplateWritten, Written,
    },
};

impl From<&Settings> for Written {
    fn from(settings: &Settings) -> Self {
        Self {
            token_file: None,
            max_concurrent: Some(settings.max_concurrent),
            poll_interval: Some(settings.poll_interval),
            job_timeout: Some(settings.job_timeout),
            idle_grace: Some(settings.idle_grace),
            boot_timeout: Some(settings.boot_timeout),
            registration_linger: Some(settings.registration_linger),
            runner_labels: None,
            state_dir: Some(settings.state_dir.clone()),
            host_name: settings.host_name.clone(),
            http: HttpWritten { address: Some(settings.http.address), port: Some(settings.http.port) },
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
            targets: settings
                .targets
                .iter()
                .map(|target| TargetWritten { repo: target.repo.clone(), token_file: Some(target.token_file.clone()) })
                .collect(),
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
                        user: Some(template.user.clone()),
                    };
                    (name.clone(), written)
                })
                .collect(),
        }
    }
}
