//! What those who ask for the status and listen to events cost the jobs: the same burst with them and without.

use std::{
    fs::File,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use stage::{Stage, show};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    burst,
    footprint::Controller,
    report::{Report, TIMES, times},
    stats::Sample,
};

const AT: &str = "127.0.0.1:8080";
/// Requests a second.
const RATE: u32 = 1000;
/// Connections they come over.
const CLIENTS: u32 = 20;
const LISTENERS: u64 = 200;
/// They begin before the jobs are queued, and go on until all have ended.
const LEAD: Duration = Duration::from_secs(1);
/// Requests over one connection: it may live half a minute.
const KEPT: u32 = 500;

/// What those who ask and listen got.
#[derive(Debug, Default)]
struct Served {
    /// From the moment a request was due to the end of its answer, in milliseconds.
    answers: Sample,
    /// Bytes of the last answer.
    size: usize,
    /// Requests that were due.
    due: u64,
    /// Requests that were not answered with 200, and listeners that were cut off.
    failed: u64,
    /// Events heard, by all of them.
    events: u64,
    /// Their own processor time.
    cpu: Duration,
}

/// Bursts by turns, without and with them, and the table.
pub fn measure(stage: &Stage, rounds: usize, jobs: usize, report: Report) -> Result<()> {
    let (mut alone, mut asked) = (Sample::default(), Sample::default());
    let (mut cpu_alone, mut cpu_asked) = (Duration::ZERO, Duration::ZERO);
    let mut served = Served::default();
    let mut resident: f64 = 0.0;
    // The first burst finds cold caches.
    show::doing(&format!("{jobs} jobs, to begin with"), || burst::run(stage, jobs))?;
    for round in 1..=rounds {
        let burst =
            show::doing(&format!("{jobs} jobs and nobody asks, {round} of {rounds}"), || burst::run(stage, jobs))?;
        alone.extend(&burst.started());
        cpu_alone += burst.cpu;
        let burst = show::doing(&format!("{jobs} jobs and many ask, {round} of {rounds}"), || {
            let host = stage.lab.host_pid()?;
            let (stop, stopped) = watch::channel(false);
            let crowd = thread::spawn(move || crowd(host, &stopped));
            thread::sleep(LEAD);
            let burst = burst::run(stage, jobs);
            stop.send_replace(true);
            let got = crowd.join().map_err(|_| anyhow::anyhow!("those who ask panicked"))??;
            served.answers.extend(&got.answers);
            served.size = got.size;
            served.due += got.due;
            served.failed += got.failed;
            served.events += got.events;
            served.cpu += got.cpu;
            burst
        })?;
        asked.extend(&burst.started());
        cpu_asked += burst.cpu;
        resident = resident.max(Controller::find(stage)?.used()?.rss);
    }
    let ratio = |percent| asked.percentile(percent) / alone.percentile(percent).max(0.001);
    let mut relation = vec!["with / without".to_owned()];
    relation.extend([50, 95, 100].map(|percent| format!("{:.2}", ratio(percent))));
    relation.push("p95 ≤ 1.10".to_owned());
    let rows = [
        times("visible → job started, nobody asks", &alone, ""),
        times("… with 1000 requests a second and 200 event streams", &asked, ""),
        relation,
    ];
    report.table(&format!("{jobs} jobs at once, {rounds} times each"), &TIMES, &rows, 1);
    #[allow(clippy::cast_precision_loss, reason = "a few")]
    let each = |cpu: Duration| format!("{:.2}", cpu.as_secs_f64() / rounds as f64);
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let heard = served.events as f64 / (rounds as u64 * LISTENERS) as f64;
    report.figures(
        "… and those who ask",
        &[
            ("requests answered", format!("{} of {}", served.answers.len(), served.due), "all"),
            ("failed, or cut off", served.failed.to_string(), "0"),
            ("an answer, KiB", format!("{}", served.size / 1024), ""),
            ("due → answered, p50 ms", format!("{:.1}", served.answers.percentile(50)), ""),
            ("due → answered, p95 ms", format!("{:.1}", served.answers.percentile(95)), ""),
            ("events to each listener, a burst", format!("{heard:.0}"), ""),
            ("the controller's processor time in a burst, nobody asks, s", each(cpu_alone), ""),
            ("… with them, s", each(cpu_asked), ""),
            ("their own, s", each(served.cpu), ""),
            ("the controller's resident memory then, MiB", format!("{resident:.1}"), ""),
        ],
    );
    Ok(())
}

/// All of them, in the network of process `host`. In real life they are
/// elsewhere: here what they themselves use of the processors is missing to the jobs.
fn crowd(host: u32, stop: &watch::Receiver<bool>) -> Result<Served> {
    let network = File::open(format!("/proc/{host}/ns/net"))?;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let events = Arc::new(AtomicU64::new(0));
        let mut listeners = JoinSet::new();
        for _ in 0..LISTENERS {
            listeners.spawn(listen(stop.clone(), events.clone()));
        }
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(ask(number, stop.clone()));
        }
        let mut served = Served::default();
        while let Some(client) = clients.join_next().await {
            let got = client?;
            served.answers.extend(&got.answers);
            served.size = served.size.max(got.size);
            served.due += got.due;
            served.failed += got.failed;
        }
        while let Some(listener) = listeners.join_next().await {
            served.failed += u64::from(listener?.is_err());
        }
        served.events = events.load(Relaxed);
        // Nanoseconds on a processor come first.
        let spent = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        served.cpu = Duration::from_nanos(spent.split(' ').next().context("no time")?.parse()?);
        Ok(served)
    })
}

/// One that asks for the status again and again, when it is time.
async fn ask(number: u32, stop: watch::Receiver<bool>) -> Served {
    let mut served = Served::default();
    let pause = Duration::from_secs(1) * CLIENTS / RATE;
    let mut ticks = interval_at(Instant::now() + pause * number / CLIENTS, pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut connection = None;
    while !*stop.borrow() {
        let due = ticks.tick().await;
        served.due += 1;
        if served.due.is_multiple_of(KEPT.into()) {
            connection = None;
        }
        let answer = async {
            let stream = match &mut connection {
                Some(stream) => stream,
                None => connection.insert(TcpStream::connect(AT).await?),
            };
            answer(stream).await
        };
        match answer.await {
            Ok(size) => {
                served.size = size;
                served.answers.add(due.elapsed().as_secs_f64() * 1000.0);
            }
            Err(_) => {
                served.failed += 1;
                connection = None;
            }
        }
    }
    served
}

/// Asks once. Gives the answer's size.
async fn answer(stream: &mut TcpStream) -> Result<usize> {
    stream.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let mut heard = Vec::with_capacity(64 << 10);
    loop {
        if stream.read_buf(&mut heard).await? == 0 {
            bail!("cut off");
        }
        let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&heard[..end])?.to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            bail!("{head}");
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        let whole = end + 4 + length.parse::<usize>()?;
        while heard.len() < whole {
            if stream.read_buf(&mut heard).await? == 0 {
                bail!("cut off");
            }
        }
        return Ok(whole - end - 4);
    }
}

/// One that listens until it is to stop, and counts what it hears. An error = it was cut off before.
async fn listen(mut stop: watch::Receiver<bool>, events: Arc<AtomicU64>) -> Result<()> {
    let mut stream = TcpStream::connect(AT).await?;
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let mut heard = vec![0; 16 << 10];
    loop {
        let count = tokio::select! {
            count = stream.read(&mut heard) => count?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        if count == 0 {
            bail!("cut off");
        }
        // Each begins a line of its own; one that is torn apart is counted late or not.
        let begun = heard[..count].windows(7).filter(|seven| seven == b"event: ").count();
        events.fetch_add(begun as u64, Relaxed);
    }
}
