//! Who may do what: the controller's user, should it turn bad, can start job containers and nothing else; secrets show
//! nowhere.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use contract::{
    GRANT_FILE, HANDOVER_DIR, RECORD_FILE,
    order::{Answer, LAUNCHER_SOCKET, Verb},
};
use controller::{cause::Cause, phase::Phase, status::Status};
use gha_runner_controller::units::USER;
use github_sim::world::{Conclusion, JobSpec, RunSpec};
use stage::{REPO, SERVICE, Stage, StageConfig, TOKEN, unit};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_controllers_user_may_not_do_anything_but_start_and_stop_containers() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    println!("{}", stage.lab.shell("systemctl --version | head -n 1").unwrap());
    // Units that the settings do not know, and one of a class that a rule of an earlier version could know and that has
    // no file any more: what such a user may do must not rest on what lies on the disk.
    stage
        .lab
        .shell(
            "mkdir -p /srv/secret; install -m 600 /dev/null /srv/secret/file
             for unit in gha-runner-other@j0000001 gha-runner-mine; do
                 printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > /run/systemd/system/$unit.service
             done
             systemctl daemon-reload; systemctl start gha-runner-mine.service",
        )
        .unwrap();
    let no_ask = "systemctl --no-ask-password";
    let small = "gha-runner-small@j0000001.service";
    let mut forbidden: Vec<String> = [
        "stop dbus.service",
        "stop gha-runner-controller.service",
        "restart gha-runner-controller.service",
        "stop gha-runner-firewall.service",
        "reload gha-runner-firewall.service",
        "start gha-runner-sweep.service",
        "start gha-runner-launcher.service",
        "stop gha-runner-launcher.socket",
        "stop gha-runner-mine.service",
        "start gha-runner-other@j0000001.service",
        "start gha-runner-small@j0000001.service",
        "stop gha-runner-small@j0000001.service",
        "--job-mode=flush start gha-runner-small@j0000001.service",
        "--job-mode=isolate start gha-runner-small@j0000001.service",
        "--job-mode=replace-irreversibly start gha-runner-small@j0000001.service",
        "isolate gha-runner-small@j0000001.service",
        "reload gha-runner-small@j0000001.service",
        "kill gha-runner-small@j0000001.service",
        "restart gha-runner-small@j0000001.service",
        "clean gha-runner-small@j0000001.service",
        "freeze gha-runner-small@j0000001.service",
        "bind gha-runner-small@j0000001.service /etc/shadow /etc/shadow",
        "start gha-runner-small@../../x.service",
        "start 'gha-runner-small@j0000001.service gha-runner-mine.service'",
        "enable gha-runner-mine.service",
        "mask gha-runner-sweep.service",
        "daemon-reload",
        "daemon-reexec",
        "set-environment LD_PRELOAD=/tmp/x",
        "set-property --runtime gha-runner-small@j0000001.service MemoryMax=infinity",
        "set-property --runtime gha-runner.slice MemoryMax=infinity",
        "link /tmp/gha-runner-small@j0000002.service",
        "cancel",
        "reboot",
        "poweroff",
    ]
    .map(|arguments| format!("{no_ask} {arguments}"))
    .to_vec();
    let manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";
    let call = |method: &str, arguments: &str| {
        format!("busctl --no-pager --expect-reply=yes --timeout=5 call {manager} {method} {arguments}")
    };
    for mode in ["fail", "replace", "flush", "isolate", "replace-irreversibly", "ignore-requirements"] {
        forbidden.push(call("StartUnit", &format!("ss {small} {mode}")));
        forbidden.push(call("StartUnitReplace", &format!("sss {small} {small} {mode}")));
    }
    forbidden.push(call("StartUnitWithFlags", &format!("sst {small} fail 0")));
    forbidden.push(call("EnqueueUnitJob", &format!("sss {small} start flush")));
    forbidden.push(call("KillUnit", &format!("ssi {small} all 9")));
    forbidden.push(call("SetUnitProperties", &format!("sba(sv) {small} true 1 MemoryMax t 1")));
    // Of a class whose template is there, of one whose template is gone, of one that never was.
    for name in [small, "gha-runner-small@j0000009abc.service", "gha-runner-old@j0000003.service", "any.service"] {
        forbidden.push(call(
            "StartTransientUnit",
            &format!(
                "'ssa(sv)a(sa(sv))' {name} fail 1 ExecStart 'a(sasb)' 1 /usr/bin/touch 2 /usr/bin/touch /srv/secret/made false 0"
            ),
        ));
        forbidden.push(format!("systemd-run --no-ask-password --unit={name} /usr/bin/touch /srv/secret/made"));
    }
    forbidden.push("machinectl --no-ask-password shell .host /bin/true".into());
    for directory in ["/var/lib/gha-runner-sandbox", "/run/gha-runner-sandbox", "/srv/secret/file"] {
        forbidden.push(format!("ls {directory}/ || cat {directory}"));
    }
    forbidden.push("touch /etc/systemd/system/x.service".into());
    forbidden.push("touch /run/gha-runner-events/x".into());
    forbidden.push("touch /run/gha-runner-endings/x".into());
    forbidden.push(format!("rm {LAUNCHER_SOCKET} || mv {LAUNCHER_SOCKET} /run/x || chmod 666 {LAUNCHER_SOCKET}"));
    forbidden.push("ip link add name x type dummy || nft list ruleset".into());
    let before = stage.property(SERVICE, "MainPID").unwrap();
    for command in forbidden {
        let output = stage.lab.exec_as(USER, &["sh", "-c", &command]).unwrap();
        assert!(!output.success(), "{command}: {}", output.text());
    }
    assert_eq!(stage.property(SERVICE, "MainPID").unwrap(), before);
    assert_eq!(stage.systemctl(&["is-active", "gha-runner-mine.service", "dbus.service"]).unwrap(), "active\nactive");
    assert!(!stage.lab.exec(lab::Place::Host, &["test", "-e", "/srv/secret/made"]).unwrap().success());
    // It has not lost what it may do.
    let (_, job) = stage.queue_small("after", "echo fine").unwrap();
    assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Success));
}

#[test]
fn the_launcher_does_what_it_is_for_and_nobody_else_is_let_in() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    stage
        .lab
        .shell(
            "printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > /run/systemd/system/gha-runner-other@.service
             systemctl daemon-reload",
        )
        .unwrap();
    let refused = |bytes: &str| {
        let answer = stage.send_launcher(USER, bytes).unwrap();
        assert!(answer.contains("\"refused\""), "{bytes:?}: {answer:?}");
    };
    let order = |verb: &str, class: &str, name: &str| {
        format!("{{\"verb\":\"{verb}\",\"class\":\"{class}\",\"name\":\"{name}\"}}\n")
    };
    // A unit there is, of a class the settings do not have.
    refused(&order("start", "other", "j0000001"));
    for (verb, class, name) in [
        ("restart", "small", "j0000001"),
        ("start", "small", "root"),
        ("start", "small", "../../dbus"),
        ("start", "small@x", "j0000001"),
        ("start", "../small", "j0000001"),
        ("stop", "*", "j0000001"),
        ("stop", "small", "j*"),
        ("stop", "", "j0000001"),
    ] {
        refused(&order(verb, class, name));
    }
    refused(&order("start", "small", "j0000001").replace('}', ",\"mode\":\"flush\"}"));
    refused("start gha-runner-small@j0000001.service\n");
    refused("no end");
    for user in ["nobody", "daemon"] {
        assert!(stage.send_launcher(user, &order("stop", "small", "j0000001")).is_err(), "{user} was let in");
    }
    // Ten thousand lines, one a connection and then all in one: the launcher is not ended by it, and serves others.
    let flood = "use IO::Socket::UNIX; my $refused = 0; for (1..10000) { \
                 my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or next; $s->autoflush(1); \
                 print $s qq({\"verb\":\"start\",\"class\":\"c$_\",\"name\":\"j0000001\"}\\n); \
                 my $line = <$s>; $refused++ if $line =~ /refused/ } print $refused";
    let flood = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let command = ["timeout", "55", "perl", "-e", flood, LAUNCHER_SOCKET];
            stage.lab.exec_as(USER, &command).unwrap().check().unwrap().text()
        });
        let (_, job) = stage.queue_small("meanwhile", "echo fine").unwrap();
        assert_eq!(stage.hub.wait_completed(job, MINUTE).unwrap().conclusion, Some(Conclusion::Success));
        flooding.join().unwrap()
    });
    assert_eq!(flood, "10000");
    // Only the first line of a connection is looked at: whoever goes on writing is cut off.
    let order = order("stop", "small", "j0000001");
    let endless = "use IO::Socket::UNIX; $SIG{PIPE} = 'IGNORE'; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die; \
                   $s->autoflush(1); for (1..10000) { print $s $ARGV[1] or do { print $_; last } }";
    let written = stage.lab.exec_as(USER, &["timeout", "30", "perl", "-e", endless, LAUNCHER_SOCKET, &order]).unwrap();
    assert_ne!(written.check().unwrap().text(), "", "ten thousand orders in one connection were taken");
    stage.wait_until_clean(MINUTE).unwrap();
    // It is not there when nobody needs it, and a new order finds it again.
    let service = "gha-runner-launcher.service";
    let deadline = std::time::Instant::now() + MINUTE;
    while stage.property(service, "ActiveState").unwrap() != "inactive" {
        assert!(std::time::Instant::now() < deadline, "the launcher stays");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(stage.property(service, "Result").unwrap(), "success");
    assert_eq!(stage.order(Verb::Stop, "small", "j0000001").unwrap(), Answer::Done);
}

#[test]
fn a_forks_job_that_takes_a_runner_meant_for_another_fails_before_its_first_step() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    // The forge gives the older job to whichever runner comes first.
    let theirs = JobSpec::new("theirs", &["self-hosted", "linux"], &["echo their code ran"]);
    let pull_request = RunSpec { event: "pull_request".to_owned(), from_fork: true, ..RunSpec::push(vec![theirs]) };
    let theirs = stage.hub.queue_run(REPO, pull_request).unwrap().job_ids[0];
    let hook = "/run/gha-runner-guest/job-started.sh";
    let script = format!("test -x {hook}; if echo >> {hook} || rm -f {hook}; then exit 9; fi; echo our code ran");
    let (_, ours) = stage.queue_small("ours", &script).unwrap();
    let refused = stage.hub.wait_completed(theirs, MINUTE).unwrap();
    assert_eq!(refused.conclusion, Some(Conclusion::Failure));
    assert!(refused.output.contains("refuses this job: it comes from a fork"), "{}", refused.output);
    assert!(!refused.output.contains("their code ran"), "{}", refused.output);
    // Not as if it had failed by itself.
    let told = |status: &Status| status.finished.iter().any(|ended| ended.cause == Cause::ForkRefused);
    stage.wait_for("a container that ended as refused", MINUTE, told).unwrap();
    let served = stage.hub.wait_completed(ours, MINUTE).unwrap();
    assert_eq!(served.conclusion, Some(Conclusion::Success), "{}", served.output);
    assert!(served.output.contains("our code ran"), "{}", served.output);
    stage.wait_until_clean(MINUTE).unwrap();
}

#[test]
fn neither_grant_nor_token_shows_anywhere_while_a_job_runs() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, job) = stage.queue_small("look around", "echo begun; sleep 6; env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; cat ~/.credentials /opt/actions-runner/.credentials 2>&1; journalctl --no-pager 2>/dev/null; true").unwrap();
    stage.hub.wait_for_job(job, MINUTE, |job| job.output.contains("begun")).unwrap();
    let container = stage.wait_phase(job, Phase::Running, MINUTE).unwrap();
    let grant = stage.lab.read_host(&format!("{HANDOVER_DIR}/{}/{GRANT_FILE}", container.name)).unwrap();
    let grant: serde_json::Value = serde_json::from_slice(&grant).unwrap();
    let blob = grant["encoded_jit_config"].as_str().unwrap().to_owned();
    // What it decodes to, file by file; the middle of a text is as good as the text.
    let decode = |text: &str| {
        stage.lab.exec_with_input(lab::Place::Host, &["base64", "-d"], text.as_bytes()).unwrap().check().unwrap().stdout
    };
    let files: serde_json::Value = serde_json::from_slice(&decode(&blob)).unwrap();
    let middle = |text: &str| text.chars().skip(text.len() / 2).take(40).collect::<String>();
    let credentials = files[".credentials"].as_str().unwrap();
    let key = String::from_utf8(decode(files[".credentials_rsaparams"].as_str().unwrap())).unwrap();
    let secrets = [
        ("grant", middle(&blob)),
        ("credentials", middle(credentials)),
        ("key", middle(&key)),
        ("token", TOKEN.to_owned()),
    ];
    let unit = unit("small", &container.name);
    let script = format!(
        "echo == processes; for p in /proc/[0-9]*; do cat $p/cmdline $p/environ 2>/dev/null | tr '\\0' '\\n'; done || true
         echo == journal; journalctl --namespace='*' --no-pager --output=export
         echo == unit; systemctl show {unit}; systemctl show {SERVICE}; systemctl cat {unit} {SERVICE}
         echo == status; gha-runner-controller status --json; gha-runner-controller status
         echo == settings; cat /etc/gha-runner-controller/*.* /etc/systemd/system/gha-runner-*"
    );
    let shown = stage.lab.shell(&script).unwrap();
    assert!(shown.contains("--load-credential") && shown.contains("Runner.Listener"), "the processes were not seen");
    for (name, secret) in &secrets {
        assert!(secret.len() >= 12, "{name}");
        let line = shown.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "the {name} shows");
    }
    // Files: only where the controller, root and the container's own runner can read.
    for (name, secret) in &secrets {
        let search =
            format!("grep -rlF --devices=skip -e '{secret}' /run /tmp /var/log /var/tmp /dev/shm 2>/dev/null || true");
        let user = stage.lab.exec_as("nobody", &["sh", "-c", &search]).unwrap().text();
        assert_eq!(user, "", "everybody can read the {name}");
    }
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert!(!done.output.contains(TOKEN) && !done.output.contains(&secrets[0].1), "{}", done.output);
    let output = stage.lab.journal(&unit).unwrap();
    assert!(secrets.iter().all(|(_, secret)| !output.contains(secret.as_str())));
    stage.wait_until_clean(MINUTE).unwrap();
    let (_, secret) = &secrets[0];
    let left = stage
        .lab
        .shell(&format!("grep -rlF --devices=skip -e '{secret}' /run /tmp /var/lib /var/tmp || true"))
        .unwrap();
    assert_eq!(left, "", "the grant outlived its container");
}

#[test]
fn a_hostile_hand_over_is_refused_by_name_and_nothing_of_the_host_is_touched() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    let (_, job) = stage.queue_small("bystander", "echo begun; exec sleep 100").unwrap();
    stage.hub.wait_for_job(job, MINUTE, |job| job.output.contains("begun")).unwrap();
    let bystander = stage.wait_phase(job, Phase::Running, MINUTE).unwrap();
    stage.systemctl(&["stop", SERVICE]).unwrap();
    stage.lab.shell("mkdir -p /srv/victim/sub; echo precious > /srv/victim/file; echo precious > /srv/victim/sub/file; chmod -R a+rX /srv/victim").unwrap();
    let record = |name: &str, class: &str, subnet: &str| {
        format!(
            "{{\"version\":1,\"name\":\"{name}\",\"class\":\"{class}\",\"subnet\":\"{subnet}\",\"target\":\"{REPO}\",\"job_id\":null,\"runner_name\":\"x\"}}"
        )
    };
    let grant = "{\"kind\":\"github-jit\",\"encoded_jit_config\":\"c2VjcmV0\"}";
    let pool = "192.168.120.0/24";
    let usual = |name: &str| record(name, "small", pool);
    let cases: [(&str, String, &str, &str); 14] = [
        ("j9000001", usual("j9000001"), "ln -sfn /etc/shadow container.json", "symbolic link"),
        ("j9000002", usual("j9000002"), "ln -sfn /etc/shadow grant.json", "symbolic link"),
        ("j9000003", usual("j9000003"), "rm grant.json; mkfifo -m 600 grant.json", "not a regular file"),
        ("j9000004", usual("j9000004"), "rm container.json; mkdir container.json", "not a regular file"),
        ("j9000005", usual("j9000005"), "head -c 300000 /dev/zero > grant.json", "larger than"),
        ("j9000006", record("../../../srv/victim", "small", pool), ":", "not a container name"),
        ("j9000007", record(&bystander.name, "small", pool), ":", "is for container"),
        ("j9000008", record("j9000008", "small", "10.99.0.0/24"), ":", "none of the pool"),
        ("j9000009", record("j9000009", "small", &bystander.subnet), ":", "belongs to container"),
        ("j9000010", record("j9000010", "root", pool), ":", "is for class"),
        ("j9000011", usual("j9000011"), "cd ..; mv j9000011 moved; ln -s moved j9000011", "symbolic link"),
        ("j9000012", usual("j9000012").replace("\"job_id\"", "\"template\":\"/\",\"job_id\""), ":", "unknown field"),
        ("j9000014", usual("j9000014").replace(REPO, "octo-org/another"), ":", "no target of the settings"),
        ("j9000013", usual("j9000013"), "cd ..; rm -rf j9000013; ln -s /srv/victim j9000013", "symbolic link"),
    ];
    for (name, record, trick, expected) in &cases {
        let script = format!(
            "set -e; umask 077; mkdir {HANDOVER_DIR}/{name}; cd {HANDOVER_DIR}/{name}
             printf '%s' '{record}' > {RECORD_FILE}; printf '%s' '{grant}' > {GRANT_FILE}
             {trick}"
        );
        stage.lab.exec_as(USER, &["bash", "-c", &script]).unwrap().check().unwrap();
        assert_eq!(stage.order(Verb::Start, "small", name).unwrap(), Answer::Done, "{name}: systemd queued it");
        let unit = unit("small", name);
        let deadline = std::time::Instant::now() + MINUTE;
        let journal = loop {
            let journal = stage.lab.journal(&unit).unwrap();
            if journal.contains("removed ") && stage.property(&unit, "ActiveState").unwrap() == "inactive" {
                break journal;
            }
            assert!(std::time::Instant::now() < deadline, "{name} did not end: {journal}");
            std::thread::sleep(Duration::from_millis(50));
        };
        assert!(journal.contains(expected), "{name}, {expected}: {journal}");
        assert!(!journal.contains("prepared "), "{name} was started: {journal}");
        assert!(!journal.contains("root:"), "{name}: {journal}");
    }
    let intact = stage
        .lab
        .shell("cat /srv/victim/file /srv/victim/sub/file; stat -c '%U' /etc/shadow /srv/victim/file")
        .unwrap();
    assert_eq!(intact, "precious\nprecious\nroot\nroot");
    // The controller is itself again: what was planted is removed as hand-overs nobody took, links as links.
    stage.systemctl(&["start", SERVICE]).unwrap();
    assert_eq!(stage.wait_phase(job, Phase::Running, MINUTE).unwrap().name, bystander.name);
    assert!(stage.lab.shell("cat /srv/victim/sub/file").unwrap().contains("precious"));
    stage.hub.cancel_job(job).unwrap();
    stage
        .wait_for("all ended", MINUTE, |status| status.active_containers.is_empty() && status.settling.is_empty())
        .unwrap();
    let left = stage.left_over().unwrap().without(|_, what| what.starts_with("/run/gha-runner-controller/containers/"));
    assert!(left.is_empty(), "{left}");
}
