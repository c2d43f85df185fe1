//! The commands about what is stored: `backup`, `restore`, `check`, `export` and
//! `import`. Here is how they are told what to do; [`crate::data`] does it.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use coglex_services::storage::transfer::Existing;

use super::{inputs, with_settings};
use crate::config::{self, Config};
use crate::data;
use crate::telemetry::Telemetry;

const BACKUP: &str = "\
The copy is of one moment, and clients are served meanwhile. It is readable by its owner alone,
and appears under its name when it is whole. Keys and the plugin folder are not in it: they are ordinary
files in the data folder.

  coglex backup /backups/$(date +%F).db

For documents in MongoDB use mongodump, or `coglex export`.";

const RESTORE: &str = "\
The backup is checked first, and put in place by one rename: an error or a crash leaves the store
that was there. Stop the server before.

With --force a store that is there is replaced, and kept beside as documents.db.replaced-TIME.";

const CHECK: &str = "\
Reads every document and every index entry, of one moment, while clients are served. Ends with
exit code 1 when something is wrong.

--repair makes all indexes anew from the documents; no server may use the store. A document that
is damaged itself comes back only from a backup.";

const EXPORT: &str = "\
Writes one file of documents for each collection, and collections.json with the names and indexes,
into a folder that is empty or not there yet; or everything to standard output (-). A line is a
document as canonical Extended JSON, in the order of the store.

Everything is there: hidden fields such as password hashes, and the server's own collections. Files
are readable by their owner alone.

The embedded store is exported as it is at one moment, also while a server uses it. MongoDB is read
while others write: a document that changes meanwhile is in the export as it was or as it is.

  coglex export copy                                    # into the folder copy
  coglex export - --collection users | gzip > users.gz";

const IMPORT: &str = "\
Reads what `coglex export` wrote, into the store of the configuration: the embedded one, which no
server may use meanwhile, or MongoDB. A single file of lines, or standard input (-), goes into the
one collection that --collection names, unless it says itself where its documents belong.

Collections must be empty, unless --drop or --upsert is given. An import that was broken off can
be repeated with either; --upsert skips what is there already.

  coglex export - | MONGODB_URI=mongodb://db.example.com/app coglex import -";

/// The commands.
pub(super) fn commands() -> [Command; 5] {
    [
        Command::new("backup")
            .about("Copies the embedded store to a file, also while a server uses it")
            .after_help(BACKUP)
            .arg(path("FILE").required(true).help("Where the copy goes"))
            .arg(flag("force", "Replace the file if it is there")),
        Command::new("restore")
            .about("Puts a backup in the place of the embedded store")
            .after_help(RESTORE)
            .arg(
                path("FILE")
                    .required(true)
                    .help("A file that `coglex backup` wrote"),
            )
            .arg(flag(
                "force",
                "Replace a store that is there; it is kept beside",
            )),
        Command::new("check")
            .about("Checks the embedded store: pages, documents and indexes")
            .after_help(CHECK)
            .arg(flag(
                "repair",
                "Make all indexes anew if something is wrong",
            )),
        Command::new("export")
            .about("Writes all documents as lines of Extended JSON")
            .after_help(EXPORT)
            .arg(
                path("DIR")
                    .default_value("coglex-export")
                    .help("The folder, or - for standard output"),
            )
            .arg(collections(
                "Export only this collection; may be given several times",
            )),
        Command::new("import")
            .about("Reads documents that were exported, from either store into either")
            .after_help(IMPORT)
            .arg(
                path("SOURCE")
                    .default_value("coglex-export")
                    .help("The folder or file, or - for standard input"),
            )
            .arg(collections(
                "Import only this collection; may be given several times",
            ))
            .arg(
                flag(
                    "drop",
                    "Drop each collection that is imported before it is filled",
                )
                .conflicts_with("upsert"),
            )
            .arg(flag(
                "upsert",
                "Keep what is there; replace documents that come again",
            )),
    ]
    .map(with_settings)
}

/// Does what one of the commands was told; none when it is not one of them.
pub(super) fn run(name: &str, given: &ArgMatches) -> Option<anyhow::Result<()>> {
    Some(match name {
        "backup" => loaded(given).and_then(|config| {
            data::backup(&config, &path_of(given, "FILE"), given.get_flag("force"))
        }),
        "restore" => loaded(given).and_then(|config| {
            data::restore(&config, &path_of(given, "FILE"), given.get_flag("force"))
        }),
        "check" => loaded(given).and_then(|config| data::check(&config, given.get_flag("repair"))),
        "export" => loaded(given)
            .and_then(|config| data::export(&config, &path_of(given, "DIR"), &chosen(given))),
        "import" => loaded(given).and_then(|config| {
            let existing = match (given.get_flag("drop"), given.get_flag("upsert")) {
                (true, _) => Existing::Drop,
                (_, true) => Existing::Upsert,
                _ => Existing::Refuse,
            };
            data::import(&config, &path_of(given, "SOURCE"), &chosen(given), existing)
        }),
        _ => return None,
    })
}

fn loaded(given: &ArgMatches) -> anyhow::Result<Config> {
    let loaded = config::load(&inputs(given))?;
    Telemetry::start(&loaded.config.log)?;
    Ok(loaded.config)
}

fn path(name: &'static str) -> Arg {
    Arg::new(name).value_parser(clap::value_parser!(PathBuf))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

fn collections(help: &'static str) -> Arg {
    Arg::new("collection")
        .long("collection")
        .value_name("NAME")
        .action(ArgAction::Append)
        .help(help)
}

fn path_of(given: &ArgMatches, name: &str) -> PathBuf {
    given.get_one(name).cloned().unwrap_or_default()
}

fn chosen(given: &ArgMatches) -> Vec<String> {
    let names = given.get_many("collection").unwrap_or_default();
    let mut names: Vec<String> = names.cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
}
