//! Runs programs in a place of the lab.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a program in the lab sees of the environment: nothing of the test's.
pub fn environment() -> [(&'static str, &'static str); 5] {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("SYSTEMD_PAGER", "cat"),
        ("SYSTEMD_COLORS", "0"),
    ]
}

/// What a program that ended said.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    command: String,
}

impl Output {
    /// Whether it ended with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// Standard output as text, without the white space at its end.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Standard error as text, without the white space at its end.
    #[must_use]
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end().to_owned()
    }

    /// The output if the program succeeded, else an error that quotes what it said.
    pub fn check(self) -> Result<Self> {
        if !self.success() {
            bail!("{} ended with {}:\n{}\n{}", self.command, self.status, self.text(), self.errors());
        }
        Ok(self)
    }
}

/// The command line that runs `arguments` in the namespaces that `enter` names. The program is killed when its
/// `nsenter` is, so that one which hangs can be ended.
pub fn entering(enter: &[OsString], privileges: &[OsString], arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args(enter)
        .args(["--", "setpriv", "--pdeathsig=KILL"])
        .args(privileges)
        .arg("--")
        .args(arguments)
        .env_clear()
        .envs(environment())
        .current_dir("/");
    command
}

/// Runs `command`, feeding it `input`, and ends it after `timeout`.
pub fn run(mut command: Command, input: &[u8], timeout: Duration) -> Result<Output> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // A program that does not read its input is no error here.
        thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
    }
    let Some(status) = wait(&mut child, timeout)? else {
        kill(&mut child);
        bail!(
            "{name} did not end within {timeout:?}; until then it said:\n{}\n{}",
            String::from_utf8_lossy(&stdout.so_far()),
            String::from_utf8_lossy(&stderr.so_far())
        );
    };
    Ok(Output { status, stdout: stdout.finish(), stderr: stderr.finish(), command: name })
}

/// Waits for `child` to end; `None` when it has not within `timeout`.
pub fn wait(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Kills the program that runs in `nsenter`'s child, so that `nsenter` collects it and ends too. Killing `nsenter` alone
/// would end the program a moment later, and leave what is left of it to a process 1 that may not care.
fn kill(nsenter: &mut Child) {
    let program = crate::host::children(nsenter.id()).first().copied();
    let program = program.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(program) = program {
        let _ = rustix::process::kill_process(program, rustix::process::Signal::KILL);
        if matches!(wait(nsenter, Duration::from_secs(1)), Ok(Some(_))) {
            return;
        }
    }
    let _ = nsenter.kill();
    let _ = nsenter.wait();
}

/// A pipe that a thread reads, so that neither of two pipes can fill up.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Collected {
    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of it. A daemon that the program left behind may hold the pipe open for ever: it gets a moment only.
    fn finish(mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            let deadline = Instant::now() + Duration::from_secs(1);
            while !reader.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_micros(200));
            }
        }
        self.so_far()
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&bytes);
    let reader = pipe.map(|mut pipe| {
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        })
    });
    Collected { bytes, reader }
}

/// A program that runs in the lab. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn new(child: Child) -> Self {
        Self { child }
    }

    /// The program's own process number, as this process sees it (for signals); `None` once it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        // Its parent is the nsenter that we started.
        crate::host::children(self.child.id()).first().copied()
    }

    /// Waits for it to end; `None` when it has not within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        wait(&mut self.child, timeout)
    }

    /// Kills it and waits for it.
    pub fn kill(&mut self) {
        kill(&mut self.child);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
