//! The signals that the server heeds: Ctrl-C, or SIGTERM from whoever runs it,
//! ends it; SIGHUP has it read its configuration again.

/// Resolves when the process is asked to end.
pub async fn requested() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

/// Hang-ups. While it lives they do not end the process, as they would else.
#[cfg(unix)]
pub struct Hangup(tokio::signal::unix::Signal);

/// Hang-ups, which this system does not have.
#[cfg(not(unix))]
pub struct Hangup;

#[cfg(unix)]
impl Hangup {
    /// Starts listening.
    pub fn new() -> std::io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one; nothing when there will be none.
    pub async fn next(&mut self) -> Option<()> {
        self.0.recv().await
    }
}

#[cfg(not(unix))]
impl Hangup {
    /// Starts listening, to nothing.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    /// There will be none.
    pub async fn next(&mut self) -> Option<()> {
        None
    }
}
