//! When to look at a folder again: file events, gathered until it is quiet.
//!
//! Used by the registry for the plugin folder and by `coglex dev` for sources.
//! It tells *that* something changed; what changed is for the reader of the
//! folder to find out, so a lost or doubled event does no harm.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// A burst of events (an editor's save, a copy in chunks) counts as one change
/// once this long has passed without another.
const QUIET: Duration = Duration::from_millis(30);

/// A folder that never falls quiet is looked at this often all the same.
const AT_MOST: Duration = Duration::from_millis(500);

/// Without events (a network file system, the target of a symbolic link) a
/// folder is looked at this often.
const POLL: Duration = Duration::from_secs(2);

/// Watches paths until it is dropped.
pub struct Watch {
    changed: Arc<Notify>,
    /// Events come for as long as it lives.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Starts watching `paths`. `relevant` tells which files matter.
    pub fn new(
        paths: &[PathBuf],
        mode: RecursiveMode,
        relevant: impl Fn(&Path) -> bool + Send + 'static,
    ) -> notify::Result<Self> {
        let changed = Arc::new(Notify::new());
        let tell = Arc::clone(&changed);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let matters = match &event {
                    // Reading a file is no change; closing it after a write is.
                    Ok(event) => match event.kind {
                        EventKind::Access(notify::event::AccessKind::Close(mode)) => {
                            mode == notify::event::AccessMode::Write
                        }
                        EventKind::Access(_) => false,
                        _ => true,
                    },
                    Err(_) => true,
                };
                let paths = event
                    .as_ref()
                    .map(|event| event.paths.as_slice())
                    .unwrap_or_default();
                if matters && (paths.is_empty() || paths.iter().any(|path| relevant(path))) {
                    tell.notify_one();
                }
            })?;
        for path in paths {
            watcher.watch(path, mode)?;
        }
        Ok(Self {
            changed,
            _watcher: Some(watcher),
        })
    }

    /// Watches the plugin folder. Without events, as on a system that has run out
    /// of watches, what remains is to look every now and then.
    pub fn folder(dir: &Path) -> Self {
        Self::new(&[dir.to_owned()], RecursiveMode::NonRecursive, |_| true).unwrap_or_else(|error| {
            tracing::warn!(%error, "no file events; the plugin folder is looked at every {POLL:?}");
            Self { changed: Arc::default(), _watcher: None }
        })
    }

    /// Waits for a change and then for quiet.
    pub async fn changed(&self) {
        self.changed.notified().await;
        let settle = async {
            while tokio::time::timeout(QUIET, self.changed.notified())
                .await
                .is_ok()
            {}
        };
        // Both ends mean the same: look now.
        let _ = tokio::time::timeout(AT_MOST, settle).await;
    }

    /// As [`Self::changed`], but returns after a while even without an event.
    pub async fn changed_or_due(&self) {
        let _ = tokio::time::timeout(POLL, self.changed()).await;
    }
}
