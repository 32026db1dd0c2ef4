//! `status`, also `runner-status`: what the controller on this host is doing.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    api::{self, Health},
    config::PRIVILEGED_COST,
    controller::status::{Finished, IntakeStatus, SetStatus, Status, WaitingFor},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const BODY_LIMIT: usize = 16 << 20;
/// Ended containers shown to people.
const ENDED_SHOWN: usize = 10;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the whole document for programs.
    #[arg(long)]
    json: bool,
    /// Address the controller listens on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Port the controller listens on.
    #[arg(long, env = "HTTP_PORT", default_value_t = 8080)]
    port: u16,
}

/// Prints the status. Exit status 0 = healthy, 3 = not healthy, 1 = no answer.
pub fn main(args: Args) -> ExitCode {
    match print(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            super::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn print(args: &Args) -> anyhow::Result<bool> {
    let at = SocketAddr::from((args.address, args.port));
    let body = super::block_on(async {
        tokio::time::timeout(TIMEOUT, get(at, "/status")).await.unwrap_or_else(|_| bail!("no answer within 5 s"))
    });
    let body = body.with_context(|| {
        format!("the controller at {at} cannot be asked. Remedy: systemctl status gha-runner-controller, or --port")
    })?;
    let status: Status = serde_json::from_slice(&body).context("the answer is not a status document")?;
    let health = api::health(&status, api::now_ms());
    if args.json {
        println!("{}", String::from_utf8_lossy(&body));
    } else {
        print!("{}", for_people(&status, &health));
    }
    Ok(health.reasons.is_empty())
}

async fn get(at: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(at).await?;
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", at.to_string()).body(Empty::<Bytes>::new())?;
    let answer = client.send_request(request).await?;
    if !answer.status().is_success() {
        bail!("{path} answered {}", answer.status());
    }
    match Limited::new(answer.into_body(), BODY_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => bail!("the answer broke off: {error}"),
    }
}

/// The status as text: health, containers, queue, the last ends.
pub fn for_people(status: &Status, health: &Health) -> String {
    let mut text = String::new();
    let intake = if status.intake { "" } else { ", taking no new jobs" };
    let _ = writeln!(
        text,
        "gha-runner-controller {} on {}: {}{intake}, {} of {} containers",
        status.version,
        status.host,
        health.status,
        status.active_containers.len(),
        status.max_concurrent
    );
    for reason in &health.reasons {
        let _ = writeln!(text, "  ! {reason}");
    }
    for class in status.classes.iter().filter(|class| class.privileged) {
        let _ = writeln!(text, "  class {} is {PRIVILEGED_COST}", class.name);
    }
    for target in &status.targets {
        let polled =
            target.last_poll_age_seconds.map_or("never polled".to_owned(), |age| format!("polled {age} s ago"));
        let limit = target
            .rate_limit
            .map_or(String::new(), |limit| format!(", {} of {} calls left", limit.remaining, limit.limit));
        let _ = writeln!(text, "  {}: {} queued, {polled}{limit}", target.repo, target.queued);
    }
    for set in &status.sets {
        let _ = writeln!(text, "{}", set_shown(set));
    }
    if !status.active_containers.is_empty() {
        let rows = status.active_containers.iter().map(|container| {
            vec![
                container.name.clone(),
                container.phase.to_string(),
                container.class.clone(),
                container.repo.clone(),
                container.job_id.map_or("-".into(), |id| id.to_string()),
                seconds(container.running_seconds),
                container.subnet.clone(),
                container.job_name.clone(),
            ]
        });
        let head = ["CONTAINER", "PHASE", "CLASS", "REPOSITORY", "JOB", "FOR", "SUBNET", "NAME"];
        text.push_str(&table(&head, rows));
    }
    if !status.queue.is_empty() {
        let rows = status.queue.iter().map(|job| {
            vec![
                job.job_id.to_string(),
                job.repo.clone(),
                seconds(job.waiting_seconds),
                waiting_shown(job.waiting).to_owned(),
                job.labels.join(","),
                job.name.clone(),
            ]
        });
        text.push_str(&table(&["QUEUED JOB", "REPOSITORY", "FOR", "WAITS FOR", "LABELS", "NAME"], rows));
    }
    if !status.finished.is_empty() {
        let rows = status.finished.iter().rev().take(ENDED_SHOWN).map(|ended| finished_row(ended));
        text.push_str(&table(&["ENDED", "CAUSE", "CLASS", "REPOSITORY", "JOB", "RAN", "NAME"], rows));
    }
    text
}

/// How the jobs of a class are found where it could have a scale set, and why not by that.
fn set_shown(set: &SetStatus) -> String {
    let intake = match (set.intake, &set.reason) {
        (IntakeStatus::ScaleSet, _) => {
            format!("by scale set, {} assigned, {} of them running", set.assigned, set.running)
        }
        (IntakeStatus::Polling, None) => "by polling until its scale set is open".to_owned(),
        (IntakeStatus::Polling, Some(_)) => "by polling".to_owned(),
        (IntakeStatus::None, _) => "not: it has no scale set".to_owned(),
    };
    let reason = set.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("  class {} in {}: jobs are found {intake}{reason}", set.class, set.scope)
}

fn finished_row(ended: &Finished) -> Vec<String> {
    let timeline = &ended.timeline;
    let ran = match (timeline.job_started_ms, timeline.job_ended_ms.or(timeline.ended_ms)) {
        (Some(from), Some(to)) => seconds(to.saturating_sub(from) / 1000),
        _ => "-".into(),
    };
    vec![
        ended.name.clone(),
        ended.cause.to_string(),
        ended.class.clone(),
        ended.repo.clone(),
        ended.job_id.map_or("-".into(), |id| id.to_string()),
        ran,
        ended.job_name.clone(),
    ]
}

/// Why a job waits, for people.
pub fn waiting_shown(waiting: WaitingFor) -> &'static str {
    match waiting {
        WaitingFor::NoMatchingClass => "no class has its labels",
        WaitingFor::Runner => "its container",
        WaitingFor::Capacity => "a free place",
        WaitingFor::Share => "its target's turn",
        WaitingFor::TargetLimit => "its target's limit",
        WaitingFor::BackOff => "end of back-off",
        WaitingFor::RunnerVersion => "a newer runner",
        WaitingFor::Refused => "nobody: from a fork",
        WaitingFor::Quarantine => "its repository",
        WaitingFor::Assignment => "its scale set",
        WaitingFor::Intake => "intake (stopping)",
    }
}

fn seconds(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

/// Columns as wide as their widest cell; control characters, which job names may hold, are dropped.
pub(super) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let plain = |cell: String| cell.chars().filter(|c| !c.is_control()).take(60).collect::<String>();
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect())
        .chain(rows.map(|row| row.into_iter().map(plain).collect()))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::from("\n");
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_name_cannot_write_to_the_terminal() {
        let shown = table(&["A"], std::iter::once(vec!["\u{1b}[2Jowned\n".to_owned()]));
        assert_eq!(shown, "\nA\n[2Jowned\n");
    }
}
