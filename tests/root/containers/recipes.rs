//! The recipes of docs/templates.md, taken from the document, built and booted: what they promise is there, in the
//! releases of Debian they are for and in the newest there is.

use contract::event::{JobResult, What};
use lab::{Recipe, Suite};

use crate::{
    assert_nothing_left,
    host::{Host, HostConfig},
};

/// An image of what the tree has, without a registry.
const IMAGE: &str = r#"
image() {
    for file in sh cat echo sleep id touch; do
        install -D /bin/$file /tmp/box/bin/$file
        for library in $(ldd /bin/$file | grep -o '/lib[^ ]*'); do install -D $library /tmp/box$library; done
    done
    tar -C /tmp/box -c . | docker import - box > /dev/null
}
"#;

/// What a step of any workflow may ask for. Steps run as the guest starts them, with what its search path has.
const EVERYWHERE: &str = r#"
say "Listening for Jobs"
say "Running job: recipe"
# This runner begins before the container has settled, which a real one does not.
for _ in $(seq 200); do [ ! -S /run/dbus/system_bus_socket ] || break; sleep 0.05; done
has() { for name in "$@"; do command -v $name > /dev/null && echo "has $name;" || echo "lacks $name;"; done; }
echo "user: $(id -u):$(id -g) $(sudo -n id -u);"
echo "tmp: $(stat -f -c %T /tmp) $(stat -c %a /tmp), of / $([ "$(stat -c %d /tmp)" = "$(stat -c %d /)" ] && echo yes);"
echo "localhost: $(getent ahostsv4 localhost | head -n 1 | cut -d' ' -f1) $(getent ahosts localhost | grep -c :);"
echo "runs beside: $(systemctl list-units --no-legend --plain --state=active '*getty*' 'apt-*' '*.timer' | wc -l);"
echo "workspace: $(touch /opt/actions-runner/_work-probe && echo writable);"
has git curl jq sudo ps zstd tar
"#;

const FULL: &str = r#"
has wget git-lfs ssh gpg less file patch rsync bzip2 xz zip unzip make gcc g++ pkg-config python3
echo "locale: $(LC_ALL=en_US.UTF-8 locale charmap 2>&1);"
echo "lists: $(apt-cache policy hello | grep -c Candidate);"
printf 'int main(void) { return 0; }\n' > /tmp/a.c; gcc -o /tmp/a /tmp/a.c && /tmp/a && echo "compiled;"
python3 -m venv --without-pip /tmp/venv && echo "venv;"
command -v gh > /dev/null && echo "has gh;"
image
echo "docker: $(docker version --format '{{.Server.Version}}') $(docker info --format '{{.Driver}}');"
docker run --rm box echo "docker run;"
docker run --rm --init box echo "docker init;"
docker run --rm --privileged box echo "docker privileged;"
docker run --rm --sysctl net.ipv4.ip_unprivileged_port_start=0 box echo "docker sysctl;"
docker run --rm --user 1001 --volume /opt/actions-runner:/w box sh -c 'touch /w/from-inside && echo "docker user;"'
# As many as this job may: a lab in a box that gives it less has less.
files=$(ulimit -Hn)
docker run --rm --ulimit nofile=$files:$files box sh -c "[ \$(ulimit -n) = $files ] && [ $files -gt 4096 ]" && echo "docker limits;"
mkdir /tmp/build; printf 'FROM box\nRUN echo "docker built;" > /made\nCMD ["/bin/cat", "/made"]\n' > /tmp/build/Dockerfile
docker build --quiet --tag made /tmp/build > /dev/null; docker run --rm made
docker buildx version > /dev/null 2>&1 && echo "buildx;"
docker compose version > /dev/null 2>&1 && echo "compose v2;"
docker-compose version > /dev/null 2>&1 && echo "docker-compose;"
"#;

const ENDS: &str = "\nsay 'Job recipe completed with result: Succeeded'\n";

fn journal_of(job: &str, recipe: &'static str, suite: Suite) -> Option<String> {
    let class = if recipe == "full" { "[class.medium.docker]\nenable = true\n" } else { "" };
    let config = HostConfig {
        job: format!("{IMAGE}{job}{ENDS}"),
        tree: Recipe::documented(recipe, suite).unwrap(),
        class: class.into(),
        setup: "du -s --block-size=1M $template | cut -f1 > /run/size".into(),
        ..HostConfig::default()
    };
    let host = Host::boot_with(&config)?;
    let before = host.lab.leftovers().unwrap();
    host.hand_over("j0000001", 1);
    host.start("j0000001").unwrap();
    let story = host.story("j0000001");
    let at = |what: &What| story.iter().find(|event| event.what == *what).map(|event| event.at_ms).unwrap();
    let megabytes = host.lab.shell("cat /run/size").unwrap();
    println!("{recipe} {suite}: {megabytes} MiB; {} ms to the runner", at(&What::RunnerStarted) - at(&What::Booted));
    let journal = host.journal("j0000001");
    let succeeded = What::JobEnded { result: JobResult::Succeeded };
    assert!(story.iter().any(|event| event.what == succeeded), "{journal}");
    host.ending("j0000001");
    assert_nothing_left(&host, &before);
    println!("{journal}");
    let told = [
        "user: 1001:1001 0;",
        " 1777, of / yes;",
        "localhost: 127.0.0.1 0;",
        "runs beside: 0;",
        "workspace: writable;",
    ];
    has_all(&journal, &told);
    Some(journal)
}

fn has_all(journal: &str, told: &[&str]) {
    let missing: Vec<_> = told.iter().filter(|line| !journal.contains(**line)).collect();
    assert!(missing.is_empty() && !journal.contains("lacks "), "{missing:?}:\n{journal}");
}

fn full(suite: Suite) {
    let Some(journal) = journal_of(&format!("{EVERYWHERE}{FULL}"), "full", suite) else { return };
    let told = [
        "has git-lfs;",
        "locale: UTF-8;",
        "lists: 1;",
        "compiled;",
        "venv;",
        "overlay2;",
        "docker run;",
        "docker init;",
        "docker privileged;",
        "docker sysctl;",
        "docker user;",
        "docker limits;",
        "docker built;",
        "docker-compose;",
    ];
    has_all(&journal, &told);
    // A release that is being made has not everything every day.
    if suite != Suite::NEWEST {
        has_all(&journal, &["has gh;"]);
    }
    if suite != Suite::Bookworm {
        has_all(&journal, &["buildx;", "compose v2;"]);
    }
}

#[test]
fn the_full_recipe_of_debian_12_has_what_workflows_take_for_granted() {
    full(Suite::Bookworm);
}

#[test]
fn the_full_recipe_of_debian_13_has_what_workflows_take_for_granted() {
    full(Suite::Trixie);
}

#[test]
fn the_full_recipe_of_the_newest_debian_has_what_workflows_take_for_granted() {
    full(Suite::NEWEST);
}

#[test]
fn the_minimal_recipe_has_what_a_checkout_needs_in_each_release() {
    for suite in [Suite::Bookworm, Suite::Trixie] {
        if journal_of(EVERYWHERE, "minimal", suite).is_none() {
            return;
        }
    }
}
