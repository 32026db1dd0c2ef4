//! The container itself: one systemd-nspawn command line, and becoming it.

use std::{env, ffi::OsString, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::Context;
use contract::{
    ContainerName,
    guest_settings::{EVENTS_MOUNT, GRANT_CREDENTIAL, PROGRAM as GUEST, SETTINGS_CREDENTIAL},
};
use settings::{IDS, Root};

use super::{
    ContainerPlan, Paths, caches, devices, docker, graphics, link, machine_id, privileges, record,
    record::RecordDirectory, service_manager,
};

/// The program, searched in `$PATH`.
const PROGRAM: &str = "systemd-nspawn";

/// Variables systemd-nspawn needs from the service manager, and one by which an operator's drop-in can leave the filter of
/// system calls out (the benchmark does); every other one is dropped.
const KEPT_ENVIRONMENT: [&str; 6] =
    ["PATH", "NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "SYSTEMD_SECCOMP"];
/// And those whose name begins so: switches of systemd-nspawn itself, set by the unit.
const KEPT_PREFIX: &str = "SYSTEMD_NSPAWN_";

/// Most files a program in a container may have open if it asks for so many: what the kernel lets anybody have
/// (`fs.nr_open`). Docker grants a service what it has itself, and those of databases and search engines ask for much.
pub const MOST_FILES: u64 = 1_048_576;
/// What it has unless it asks, as on any machine.
pub const USUAL_FILES: u64 = 1024;
/// Likewise for memory that is never swapped out, in bytes, which the container's limit of memory bounds.
pub const USUAL_LOCKED: u64 = 8 << 20;

/// What sockets in a container may be of: what nspawn allowed before it had an opinion, less what the unit refuses.
const FAMILIES: &str = "--restrict-address-families=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET";
/// The first systemd whose nspawn has that option. It announces that it will allow fewer families by default.
const HAS_FAMILIES: u32 = 261;

/// The program and its arguments. Everything in it may be read by every user of the host. `systemd` is the host's
/// version, 0 if unknown.
pub fn command_line(plan: &ContainerPlan, paths: &Paths, uuid: u128, systemd: u32) -> Vec<OsString> {
    let record = RecordDirectory::at(paths.record(&plan.name));
    let option = |name: &str, value: &Path| {
        let mut option = OsString::from(format!("--{name}="));
        option.push(value);
        option
    };
    let credential = |name: &str, file: &Path| {
        let mut option = OsString::from(format!("--load-credential={name}:"));
        option.push(file);
        option
    };
    let mut events = option("bind", &paths.event(&plan.name));
    events.push(format!(":{EVENTS_MOUNT}"));
    let mut line: Vec<OsString> = vec![PROGRAM.into()];
    line.push(option("directory", &paths.root(&plan.name)));
    line.push(format!("--machine={}", plan.name).into());
    line.push(format!("--uuid={uuid:032x}").into());
    line.push(match plan.privileged {
        true => "--private-users=no".into(),
        false => format!("--private-users={}:{IDS}", plan.uid_base).into(),
    });
    line.push(format!("--network-interface={}", link::guest_end(&plan.name)).into());
    line.extend(privileges::options(plan.docker.is_some(), plan.privileged));
    line.extend((systemd >= HAS_FAMILIES).then(|| FAMILIES.into()));
    line.push(format!("--rlimit=NOFILE={USUAL_FILES}:{MOST_FILES}").into());
    line.push(format!("--rlimit=MEMLOCK={USUAL_LOCKED}:infinity").into());
    let layers = paths.layers(&plan.name);
    let docker = plan.docker.iter().flat_map(|_| docker::binds(&layers));
    let devices = devices::binds(&layers, plan);
    line.extend(docker.chain(caches::binds(&layers, &plan.caches)).chain(devices).map(|(source, inside)| {
        let mut bind = option("bind", &source);
        bind.push(":");
        bind.push(inside);
        bind
    }));
    if let Some(gpu) = &plan.graphics {
        let (devices, files) = graphics::binds(&layers, gpu);
        for (name, seen) in [("bind", devices), ("bind-ro", files)] {
            line.extend(seen.into_iter().map(|one| {
                let mut bind = option(name, &one.source);
                bind.push(":");
                bind.push(one.inside);
                bind
            }));
        }
    }
    if let Root::Tree(_) = plan.root {
        let mut guest = option("bind-ro", &paths.guest);
        guest.push(format!(":{GUEST}"));
        line.push(guest);
    }
    line.push(events);
    line.push(credential(GRANT_CREDENTIAL, &record.grant_file()));
    line.push(credential(SETTINGS_CREDENTIAL, &record.guest_file()));
    line.extend(
        [
            "--quiet",
            // The unit is the container's, with its limits and its end.
            "--keep-unit",
            // The ids of the root file system are in order already.
            "--private-users-ownership=off",
            // Nothing on the host but this line decides how a container runs, and nothing of the host shows inside.
            "--settings=no",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            // The unit is active once the container's init runs. A job may end before its container is up, which
            // would make a unit that waits for it fail with Result=protocol; the guest tells the rest.
            "--notify-ready=no",
            // A core holds what the job holds, secrets too, and the host's handler would keep it. 1 and not 0: to a handler
            // that is a program, the kernel passes any other limit on (core(5), do_coredump()).
            "--rlimit=CORE=1:1",
            // What the guest prints reaches the journal; nothing can be typed.
            "--console=read-only",
        ]
        .map(OsString::from),
    );
    match &plan.root {
        Root::Tree(_) => line.extend(["--boot", "--"].map(OsString::from)),
        // Its init is a script that fills the empty root and then becomes systemd, which is stopped as any systemd is.
        Root::System { closure, .. } => {
            line.extend(["--kill-signal=SIGRTMIN+3", "--"].map(OsString::from));
            line.push(closure.join("init").into());
        }
    }
    // For the container's systemd: no line for every unit it starts.
    line.push("--show-status=no".into());
    // And the environment of every unit it starts, Docker's daemon and Nix's among them (systemd(1), "Kernel command line").
    let variables = plan.proxy.iter().flat_map(|proxy| proxy.variables());
    line.extend(variables.map(|(name, value)| format!("systemd.setenv={name}={value}").into()));
    line
}

/// Replaces this process by the container's. Returns only if that fails.
pub fn run(paths: &Paths, name: &ContainerName) -> anyhow::Error {
    let record = RecordDirectory::at(paths.record(name));
    let error = match become_container(paths, &record) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    record.put_error(&format!("run: {error:#}"));
    error
}

fn become_container(paths: &Paths, record: &RecordDirectory) -> anyhow::Result<std::convert::Infallible> {
    let plan = record.plan()?;
    let uuid = machine_id::random().context("cannot make a random machine id")?;
    let systemd = service_manager::ask_once(async |manager| manager.version().await)
        .inspect_err(|error| eprintln!("run: the version of systemd is unknown: {error:#}"));
    let line = command_line(&plan, paths, uuid, systemd.ok().flatten().unwrap_or_default());
    record.put_step(record::RUN)?;
    let kept = |key: &str| KEPT_ENVIRONMENT.contains(&key) || key.starts_with(KEPT_PREFIX);
    let environment = env::vars_os().filter(|(key, _)| key.to_str().is_some_and(kept));
    let error = Command::new(&line[0]).args(&line[1..]).env_clear().envs(environment).exec();
    Err(error).with_context(|| format!("cannot start {PROGRAM}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use contract::{Grant, guest_settings::GuestSettings};
    use settings::Docker;

    fn plan() -> ContainerPlan {
        ContainerPlan {
            name: "j1234567".parse().unwrap(),
            class: "medium".into(),
            subnet: "192.168.100.0/24".parse().unwrap(),
            uid_base: 536_870_912,
            privileged: false,
            root: Root::Tree("/var/lib/machines/gha-runner".into()),
            nix_store: None,
            runner: "/opt/actions-runner/bin/Runner.Listener".into(),
            user: "runner".into(),
            dns: vec![],
            fence: Vec::new(),
            allow_forks: false,
            job_limit: None,
            graphics: None,
            devices: vec![],
            caches: vec![],
            disk: None,
            docker: None,
            proxy: None,
            services: Vec::new(),
            nix: settings::Nix::default(),
            target: None,
            store: None,
        }
    }

    #[test]
    fn the_command_line_says_what_the_design_promises() {
        let line = command_line(&plan(), &Paths::default(), 7, 257);
        for expected in [
            "--directory=/var/lib/gha-runner-sandbox/j1234567/root",
            "--machine=j1234567",
            "--uuid=00000000000000000000000000000007",
            "--private-users=536870912:65536",
            "--private-users-ownership=off",
            "--network-interface=gp-j1234567",
            "--bind=/run/gha-runner-events/j1234567:/run/gha-runner-events",
            "--load-credential=gha-runner.grant:/run/gha-runner-sandbox/j1234567/grant.json",
            "--load-credential=gha-runner.guest:/run/gha-runner-sandbox/j1234567/guest.json",
            "--keep-unit",
            "--settings=no",
            "--rlimit=NOFILE=1024:1048576",
            "--rlimit=MEMLOCK=8388608:infinity",
            "--boot",
        ] {
            assert!(line.iter().any(|argument| argument == expected), "{expected} in {line:?}");
        }
        // Whatever it names lies where only root can write.
        let controllers = contract::HANDOVER_DIR;
        assert!(!line.iter().any(|argument| argument.to_str().unwrap().contains(controllers)), "{line:?}");
    }

    #[test]
    fn a_class_without_docker_gets_nothing_that_only_docker_needs() {
        let docker =
            Docker { mirror: None, mirrors: Default::default(), pool: "10.244.0.0/14".parse().unwrap(), keep: None };
        let with = command_line(&ContainerPlan { docker: Some(docker), ..plan() }, &Paths::default(), 7, 257);
        let without = command_line(&plan(), &Paths::default(), 7, 257);
        for option in [
            "--capability=all",
            "--system-call-filter=@keyring",
            "--bind=/var/lib/gha-runner-sandbox/j1234567/docker/docker:/var/lib/docker",
        ] {
            assert!(with.iter().any(|argument| argument == option), "{option} in {with:?}");
            assert!(!without.iter().any(|argument| argument == option), "{option} in {without:?}");
        }
    }

    #[test]
    fn every_service_of_a_container_knows_the_proxy() {
        let proxy = settings::Proxy {
            host: "10.0.0.9".into(),
            port: 3128,
            address: "10.0.0.9".parse().unwrap(),
            except: vec!["corp.example".into()],
        };
        let closure = "/nix/store/abc-nixos-system-job".into();
        for root in [plan().root, Root::System { closure, runner_dir: None }] {
            let line = command_line(
                &ContainerPlan { root, proxy: Some(proxy.for_containers(std::iter::empty())), ..plan() },
                &Paths::default(),
                7,
                257,
            );
            // What its systemd reads comes behind the options of systemd-nspawn.
            let options = line.iter().position(|argument| argument == "--").unwrap();
            for variable in ["https_proxy=http://10.0.0.9:3128", "NO_PROXY=localhost,127.0.0.1,::1,corp.example"] {
                let expected = format!("systemd.setenv={variable}");
                let at = line.iter().position(|argument| *argument == *expected);
                assert!(at.is_some_and(|at| at > options), "{expected} in {line:?}");
            }
        }
    }

    #[test]
    fn a_nixos_system_is_started_by_its_own_init() {
        let closure = "/nix/store/abc-nixos-system-job".into();
        let plan = ContainerPlan { root: Root::System { closure, runner_dir: None }, ..plan() };
        let line = command_line(&plan, &Paths::default(), 7, 257);
        let end = ["--kill-signal=SIGRTMIN+3", "--", "/nix/store/abc-nixos-system-job/init", "--show-status=no"];
        assert!(line.ends_with(&end.map(OsString::from)), "{line:?}");
        assert!(!line.iter().any(|argument| argument == "--boot"), "{line:?}");
    }

    #[test]
    fn a_newer_nspawn_is_asked_for_the_families_that_a_container_needs() {
        let families = |systemd| {
            let line = command_line(&plan(), &Paths::default(), 7, systemd);
            line.iter().filter(|argument| *argument == FAMILIES).count()
        };
        assert_eq!([0, 260, 261, 300].map(families), [0, 0, 1, 1]);
    }

    #[test]
    fn no_secret_is_on_the_command_line() {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths { records: home.path().into(), ..Paths::default() };
        let record = RecordDirectory::at(paths.record(&plan().name));
        record.create().unwrap();
        let secret = "c3dvcmRmaXNo";
        let settings: GuestSettings = plan().guest();
        record.put_credentials(&settings, &Grant::GithubJit { encoded_jit_config: secret.into() }).unwrap();
        assert!(std::fs::read_to_string(record.grant_file()).unwrap().contains(secret));
        let line = command_line(&plan(), &paths, 7, 257);
        assert!(!line.iter().any(|argument| argument.to_str().unwrap().contains(secret)), "{line:?}");
    }
}
