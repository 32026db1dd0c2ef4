//! What jobs that flood the controller cost the others: the time to a job's start with six of them and without.

use std::time::Duration;

use anyhow::Result;
use controller::phase::Phase;
use stage::{Stage, show};

use crate::{
    footprint::Controller,
    report::{Report, TIMES, times},
    sequence,
    stats::{Sample, between},
};

const FLOODING: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);
/// Until each has killed its guest and has the controller's next connection.
const LEAD: Duration = Duration::from_secs(5);

/// Kills the guest, listens at its socket, and repeats a line to whoever connects.
const FLOOD: &str = r##"
sudo sh -c 'd=/run/systemd/system/gha-runner-guest.service.d; mkdir -p $d
printf "[Unit]\nFailureAction=none\nSuccessAction=none\n" > $d/stays.conf; systemctl daemon-reload'
sudo systemd-run --quiet --unit=flood perl -MIO::Socket::UNIX -e '
    my $path = q(/run/gha-runner-events/events.sock); sleep 1; unlink $path;
    my $socket = IO::Socket::UNIX->new(Local => $path, Listen => 50) or die; chmod 0666, $path;
    $SIG{PIPE} = q(IGNORE); system q(systemctl kill --kill-who=main --signal=KILL gha-runner-guest.service);
    my $lines = qq({"seq":0,"at_ms":1,"event":"listening"}\n) x 1000;
    while (my $peer = $socket->accept) { 1 while syswrite $peer, $lines }'
sleep 1000
"##;

/// Jobs one after the other, without and with them, and the table.
pub fn measure(stage: &Stage, jobs: usize, report: Report) -> Result<()> {
    let starts = |what: &str| -> Result<Sample> {
        show::doing(&format!("{jobs} jobs, {what}"), || {
            (0..jobs)
                .map(|number| {
                    let timeline = sequence::one(stage, number)?.0.timeline;
                    let moments = timeline.visible_ms.zip(timeline.job_started_ms);
                    Ok(moments.map_or(f64::NAN, |(visible, started)| between(visible, started)))
                })
                .collect()
        })
    };
    let alone = starts("nobody floods")?;
    for number in 0..FLOODING {
        let (_, job) = stage.queue_small(&format!("flood {number}"), FLOOD)?;
        stage.wait_phase(job, Phase::Running, PATIENCE)?;
    }
    std::thread::sleep(LEAD);
    let controller = Controller::find(stage)?;
    let before = controller.used()?;
    let begun = std::time::Instant::now();
    let beside = starts("six neighbours flood")?;
    let cpu = controller.used()?.cpu.saturating_sub(before.cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    stage.lab.shell("systemctl stop 'gha-runner-*@j*.service'")?;
    let ratio = |percent| beside.percentile(percent) / alone.percentile(percent).max(0.001);
    let mut relation = vec!["with / without".to_owned()];
    relation.extend([50, 95, 100].map(|percent| format!("{:.2}", ratio(percent))));
    relation.push("p95 ≤ 2.00".to_owned());
    let rows = [
        times("visible → job started, nobody floods", &alone, ""),
        times("… beside six that flood the controller with events", &beside, ""),
        relation,
    ];
    report.table(&format!("{jobs} jobs, one after the other, twice"), &TIMES, &rows, 1);
    report.figures("… and meanwhile", &[("the controller's processors in use", format!("{cpu:.2}"), "")]);
    Ok(())
}
