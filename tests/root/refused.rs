//! systemd-nspawn, or what comes before it, refuses: the cause is in the status in words, and nobody tries for ever.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use controller::{cause::Cause, status::Status};
use stage::{SERVICE, Stage, StageConfig, unit};

const MINUTE: Duration = Duration::from_secs(60);
const DROP_IN: &str = "/run/systemd/system/gha-runner-small@.service.d";
/// Stands before the real one in the unit's path.
const WRAPPER: &str = "/srv/refuse/systemd-nspawn";

/// A way to refuse: its name, what the wrapper does before it becomes the real program (`$root` is the container's, `$extra`
/// goes before its arguments), more lines of the unit, and what is done on the host before.
struct Way {
    name: &'static str,
    wrapper: &'static str,
    unit: &'static str,
    before: &'static str,
    after: &'static str,
    /// What the reason in the status must hold.
    expected: &'static str,
}

const USUAL: Way = Way { name: "", wrapper: "", unit: "", before: "", after: "", expected: "" };

const WAYS: [Way; 11] = [
    Way { name: "capability", wrapper: "extra=--capability=CAP_NOT_THERE", expected: "CAP_NOT_THERE", ..USUAL },
    Way {
        name: "template",
        before: "mv /srv/link /srv/away",
        after: "mv /srv/away /srv/link",
        expected: "/srv/link",
        ..USUAL
    },
    Way { name: "link", wrapper: "ip link delete gp-$name", expected: "gp-j", ..USUAL },
    Way { name: "user namespace", unit: "RestrictNamespaces=~user", expected: "user namespace", ..USUAL },
    Way {
        name: "memory",
        wrapper: "exec prlimit --as=4000000 /usr/bin/systemd-nspawn \"$@\"",
        // The loader's words, which differ.
        expected: "systemd-nspawn",
        ..USUAL
    },
    Way {
        name: "space",
        before: "mount -t tmpfs -o nr_inodes=1,mode=0700 full /var/lib/gha-runner-sandbox",
        after: "umount /var/lib/gha-runner-sandbox",
        expected: "No space left on device",
        ..USUAL
    },
    Way {
        name: "system calls",
        unit: "SystemCallFilter=~open_tree\nSystemCallErrorNumber=EPERM",
        expected: "Operation not permitted",
        ..USUAL
    },
    Way {
        name: "machine",
        wrapper: "extra=--machine=taken",
        before: "systemd-run --quiet --unit=taken.service sleep infinity
                 busctl call org.freedesktop.machine1 /org/freedesktop/machine1 org.freedesktop.machine1.Manager \
                 RegisterMachine sayssus taken 0 '' container $(systemctl show --value --property MainPID taken.service) ''",
        after: "systemctl stop taken.service",
        expected: "already exists",
        ..USUAL
    },
    Way {
        name: "no init",
        wrapper: "rm -f $root/usr/lib/systemd/systemd $root/usr/sbin/init",
        expected: "No such file or directory",
        ..USUAL
    },
    Way {
        name: "init dies",
        wrapper: "rm $root/usr/lib/systemd/systemd
                  printf '#!/bin/sh\\necho this init is broken\\nexit 3\\n' > $root/usr/lib/systemd/systemd
                  chmod 755 $root/usr/lib/systemd/systemd",
        expected: "this init is broken",
        ..USUAL
    },
    Way {
        name: "not up in time",
        wrapper: "sleep 1000",
        unit: "TimeoutStartSec=3",
        expected: "start operation timed out",
        ..USUAL
    },
];

impl Way {
    fn begin(&self, stage: &Stage) {
        let script = format!(
            "#!/bin/sh\nextra=--quiet\nfor word in \"$@\"; do case $word in\n--directory=*) root=${{word#*=}};;\n\
             --machine=*) name=${{word#*=}};; esac; done\n{}\nexec /usr/bin/systemd-nspawn \"$extra\" \"$@\"\n",
            // The last of two options of the same name counts, so that one goes.
            match self.name {
                "machine" =>
                    "set -- $(for word in \"$@\"; do case $word in --machine=*) ;; *) echo \"$word\";; esac; done)\n",
                _ => "",
            }
            .to_owned()
                + self.wrapper
        );
        stage.lab.write_host(WRAPPER, script.as_bytes(), 0o755).unwrap();
        let drop_in = format!(
            "[Service]\nEnvironment=PATH=/srv/refuse:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n{}\n",
            self.unit
        );
        stage.lab.write_host(&format!("{DROP_IN}/refuse.conf"), drop_in.as_bytes(), 0o644).unwrap();
        stage.lab.shell(&format!("systemctl daemon-reload\n{}", self.before)).unwrap();
    }

    fn end(&self, stage: &Stage) {
        stage.lab.shell(&format!("rm -r {DROP_IN} /srv/refuse; systemctl daemon-reload\n{}", self.after)).unwrap();
    }
}

#[test]
fn whatever_refuses_before_a_container_is_up_is_a_failed_boot_with_its_words_as_the_reason() {
    let config = StageConfig {
        setup: "ln -s $template /srv/link".into(),
        template_path: Some("/srv/link".into()),
        ..StageConfig::default()
    };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    for way in WAYS {
        println!("{}", way.name);
        way.begin(&stage);
        let (_, job) = stage.queue_small(way.name, "echo ran").unwrap();
        let ended = stage.wait_finished(job, MINUTE).unwrap();
        let journal = || stage.lab.journal(&unit("small", &ended.name)).unwrap();
        assert_eq!(ended.cause, Cause::BootFailed, "{}: {ended:#?}\n{}", way.name, journal());
        let reason = ended.reason.clone().unwrap_or_default();
        println!("  {reason}");
        assert!(reason.contains(way.expected), "{}: {reason:?}\n{}", way.name, journal());
        let status = stage.status().unwrap();
        assert!(status.classes[0].boot_failures >= 1, "{}: {status:#?}", way.name);
        let told = |text: &str| text.contains("class small") && text.contains(&reason);
        assert!(status.problems.iter().any(|problem| told(problem)), "{}: {:?}", way.name, status.problems);
        let (code, body) = stage.health().unwrap();
        assert!(code == 503 && body.contains("class small"), "{}: {code} {body}", way.name);
        let shown =
            stage.lab.exec(lab::Place::Host, &["/usr/local/bin/gha-runner-controller", "history"]).unwrap().text();
        let row = shown.lines().find(|line| line.contains(&ended.name)).unwrap_or_default();
        // A table has room for the beginning of it.
        let beginning: String = reason.chars().take(60).collect();
        assert!(row.contains("boot failed") && row.contains(&beginning), "{}: {shown}", way.name);
        let told = format!("{}: ended: boot failed: {reason}", ended.name);
        let deadline = Instant::now() + MINUTE;
        // A busy host's journal has it a moment after the status.
        while !stage.lab.journal(SERVICE).unwrap().contains(&told) {
            assert!(Instant::now() < deadline, "{}: {}", way.name, stage.lab.journal(SERVICE).unwrap());
            std::thread::sleep(Duration::from_millis(100));
        }
        stage.hub.cancel_job(job).unwrap();
        way.end(&stage);
        stage.wait_until_clean(MINUTE).unwrap();
        // A new controller: the pause is its own, and grows with each failure.
        stage.systemctl(&["restart", SERVICE]).unwrap();
    }
    let (_, job) = stage.queue_small("after all", "echo ran").unwrap();
    stage.hub.wait_completed(job, MINUTE).unwrap();
    stage.wait_for("well again", MINUTE, |status| status.problems.is_empty()).unwrap();
}

#[test]
fn a_job_is_not_booted_for_more_than_a_handful_of_times_in_a_minute_whatever_its_containers_end_of() {
    let Some(stage) = Stage::boot(&StageConfig::default()).unwrap() else { return };
    // One never comes up. The other does, listens, and goes without a job.
    let goes = "printf '#!/bin/sh\\necho \"$(date -u \"+%%Y-%%m-%%d %%H:%%M:%%SZ\"): Listening for Jobs\"\\nexit 0\\n' \
                > $root/opt/actions-runner/bin/Runner.Listener";
    for (name, wrapper) in [("never up", "extra=--capability=CAP_NOT_THERE"), ("goes at once", goes)] {
        let way = Way { name, wrapper, ..USUAL };
        way.begin(&stage);
        let before = stage.status().unwrap().finished.len();
        let (_, job) = stage.queue_small(name, "echo ran").unwrap();
        let begun = Instant::now();
        stage.wait_finished(job, MINUTE).unwrap();
        std::thread::sleep(MINUTE.saturating_sub(begun.elapsed()));
        let status = stage.status().unwrap();
        let booted = status.finished.len() - before + status.active_containers.len();
        println!("{name}: {booted} containers in a minute");
        assert!((2..=5).contains(&booted), "{name}: {booted}: {status:#?}");
        let told = |status: &Status| status.problems.iter().any(|problem| problem.contains("class small"));
        assert!(told(&status), "{name}: {:?}", status.problems);
        stage.hub.cancel_job(job).unwrap();
        way.end(&stage);
        stage.wait_until_clean(MINUTE).unwrap();
        stage.systemctl(&["restart", SERVICE]).unwrap();
    }
}
