//! A real browser, Chromium without a window, that sees what a user at the lab's host would see.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fantoccini::{Client, ClientBuilder, wd::WebDriverCompatibleCommand};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

const DRIVER: &str = "/usr/bin/chromedriver";
const PORT: u16 = 9515;
/// Nothing of the browser's own goes out, and it may be root's.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// The browser. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    client: Client,
    runtime: tokio::runtime::Runtime,
    _profile: tempfile::TempDir,
}

/// Why there can be no browser here, if so.
pub fn missing() -> Option<String> {
    let found = std::path::Path::new(DRIVER).exists();
    (!found).then(|| format!("no {DRIVER}; Debian's chromium-driver has it"))
}

impl Browser {
    /// A browser in the network of process `pid`. The calling thread is in that network from now on.
    pub fn start(pid: u32) -> Result<Self> {
        let network = File::open(format!("/proc/{pid}/ns/net"))?;
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), Some(LinkNameSpaceType::Network))?;
        // The browser's many processes end with the driver: they have a process namespace of their own.
        let driver = Command::new("setpriv")
            .args(["--pdeathsig=KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", DRIVER])
            .arg(format!("--port={PORT}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("the browser's driver")?;
        let profile = tempfile::tempdir()?;
        let arguments: Vec<String> = ARGUMENTS
            .into_iter()
            .map(str::to_owned)
            .chain([format!("--user-data-dir={}", profile.path().display())])
            .collect();
        let wanted = json!({ "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" } });
        let Value::Object(wanted) = wanted else { bail!("capabilities are an object") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        let client = loop {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(wanted.clone());
            match runtime.block_on(builder.connect(&format!("http://127.0.0.1:{PORT}"))) {
                Ok(client) => break client,
                Err(error) if Instant::now() > deadline => bail!("no session with the browser: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        Ok(Self { driver, client, runtime, _profile: profile })
    }

    /// Opens a page.
    pub fn open(&self, url: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.client.goto(url))?)
    }

    /// What a script in the page returns.
    pub fn run(&self, script: &str) -> Result<Value> {
        Ok(self.runtime.block_on(self.client.execute(script, vec![]))?)
    }

    /// Waits until an expression in the page is true.
    pub fn wait(&self, expression: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if self.run(&format!("return Boolean({expression})"))? == Value::Bool(true) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let text = self.run("return document.body.innerText")?;
                bail!("not within {limit:?}: {expression}\nthe page says:\n{}", text.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses the tabulator key once.
    pub fn press_tab(&self) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            self.devtools(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 }),
            )?;
        }
        Ok(())
    }

    /// Shows pages as a screen of this size does, to somebody who prefers this theme (`light`, `dark`).
    pub fn appear(&self, width: u32, height: u32, theme: &str) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size)?;
        let theme = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        self.devtools("Emulation.setEmulatedMedia", theme)?;
        Ok(())
    }

    /// The page as a picture (PNG).
    pub fn picture(&self) -> Result<Vec<u8>> {
        Ok(self.runtime.block_on(self.client.screenshot())?)
    }

    /// What assistive technology is told of the page: role and name of each thing.
    pub fn accessible(&self) -> Result<Vec<(String, String)>> {
        let tree = self.devtools("Accessibility.getFullAXTree", json!({}))?;
        let nodes = tree["nodes"].as_array().context("no nodes")?;
        let seen = nodes.iter().filter(|node| node["ignored"] != true);
        let word = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        Ok(seen.map(|node| (word(&node["role"]), word(&node["name"]))).collect())
    }

    /// What the page's console has said since the last call.
    pub fn console(&self) -> Result<Vec<String>> {
        let said = self.command("se/log", json!({ "type": "browser" }))?;
        let lines = said.as_array().context("a log is a list")?;
        Ok(lines.iter().filter_map(|line| line["message"].as_str()).map(str::to_owned).collect())
    }

    fn devtools(&self, method: &str, parameters: Value) -> Result<Value> {
        self.command("goog/cdp/execute", json!({ "cmd": method, "params": parameters }))
    }

    fn command(&self, path: &'static str, body: Value) -> Result<Value> {
        Ok(self.runtime.block_on(self.client.issue_cmd(Vendor { path, body }))?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.client.clone().close());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A command that only Chromium's driver knows.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

/// Writes a picture where `GHA_SCREENSHOTS` says, if it does.
pub fn keep(picture: &[u8], name: &str) -> Result<()> {
    ensure!(picture.starts_with(b"\x89PNG"), "{name} is not a picture");
    if let Some(directory) = std::env::var_os("GHA_SCREENSHOTS") {
        std::fs::create_dir_all(&directory)?;
        std::fs::write(std::path::Path::new(&directory).join(name), picture)?;
    }
    Ok(())
}
