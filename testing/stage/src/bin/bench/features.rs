//! What each part of the isolation costs a container that boots, side by side: the same container with and without it
//! where it can be left out, the step that makes it where it cannot, and how long what starts on first use takes.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use contract::{
    order::{self, Answer, LAUNCHER_SOCKET, Order, Verb},
    unit_name,
};
use lab::Recipe;
use stage::{Stage, StageConfig, show};

use crate::{
    by_hand::{self, Started},
    report::{Report, TIMES, times},
    stats::Sample,
};

const MINUTE: Duration = Duration::from_secs(60);
const ALL_ON: &str = "everything on";
/// Classes of one stage: what is different about each.
const CLASSES: [(&str, &str, &str); 4] = [
    ("small", ALL_ON, ""),
    ("bare", "… without a user namespace (privileged)", "privileged = true\n"),
    ("open", "… without seccomp", ""),
    ("capped", "… with a disk of 1 GiB of its own", "disk = \"1G\"\n"),
];
/// Steps of *prepare* that are about isolation.
const STEPS: [(&str, &str); 6] = [
    ("fence", "fence: the table is compared"),
    ("lower", "private users: the tree's ids are shifted"),
    ("overlay", "overlay"),
    ("link", "link"),
    ("udev", "udev: both links are waited for at the end"),
    ("address", "address"),
];

/// Boots so many containers of each kind in turn, then uses Docker and Nix so often, and prints the tables.
pub fn measure(rounds: usize, report: Report) -> anyhow::Result<()> {
    let classes: String =
        CLASSES.iter().map(|(name, _, keys)| format!("[class.{name}]\nlabels = [\"{name}\"]\n{keys}")).collect();
    let stage = boot(&StageConfig { classes, ..StageConfig::default() })?;
    // What only a bench wants to leave out, an operator leaves out by hand.
    let drop_in = format!(
        "/run/systemd/system/{}.d",
        unit_name::container_unit("open", &"j0000000".parse()?).replace("j0000000", "")
    );
    stage.lab.shell(&format!(
        "mkdir -p {drop_in}; printf '[Service]\\nEnvironment=SYSTEMD_SECCOMP=0\\n' > {drop_in}/bench.conf
         systemctl daemon-reload; systemctl stop {}",
        stage::SERVICE
    ))?;
    let mut started = [const { Vec::<Started>::new() }; CLASSES.len()];
    for round in 0..=rounds {
        for ((class, _, _), started) in CLASSES.iter().zip(&mut started) {
            let one = by_hand::one(&stage, class, round).with_context(|| format!("class {class}"))?;
            // The first warms up.
            if round > 0 {
                started.push(one);
            }
        }
    }
    let mut rows: Vec<Vec<String>> = CLASSES
        .iter()
        .zip(&started)
        .map(|((_, what, _), started)| times(what, &started.iter().map(|one| one.runner).collect(), ""))
        .collect();
    rows.extend(STEPS.iter().map(|(step, what)| {
        let found: Sample = started[0].iter().filter_map(|one| one.step(step)).collect();
        times(&format!("of it, {what}"), &found, "")
    }));
    rows.push(times("an order to the launcher, until its answer", &orders(&stage, rounds)?, "≤ 5"));
    drop(stage);
    rows.push(times("Docker ready: first answer of its daemon", &first_use(Recipe::DOCKER, rounds, DOCKER)?, ""));
    rows.push(times("Nix ready: first answer of its daemon", &first_use(Recipe::NIX, rounds, NIX)?, ""));
    let title =
        format!("systemd starts the unit → runner program started, {rounds} of each in turn, and what is part of it");
    report.table(&title, &TIMES, &rows, 1);
    Ok(())
}

/// A tree's own class, and a command that waits for the daemon.
const DOCKER: (&str, &str, &str) = ("", "[class.small.docker]\nenable = true\n", "docker version");
const NIX: (&str, &str, &str) = ("nix_store = \"/var/lib/nix-store\"\n", "", "nix ping-store --store daemon");

fn first_use(tree: Recipe, rounds: usize, (template, class, command): (&str, &str, &str)) -> anyhow::Result<Sample> {
    let stage = boot(&StageConfig {
        tree,
        setup: "cp -a $template/srv/host-nix/nix/store /var/lib/nix-store 2>/dev/null || true".into(),
        template: template.into(),
        classes: format!("[class.small]\nlabels = [\"self-hosted\", \"linux\"]\n{class}"),
        ..StageConfig::default()
    })?;
    let script = format!(
        "begin=$(date +%s%N); {command} > /tmp/said 2>&1 || {{ cat /tmp/said; exit 1; }}; end=$(date +%s%N); \
         echo \"ready: $(( (end - begin) / 10000 ))\""
    );
    let mut sample = Sample::default();
    for round in 0..rounds {
        let (_, job) = stage.queue_small(&format!("first use {round}"), &script)?;
        let done = stage.hub.wait_completed(job, MINUTE)?;
        let hundredths =
            done.output.split("ready: ").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let hundredths: f64 = hundredths.with_context(|| format!("{command}: {}", done.output))?;
        sample.add(hundredths / 100.0);
    }
    ensure!(sample.len() == rounds, "not every job said how long it took");
    Ok(sample)
}

/// How long so many orders take that give systemd as little to do as there is: to stop what is not there.
fn orders(stage: &Stage, rounds: usize) -> anyhow::Result<Sample> {
    let socket = stage.lab.host_path(LAUNCHER_SOCKET)?;
    let order = Order { verb: Verb::Stop, class: "small".into(), name: "j9999999".parse()? };
    let mut sample = Sample::default();
    for round in 0..=rounds {
        let begun = Instant::now();
        let mut stream = UnixStream::connect(&socket).context("the launcher's socket")?;
        stream.set_read_timeout(Some(MINUTE))?;
        stream.write_all(&order::line(&order))?;
        let mut answer = Vec::new();
        BufReader::new(stream).read_until(b'\n', &mut answer)?;
        ensure!(order::parse::<Answer>(&answer) == Ok(Answer::Done), "{}", String::from_utf8_lossy(&answer));
        // The first one starts the program.
        if round > 0 {
            sample.add(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(sample)
}

fn boot(config: &StageConfig) -> anyhow::Result<Stage> {
    show::doing("Booting a host", || Stage::boot(config))?.context("the host cannot be booted here")
}
