//! Room on the host's disk: how much a container gets, and what outlives it.

use contract::event::{JobResult, What};

use crate::{
    assert_nothing_left,
    host::{Host, HostConfig},
};

#[test]
fn a_container_that_fills_its_disk_harms_itself_alone_and_leaves_nothing() {
    let config = HostConfig {
        job: r#"
            say "Listening for Jobs"
            say "Running job: fill"
            # Where programs put what they do not keep: it is disk as well, not the job's memory.
            head -c 200M /dev/zero 2>&1 > /tmp/fill | sed 's/^/filled: /'
            stat -c 'bytes: %s' /tmp/fill
            rm /tmp/fill
            mkdir /tmp/many; cd /tmp/many
            for number in $(seq 100000); do : > $number || break; done 2>&1 | head -n 1 | sed 's/^.*: /files: /'
            say "Job fill completed with result: Succeeded"
        "#
        .into(),
        class: "disk = \"64M\"".into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let before = host.lab.leftovers().unwrap();
    host.hand_over("j0001001", 1);
    host.start("j0001001").unwrap_or_else(|error| panic!("{error}"));
    let ending = host.ending("j0001001");
    let journal = host.journal("j0001001");
    for line in
        ["filled: head: error writing 'standard output': No space left on device", "files: No space left on device"]
    {
        assert!(journal.contains(line), "{line}: {journal}");
    }
    let bytes = journal.split("bytes: ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    assert!((16 << 20..64 << 20).contains(&bytes.parse::<u64>().unwrap()), "{bytes}");
    assert_eq!((ending.service_result.as_str(), ending.left_behind.len()), ("success", 0));
    println!("teardown: {} us", ending.teardown_us);
    assert_nothing_left(&host, &before);
}

#[test]
fn a_cache_is_shared_while_and_after_containers_run_and_read_only_where_forks_may() {
    let config = HostConfig {
        job: r#"
            say "Listening for Jobs"
            say "Running job: cache"
            for cache in /srv/gha-cache/mine /srv/gha-cache/ours; do
                echo "$cache has: $(cd $cache; stat -c '%n of %U' * 2>&1 | tr '\n' ' ')"
                touch $cache/$(hostname) 2>&1 && echo "$cache takes"
            done
            [ "$(hostname)" != j0001101 ] || head -c 200M /dev/zero 2>&1 > /srv/gha-cache/mine/fill | sed 's/^/filled: /'
            rm -f /srv/gha-cache/mine/fill
            say "Job cache completed with result: Succeeded"
            [ "$(hostname)" != j0001101 ] || exec sleep 1000
        "#
        .into(),
        class: "[class.medium.cache.mine]\nsize = \"64M\"\n[class.medium.cache.ours]\nsize = \"64M\"\nper = \"class\"".into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let before = host.lab.leftovers().unwrap();
    let run = |target: &str, name: &str, subnet: u32| {
        host.hand_over_for(target, name, subnet);
        host.start(name).unwrap_or_else(|error| panic!("{error}"));
        host.wait_for(name, &What::JobEnded { result: JobResult::Succeeded });
    };
    let said = |name: &str, lines: &[&str]| {
        let journal = host.journal(name);
        for line in lines {
            assert!(journal.contains(line), "{name}, {line}: {journal}");
        }
    };
    let takes = ["/srv/gha-cache/mine takes", "/srv/gha-cache/ours takes"];
    run("octo-org/hello", "j0001101", 1);
    said("j0001101", &takes);
    said("j0001101", &["filled: head: error writing 'standard output': No space left on device"]);
    // While the first still runs.
    run("octo-org/hello", "j0001102", 2);
    said("j0001102", &takes);
    said("j0001102", &["mine has: j0001101 of runner", "ours has: j0001101 of runner"]);
    run("octo-org/other", "j0001103", 3);
    said("j0001103", &takes);
    said("j0001103", &["mine has: stat: cannot stat", "ours has: j0001101 of runner j0001102 of runner"]);
    host.stop("j0001101");
    for name in ["j0001101", "j0001102", "j0001103"] {
        assert_eq!(host.ending(name).left_behind, Vec::<String>::new(), "{name}");
    }
    // After all are gone, where jobs of forks may run.
    run("octo-org/hello", "j0001104x", 4);
    host.ending("j0001104x");
    said("j0001104x", &["mine has: j0001101 of runner j0001102 of runner", "Read-only file system"]);
    assert!(!host.journal("j0001104x").contains("takes"));
    let stores = host.lab.shell("cd /var/lib/gha-runner-stores; find . -type f | sort").unwrap();
    let expected = ["mine@octo-org+hello", "mine@octo-org+other", "ours"].map(|name| format!("./medium/caches/{name}"));
    assert_eq!(stores, expected.join("\n"));
    host.lab.shell("rm -r /var/lib/gha-runner-stores").unwrap();
    // Another lab of this machine may have some of its own, whose files are there.
    let deleted = "losetup --all | grep -c 'gha-runner-stores.*deleted' || true";
    assert_eq!(host.lab.shell(deleted).unwrap(), "0");
    assert_nothing_left(&host, &before);
}

#[test]
fn a_job_that_floods_its_console_drives_nothing_out_of_the_hosts_journal() {
    let config = HostConfig {
        job: r#"
            say "Listening for Jobs"
            say "Running job: flood"
            timeout 5 bash -c 'base64 --wrap=0 /dev/urandom | sudo tee /dev/console >/dev/null'
            echo; sleep 11
            echo "the flood is over"
            say "Job flood completed with result: Succeeded"
        "#
        .into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let mebibytes = |which: &str| -> u64 {
        // The total is the last line, and there where nothing matches too.
        let script = format!(
            "du --summarize --block-size=1M --total /run/log/journal/{which} /var/log/journal/{which} 2>/dev/null | tail -n 1 | cut -f 1"
        );
        host.lab.shell(&script).unwrap().trim().parse().unwrap()
    };
    host.lab.shell("echo before the flood | systemd-cat --identifier=gha-before; journalctl --sync").unwrap();
    let before = mebibytes("????????????????????????????????");
    host.hand_over("j0001301", 1);
    host.start("j0001301").unwrap_or_else(|error| panic!("{error}"));
    host.ending("j0001301");
    let (after, jobs) = (mebibytes("????????????????????????????????"), mebibytes("*.gha-runner"));
    println!("the host's journal: {before} MiB before, {after} after; that of jobs: {jobs}");
    assert!(after <= before + 16, "{before} MiB before, {after} after");
    assert!(jobs <= 1100, "{jobs} MiB");
    let kept = host.lab.shell("journalctl --no-pager --output=cat --identifier=gha-before").unwrap();
    assert!(kept.contains("before the flood"));
    assert!(host.journal("j0001301").contains("the flood is over"));
}

#[test]
fn a_cache_may_be_where_the_runner_keeps_tools_and_the_next_job_finds_them() {
    let config = HostConfig {
        job: r#"
            say "Listening for Jobs"
            say "Running job: tools"
            # As the runner does before a job.
            . /opt/actions-runner/.env
            echo "tools: $AGENT_TOOLSDIRECTORY, $(cat $AGENT_TOOLSDIRECTORY/node/20.0.0/x64.complete 2>&1)"
            mkdir -p $AGENT_TOOLSDIRECTORY/node/20.0.0; echo "by $(hostname)" > $AGENT_TOOLSDIRECTORY/node/20.0.0/x64.complete
            say "Job tools completed with result: Succeeded"
        "#
        .into(),
        class: "[class.medium.cache.tools]\ntool_cache = true\nsize = \"64M\"\nper = \"class\"".into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    for (name, target, found) in
        [("j0001201", "octo-org/hello", "No such file"), ("j0001202", "octo-org/other", "by j0001201")]
    {
        host.hand_over_for(target, name, 1);
        host.start(name).unwrap_or_else(|error| panic!("{error}"));
        host.ending(name);
        let journal = host.journal(name);
        let line = journal.lines().find(|line| line.contains("tools: /opt/hostedtoolcache, ")).unwrap_or_default();
        assert!(line.contains(found), "{name}: {journal}");
    }
}
