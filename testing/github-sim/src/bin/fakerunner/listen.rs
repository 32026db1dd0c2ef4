//! Connect, listen, run one job.

use crate::{
    code, console, failed, job,
    link::Link,
    root::{Root, is_truthy},
    stop::Stop,
    version,
};
use github_sim::{
    jit::JitConfig,
    runner_protocol::{Answer, Message},
    world::{JobOrder, Refusal, RunnerResult, RunnerSession},
};
use std::io;
use std::time::Duration;

/// So many attempts in a row, then the runner gives up, as the real one does.
const MAX_ERRORS: u32 = 10;
/// Pause between two questions that were answered at once.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn listen(root: &Root, config: &JitConfig) -> u8 {
    let ready = Link::new(&config.runner.server_url_v2).and_then(|link| Ok((link, Stop::new()?)));
    let (link, mut stop) = match ready {
        Ok(ready) => ready,
        Err(error) => return failed(&error.to_string(), code::TERMINATED),
    };
    let connected = tokio::select! {
        connected = connect(&link, config) => connected,
        () = stop.asked() => return code::SUCCESS,
    };
    let session = match connected {
        Ok(session) => session,
        Err(Refusal::NeverListening) => {
            stop.asked().await;
            return code::SUCCESS;
        }
        Err(refusal) => return refused(&refusal),
    };
    console::line(&format!("Current runner version: '{}'", version()));
    console::stamped("Listening for Jobs");

    let next = tokio::select! {
        next = next_job(&link, &session) => next,
        () = stop.asked() => {
            let _ = link.send(&Message::Stop { session }).await;
            return code::SUCCESS;
        }
    };
    let order = match next {
        Ok(order) => order,
        Err(Refusal::NotFound) => {
            console::line("The runner no longer exists on the server. Cleaning up local configuration.");
            root.forget();
            return code::SUCCESS;
        }
        Err(Refusal::VersionTooOld(version)) => {
            let _ = link.send(&Message::Stop { session }).await;
            return too_old(&version);
        }
        Err(Refusal::SessionInvalid) => {
            let _ = link.send(&Message::Stop { session }).await;
            return failed("Get next message failed with non-retryable error.", code::TERMINATED);
        }
        Err(refusal) => return failed(&refusal.to_string(), code::RETRYABLE),
    };
    let result = job::run(root, config, &link, &session, &order, &mut stop).await;
    if config.runner.ephemeral {
        root.forget();
    }
    match is_truthy("ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED") {
        true => 100 + number(result),
        false => code::SUCCESS,
    }
}

fn number(result: RunnerResult) -> u8 {
    match result {
        RunnerResult::Succeeded => 0,
        RunnerResult::SucceededWithIssues => 1,
        RunnerResult::Failed => 2,
        RunnerResult::Canceled => 3,
        RunnerResult::Skipped => 4,
        RunnerResult::Abandoned => 5,
    }
}

/// Says why the server does not want this runner, in the real one's words.
fn refused(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::NoRegistration | Refusal::NotFound => {
            console::error(
                "Failed to create a session. The runner registration has been deleted from the server, please \
                 re-configure. Runner registrations are automatically deleted for runners that have not connected \
                 to the service recently.",
            );
            code::TERMINATED
        }
        Refusal::SessionConflict => {
            // The real one says the first line every 30 seconds and the second after four minutes.
            console::error("A session for this runner already exists.");
            console::error("Stop retry on SessionConflictException after retried for 240 seconds.");
            console::error(&format!("Failed to create session. {refusal}"));
            code::SESSION_CONFLICT
        }
        Refusal::ClockSkew => {
            // The real one says the first line every 30 seconds and the others after half an hour.
            console::error(
                "The local machine's clock may be out of sync with the server time by more than five minutes. Please \
                 sync your clock with your domain or internet time and try again.",
            );
            console::error("Stopped retrying OAuth token request exception after 1800 seconds.");
            console::error(&format!("Failed to create session. {refusal}"));
            code::TERMINATED
        }
        Refusal::Forbidden
        | Refusal::VersionTooOld(_)
        | Refusal::SessionInvalid
        | Refusal::NeverListening
        | Refusal::JobGone
        | Refusal::BadConfig(_) => {
            console::error(&format!("Failed to create session. {refusal}"));
            code::TERMINATED
        }
    }
}

/// Since 2.333.0 there is an exit code for it.
fn too_old(version: &str) -> u8 {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    let has_code = (next(), next()) >= (2, 333);
    let wants_code = is_truthy("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE");
    let code = if has_code && wants_code { code::VERSION_DEPRECATED } else { code::TERMINATED };
    failed(&Refusal::VersionTooOld(version.to_owned()).to_string(), code)
}

/// Tells a streak of connection errors from single ones and says so once, and gives up at the tenth.
#[derive(Debug, Default)]
struct Streak(u32);

impl Streak {
    async fn failed(&mut self, error: &io::Error) -> Result<(), Refusal> {
        if self.0 == 0 {
            console::stamped_error(&format!("Runner connect error: {error}. Retrying until reconnected."));
        }
        self.0 += 1;
        if self.0 >= MAX_ERRORS {
            return Err(Refusal::BadConfig(error.to_string()));
        }
        // The real one waits 15 seconds and more; tests have less patience.
        tokio::time::sleep(Duration::from_secs(u64::from(self.0.min(5)))).await;
        Ok(())
    }

    fn went_well(&mut self) {
        if self.0 > 0 {
            console::stamped("Runner reconnected.");
        }
        self.0 = 0;
    }
}

async fn connect(link: &Link, config: &JitConfig) -> Result<RunnerSession, Refusal> {
    let message = Message::Connect {
        client_id: config.credentials.data.client_id.clone(),
        modulus: config.rsa_params.modulus.clone(),
        version: version(),
    };
    let mut streak = Streak::default();
    let answer = loop {
        match link.send(&message).await {
            Ok(answer) => break answer,
            Err(error) => streak.failed(&error).await?,
        }
    };
    console::line("");
    console::line("√ Connected to GitHub");
    console::line("");
    match answer {
        Answer::Session(session) => {
            streak.went_well();
            Ok(session)
        }
        Answer::Refused(refusal) => Err(refusal),
        other => Err(unexpected(&other)),
    }
}

async fn next_job(link: &Link, session: &RunnerSession) -> Result<JobOrder, Refusal> {
    let mut streak = Streak::default();
    let poll = Message::Poll { session: session.clone() };
    loop {
        let job = match link.send(&poll).await {
            Ok(Answer::Offer(job)) => job,
            Ok(Answer::Nothing) => {
                streak.went_well();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Ok(Answer::Refused(refusal)) => return Err(refusal),
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => {
                streak.failed(&error).await?;
                continue;
            }
        };
        let acquire = Message::Acquire { session: session.clone(), job };
        match link.send(&acquire).await {
            Ok(Answer::Order(order)) => return Ok(*order),
            // Somebody else has it, or it was cancelled: listen on.
            Ok(Answer::Refused(Refusal::JobGone)) => tokio::time::sleep(PAUSE).await,
            Ok(Answer::Refused(refusal)) => return Err(refusal),
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => streak.failed(&error).await?,
        }
    }
}

fn unexpected(answer: &Answer) -> Refusal {
    Refusal::BadConfig(format!("unexpected answer {answer:?}"))
}
