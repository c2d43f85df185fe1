//! Many plugins, and many versions of them, out of one build: `bench-numbered` and
//! `bench-large` carry texts that are written over in the component. Each copy has
//! its own route and content, so nothing of one can be taken for another's, by the
//! server's cache of compiled code neither.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::http::Connection;

/// The guests that this needs.
pub(crate) const GUESTS: [&str; 2] = ["bench-numbered", "bench-large"];

const PATH: &str = "/numbered/plugin-0000";
const ANSWER: &str = "the-answer-is-00000000";

/// A new version that is not served by then never will be.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// The plugin folder of a server.
pub(crate) struct Fleet {
    folder: PathBuf,
    numbered: Vec<u8>,
    large: Vec<u8>,
}

/// A plugin of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ship {
    /// A small one, with this number.
    Numbered(usize),
    /// The one of about a megabyte.
    Large,
}

impl Ship {
    fn name(self) -> String {
        match self {
            Ship::Numbered(number) => format!("numbered-{number:04}"),
            Ship::Large => "large".to_owned(),
        }
    }

    /// Where it answers.
    pub(crate) fn path(self) -> String {
        match self {
            Ship::Numbered(number) => format!("/numbered/plugin-{number:04}"),
            Ship::Large => "/large".to_owned(),
        }
    }
}

/// What version `version` answers.
pub(crate) fn answer(version: u32) -> String {
    format!("the-answer-is-{version:08}")
}

impl Fleet {
    pub(crate) fn new(components: &Path, folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder)?;
        let read = |name: &str| {
            let path = components.join(format!("{name}.wasm"));
            fs::read(&path).with_context(|| path.display().to_string())
        };
        let [numbered, large] = GUESTS;
        Ok(Self {
            folder,
            numbered: read(numbered)?,
            large: read(large)?,
        })
    }

    /// The plugin folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of a component.
    pub(crate) fn size(&self, ship: Ship) -> usize {
        match ship {
            Ship::Numbered(_) => self.numbered.len(),
            Ship::Large => self.large.len(),
        }
    }

    /// Puts a version of a plugin in, aside and then by renaming.
    pub(crate) fn put(&self, ship: Ship, version: u32) -> anyhow::Result<()> {
        let wasm = match ship {
            Ship::Numbered(_) => patched(&self.numbered, PATH, &ship.path())?,
            Ship::Large => self.large.clone(),
        };
        let wasm = patched(&wasm, ANSWER, &answer(version))?;
        let name = ship.name();
        let aside = self.folder.join(format!(".{name}.new"));
        fs::write(&aside, wasm)?;
        Ok(fs::rename(aside, self.folder.join(format!("{name}.wasm")))?)
    }

    /// Replaces a plugin under a running server; how long it took from the file's
    /// new name to the first answer of the new code. Every answer until then has to
    /// be a good one of the old code.
    pub(crate) fn reload(
        &self,
        client: &mut Connection,
        ship: Ship,
        version: u32,
    ) -> anyhow::Result<Duration> {
        let (path, new) = (ship.path(), answer(version));
        self.put(ship, version)?;
        let start = Instant::now();
        loop {
            let seen = client.get(&path, ("", ""))?;
            if seen.status != 200 {
                bail!(
                    "{path} answered {} during its reload: {}",
                    seen.status,
                    seen.body
                );
            }
            if seen.body == new {
                return Ok(start.elapsed());
            }
            if start.elapsed() > RELOAD_LIMIT {
                bail!(
                    "{path} still answers {:?} after {RELOAD_LIMIT:?}",
                    seen.body
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A component with another text of the same length wherever this one is.
fn patched(wasm: &[u8], text: &str, with: &str) -> anyhow::Result<Vec<u8>> {
    if text.len() != with.len() {
        bail!("{with:?} is not as long as {text:?}");
    }
    let mut patched = Vec::with_capacity(wasm.len());
    let mut rest = wasm;
    while let Some(at) = rest
        .windows(text.len())
        .position(|window| window == text.as_bytes())
    {
        let (before, from) = rest.split_at(at);
        patched.extend_from_slice(before);
        patched.extend_from_slice(with.as_bytes());
        rest = from.get(text.len()..).unwrap_or_default();
    }
    if rest.len() == wasm.len() {
        bail!("the component does not have the text {text:?}");
    }
    patched.extend_from_slice(rest);
    Ok(patched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_occurrence_is_written_over_and_nothing_else() {
        let patched = |text, with| patched(b"a-01-b-01", text, with);
        assert_eq!(patched("01", "77").unwrap(), b"a-77-b-77");
        assert_eq!(patched("b-01", "c-99").unwrap(), b"a-01-c-99");
        assert!(patched("02", "77").is_err(), "it is not there");
        assert!(patched("01", "777").is_err(), "it is longer");
    }

    #[test]
    fn the_texts_fit_their_places() {
        assert_eq!(Ship::Numbered(0).path(), PATH);
        assert_eq!(Ship::Numbered(9_999).path().len(), PATH.len());
        assert_eq!(answer(0), ANSWER);
    }
}
