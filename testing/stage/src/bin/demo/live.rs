//! The live view: refreshed in place on a terminal, lines of changes elsewhere.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Instant,
};

use controller::status::{ActiveContainer, Finished, Status};
use stage::show::{plain, table};

/// Ended containers shown in place.
const ENDED_SHOWN: usize = 5;

/// The view.
#[derive(Debug)]
pub struct Live {
    begun: Instant,
    terminal: bool,
    /// Lines of the picture on the terminal.
    drawn: usize,
    /// What was last said of each container and each queued job, when not a terminal.
    said: BTreeMap<String, String>,
}

impl Live {
    /// An empty view.
    pub fn new() -> Self {
        Self { begun: Instant::now(), terminal: std::io::stdout().is_terminal(), drawn: 0, said: BTreeMap::new() }
    }

    /// Shows how things are.
    pub fn show(&mut self, status: &Status) {
        if self.terminal {
            self.draw(&picture(status, self.begun.elapsed().as_secs_f64()));
        } else {
            self.tell(status);
        }
    }

    /// A line of the demonstration itself, above the picture.
    pub fn note(&mut self, text: &str) {
        self.erase();
        println!("{:+7.2} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    /// Takes the picture away.
    pub fn erase(&mut self) {
        if self.drawn > 0 {
            print!("\x1b[{}A\x1b[J", self.drawn);
            let _ = std::io::stdout().flush();
            self.drawn = 0;
        }
    }

    fn draw(&mut self, lines: &[String]) {
        let (rows, columns) = rustix::termios::tcgetwinsize(std::io::stdout())
            .map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        // A line that wraps, or a picture taller than the terminal, could not be taken away again.
        let cut = |line: &String| line.chars().take(columns.saturating_sub(1).max(20)).collect::<String>();
        let lines: Vec<String> = lines.iter().take(rows.saturating_sub(1).max(5)).map(cut).collect();
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        let text: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        print!("{up}{text}\x1b[J");
        let _ = std::io::stdout().flush();
        self.drawn = lines.len();
    }

    fn tell(&mut self, status: &Status) {
        let mut news = Vec::new();
        for job in &status.queue {
            let text = format!("job {} \"{}\" waits: {}", job.job_id, plain(&job.name), job.reason);
            self.news(format!("job {}", job.job_id), text, &mut news);
        }
        for container in &status.active_containers {
            let text =
                format!("{} {} ({}, {})", container.name, container.phase, container.class, plain(&container.job_name));
            self.news(container.name.clone(), text, &mut news);
        }
        for ended in &status.finished {
            let text = format!("{} ended: {} ({})", ended.name, ended.cause, plain(&ended.job_name));
            self.news(format!("end of {} {}", ended.name, ended.runner_name), text, &mut news);
        }
        for text in news {
            self.note(&text);
        }
    }

    fn news(&mut self, key: String, text: String, news: &mut Vec<String>) {
        if self.said.get(&key) != Some(&text) {
            news.push(text.clone());
            self.said.insert(key, text);
        }
    }
}

fn picture(status: &Status, seconds: f64) -> Vec<String> {
    let mut lines = vec![format!(
        "── {seconds:5.1} s ── {} of {} containers, {} queued, {} ended ──",
        status.active_containers.len(),
        status.max_concurrent,
        status.queue.len(),
        status.finished.len()
    )];
    let containers: Vec<Vec<String>> =
        status.active_containers.iter().map(|container| container_row(container, status.updated_ms)).collect();
    lines.extend(table(&["CONTAINER", "PHASE", "AGE", "CLASS", "REPOSITORY", "NAME"], &containers, 9));
    lines.push(String::new());
    let queue: Vec<Vec<String>> = status
        .queue
        .iter()
        .map(|job| vec![job.job_id.to_string(), job.reason.clone(), job.labels.join(","), plain(&job.name)])
        .collect();
    lines.extend(table(&["QUEUED JOB", "WAITS", "LABELS", "NAME"], &queue, 9));
    lines.push(String::new());
    let ended: Vec<Vec<String>> =
        status.finished.iter().rev().take(ENDED_SHOWN).map(|ended| ended_row(ended)).collect();
    lines.extend(table(&["ENDED", "CAUSE", "LIVED", "CLASS", "NAME"], &ended, 9));
    lines
}

fn container_row(container: &ActiveContainer, now_ms: u64) -> Vec<String> {
    let age = now_ms.saturating_sub(container.timeline.recorded_ms.unwrap_or(now_ms));
    vec![
        container.name.clone(),
        container.phase.to_string(),
        seconds(age),
        container.class.clone(),
        container.repo.clone(),
        plain(&container.job_name),
    ]
}

fn ended_row(ended: &Finished) -> Vec<String> {
    let timeline = &ended.timeline;
    let lived = match (timeline.recorded_ms, timeline.ended_ms) {
        (Some(from), Some(to)) => seconds(to.saturating_sub(from)),
        _ => "-".into(),
    };
    vec![ended.name.clone(), ended.cause.to_string(), lived, ended.class.clone(), plain(&ended.job_name)]
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}
