//! `coglex serve`: from a configuration to a server that has ended well.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;

use crate::app::{App, AppState};
use crate::config::Loaded;
use crate::http::{self, server};
use crate::{shutdown, telemetry};

/// Serves until the process is asked to end.
pub fn serve(loaded: Loaded) -> anyhow::Result<()> {
    telemetry::start(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the server")?;
    runtime.block_on(run(loaded))
}

async fn run(loaded: Loaded) -> anyhow::Result<()> {
    let app = App::new(loaded.config, Arc::new(crate::app::NoStore))?;
    let state = AppState::from(app);
    let (listener, address) = server::listen(&state.config.server).await?;
    announce(&state, address).context("cannot print the address")?;
    let front = http::front(state.clone())?;
    server::serve(listener, front, &state.config.server, shutdown::requested()).await;
    tracing::info!("stopped");
    Ok(())
}

/// What the person or program that started the server has to know. On standard
/// output, apart from the log; the address is the real one, also for port 0.
fn announce(state: &AppState, address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if state.api_key_is_new {
        writeln!(
            out,
            "generated API key (X-API-Key), kept in {}: {}",
            state.config.data.dir.join("secret").display(),
            state.api_key.expose()
        )?;
    }
    writeln!(out, "listening on http://{address}")?;
    out.flush()
}
