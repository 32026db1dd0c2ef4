//! `mcp`: tools for programs that speak the Model Context Protocol, over standard input and output.

use std::{process::ExitCode, sync::Arc};

use api::mcp::{Answer, Api, Tools};
use futures_util::FutureExt;
use http::Method;
use rmcp::{ServiceExt, transport::stdio};
use serde_json::{Value, json};

use super::{ConfigFile, check, client::Reach, conclude, runtime};

/// Arguments of `mcp`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    config: ConfigFile,
}

/// Until standard input ends. Exit status 0 = it did, 1 = the other side does not speak the protocol.
pub(super) fn main(args: Args) -> ExitCode {
    conclude(serve(args).map(|()| ExitCode::SUCCESS))
}

fn serve(args: Args) -> anyhow::Result<()> {
    let config = args.config;
    let check = Arc::new(move || Ok(json!(check::findings(&config.load()?, false)?)));
    let tools = Tools::new(Arc::new(args.reach), Some(check));
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        tools.serve(stdio()).await?.waiting().await?;
        anyhow::Ok(())
    });
    // A read of standard input cannot be given up.
    runtime.shutdown_background();
    ended
}

impl Api for Reach {
    fn ask(&self, method: Method, path: String, body: Option<Value>) -> Answer {
        let reach = self.clone();
        async move {
            let answer = reach.answer(method, &path, body.map(|body| body.to_string().into())).await?;
            Ok((answer.code, answer.body))
        }
        .boxed()
    }
}
