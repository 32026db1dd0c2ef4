//! The simulated GitHub as a program.

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use github_sim::{
    Config, ControlClient, World, hook_sender,
    server::{Doors, Shared},
};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// A simulated GitHub for tests: REST, job queue, one-job runners, faults on request.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Cli {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Send one command to a running simulator and print its answer.
    Ctl {
        /// Its control socket.
        #[arg(long, env = "GITHUB_SIM_CONTROL_SOCKET")]
        control_socket: PathBuf,
        /// The command as JSON, such as '{"do":"jobs"}'; read from standard input if absent.
        command: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Where clients and runners connect; may be given several times.
    #[arg(long, value_name = "ADDR:PORT", required = true)]
    listen: Vec<SocketAddr>,
    /// Socket of the back door.
    #[arg(long, value_name = "PATH", required = true)]
    control_socket: Option<PathBuf>,
    /// Open the back door on the TCP listeners too.
    #[arg(long)]
    control_on_tcp: bool,
    /// An accepted token; may be given several times.
    #[arg(long)]
    token: Vec<String>,
    /// A file with one accepted token a line.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Seed of everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The address written into runner configurations and links; the first listener's if absent.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Requests an hour and token; 0 for none counted.
    #[arg(long, default_value_t = 5_000)]
    rate_limit: u64,
    /// A repository to begin with, `owner/name`; may be given several times.
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Vec<String>,
    /// Make the slow endings of GitHub (lost runner, stopped runner, lingering records) so many times faster.
    #[arg(long, value_name = "FACTOR", default_value_t = 1)]
    hurry: u32,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.task {
        Some(Task::Ctl { control_socket, command }) => ctl(&control_socket, command),
        None => tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(cli.serve)),
    }
}

fn ctl(socket: &Path, command: Option<String>) -> anyhow::Result<()> {
    let command = match command {
        Some(command) => command.into_bytes(),
        None => {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text)?;
            text
        }
    };
    let answer = ControlClient::connect(socket)?.call_raw(command)?;
    println!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}

async fn serve(cli: Serve) -> anyhow::Result<()> {
    let mut tokens = cli.token;
    if let Some(path) = &cli.token_file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the tokens in {}", path.display()))?;
        tokens.extend(text.split_whitespace().map(ToOwned::to_owned));
    }
    if tokens.is_empty() {
        bail!("no token would be accepted: give --token or --token-file");
    }
    let mut listeners = Vec::new();
    for address in &cli.listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        listeners.push(listener);
    }
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let base_url = match (cli.public_url, addresses.first()) {
        (Some(url), _) => url,
        (None, Some(address)) => format!("http://{address}/"),
        (None, None) => bail!("no address to listen on"),
    };

    let mut config = Config {
        seed: cli.seed,
        base_url,
        tokens,
        rate_limit: (cli.rate_limit > 0).then_some(cli.rate_limit),
        ..Config::default()
    };
    config.hurry(cli.hurry);
    let mut world = World::new(config);
    for name in cli.repo {
        world.add_repo(&github_sim::world::RepoSpec { name, private: false })?;
    }

    let world = Shared::new(world);
    let mut tasks = JoinSet::new();
    let doors = match cli.control_on_tcp {
        true => Doors::All,
        false => Doors::Public,
    };
    for listener in listeners {
        tasks.spawn(world.clone().serve_tcp(listener, doors));
    }
    let socket = cli.control_socket.context("no control socket")?;
    tasks.spawn(world.clone().serve_unix(bind(&socket)?, Doors::All));
    tasks.spawn(async move {
        hook_sender::run(world).await;
        Ok(())
    });

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    println!("github-sim: listening on {}, control on {}", shown.join(", "), socket.display());
    std::io::stdout().flush()?;

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        Some(ended) = tasks.join_next() => ended?.context("a listener broke")?,
    }
    // The next simulator makes its own.
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// A socket left over by a simulator that was killed is in the way of the next one.
fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(socket).is_err() {
        let _ = std::fs::remove_file(socket);
    }
    UnixListener::bind(socket).with_context(|| format!("cannot listen on {}", socket.display()))
}
