//! Connections: accept them, bound what they may send before a request exists,
//! and end them gracefully.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

use super::front::Front;
use super::stall::Unstalled;
use crate::config::ServerConfig;

/// hyper's own default. Setting it, even to the same, costs an allocation for
/// each request.
const DEFAULT_HEADER_COUNT: usize = 100;

/// Starts listening; connections wait until [`serve`].
pub async fn listen(config: &ServerConfig) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let (host, port) = (config.host.trim_matches(['[', ']']), config.port);
    let listener = TcpListener::bind((host, port)).await.with_context(|| {
        format!("cannot listen on {host} port {port} (server.host, server.port)")
    })?;
    let address = listener
        .local_addr()
        .context("cannot tell the address that is listened on")?;
    Ok((listener, address))
}

/// Serves until the first `shutdown`, then lets requests in flight end within
/// the grace, or until the second: who asks twice does not want to wait.
pub async fn serve<F: Future<Output = ()>>(
    listener: TcpListener,
    front: Front,
    config: &ServerConfig,
    shutdown: impl Fn() -> F,
) {
    let http = http1_settings(config);
    let connections = GracefulShutdown::new();
    let first = shutdown();
    tokio::pin!(first);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Answers are small and whole: waiting to fill a packet only delays them.
                    let _ = stream.set_nodelay(true);
                    let front = front.clone();
                    let service = service_fn(move |request| front.answer(peer.ip(), request));
                    let connection = connections.watch(http.serve_connection(TokioIo::new(Unstalled::new(stream, config.write_timeout)), service));
                    tokio::spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "connection ended early");
                        }
                    });
                }
                Err(error) => wait_out(error).await,
            },
            () = &mut first => break,
        }
    }
    drop(listener);
    let open = connections.count();
    tracing::info!(connections = open, "shutting down");
    let in_time = tokio::select! {
        ended = tokio::time::timeout(config.shutdown_grace, connections.shutdown()) => ended.is_ok(),
        () = shutdown() => false,
    };
    if !in_time {
        tracing::warn!("requests were cut: they did not end within server.shutdown_grace");
    }
}

/// Most accept errors belong to one connection and the next one is fine; without
/// free file descriptors, though, trying at once would only burn a core.
async fn wait_out(error: std::io::Error) {
    tracing::warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn http1_settings(config: &ServerConfig) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // Against clients that send a head byte by byte, or nothing at all.
        .header_read_timeout(config.header_timeout)
        .max_header_size(config.header_limit);
    if config.header_count != DEFAULT_HEADER_COUNT {
        http.max_headers(config.header_count);
    }
    http
}
