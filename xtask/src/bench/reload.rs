//! From a component's new name in the plugin folder to the first answer of its
//! code, on a server that has nothing else to do.

use std::path::Path;
use std::time::Duration;

use super::coglex;
use super::fleet::{Fleet, Ship};
use super::http::Connection;
use super::server::Server;

/// How often each case is measured.
const TIMES: u32 = 15;

/// How long it took, the shortest first.
pub(super) struct Reloads {
    pub(super) bytes: usize,
    /// With a component that the server has never seen.
    pub(super) compiled: Vec<Duration>,
    /// With one whose code it has in its cache.
    pub(super) cached: Vec<Duration>,
}

pub(super) fn measure(
    release: &Path,
    components: &Path,
    folder: &Path,
) -> anyhow::Result<Vec<Reloads>> {
    let fleet = Fleet::new(components, folder.join("plugins"))?;
    let ships = [Ship::Numbered(0), Ship::Large];
    for ship in ships {
        fleet.put(ship, 0)?;
    }
    let server = Server::start(coglex(release, &folder.join("data"), fleet.folder()))?;
    let mut client = Connection::open(server.address())?;
    ships
        .into_iter()
        .map(|ship| {
            let mut reload = |version| fleet.reload(&mut client, ship, version);
            let mut compiled = (1..=TIMES)
                .map(&mut reload)
                .collect::<Result<Vec<_>, _>>()?;
            // In the other direction: none of them is what serves when its turn comes.
            let mut cached = (0..TIMES)
                .rev()
                .map(&mut reload)
                .collect::<Result<Vec<_>, _>>()?;
            compiled.sort_unstable();
            cached.sort_unstable();
            Ok(Reloads {
                bytes: fleet.size(ship),
                compiled,
                cached,
            })
        })
        .collect()
}
