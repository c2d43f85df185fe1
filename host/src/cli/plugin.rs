//! `coglex plugin …`: what operators do to the plugins of a running server. Here
//! is how it is told what to do; `test` runs a plugin's own tests; `client` asks the server's admin API, `show`
//! prints the answers, `inspect` reads a component without any server.

pub(super) mod client;
mod inspect;
pub(super) mod show;
mod test;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use self::client::Server;
use crate::config::{self, Inputs};
use crate::plugins::is_plugin_name;
use crate::plugins::status::{Status, Summary};

const STORY: &str = "\
The server is the one that the configuration in this folder describes, or that of --server. Its
admin key comes from COGLEX_ADMIN_KEY, from coglex.toml, or from the data folder, where a server
keeps the key that it has generated.

  coglex plugin inspect hello.wasm       what it would get, without any server
  coglex plugin deploy hello.wasm        check it, then let it serve; requests go on
  coglex plugin list                     what serves, since when, how often it failed
  coglex plugin rollback hello           back to the version before
  coglex plugin logs hello --follow      its log lines as they come

`coglex plugin test` needs no server: it runs the tests of a plugin's source.";

const INSPECT: &str = "\
A file is read as a server with the configuration in this folder would load it: what it imports
and asks for, what of that it would get, its routes and functions. A name shows what serves under
it on the server.";

/// The command and its subcommands.
pub(super) fn command() -> Command {
    Command::new("plugin")
        .about(
            "Lists, deploys and switches the plugins of a running server; tests a plugin's source",
        )
        .after_help(STORY)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(remote("list").about("Lists the plugins"))
        .subcommand(
            remote("inspect")
                .about("Shows everything about a component or a plugin")
                .after_help(INSPECT)
                .arg(
                    Arg::new("plugin")
                        .value_name("FILE.wasm|NAME")
                        .required(true)
                        .help("A component, or the name of a plugin on the server"),
                )
                .arg(renamed()),
        )
        .subcommand(
            remote("deploy")
                .about("Uploads a component; it serves if it can, else nothing changes")
                .arg(
                    Arg::new("file")
                        .value_name("FILE.wasm")
                        .required(true)
                        .value_parser(clap::value_parser!(PathBuf))
                        .help("The component"),
                )
                .arg(renamed()),
        )
        .subcommand(
            named("rollback")
                .about("Goes back to the version before, or to a certain one")
                .arg(
                    Arg::new("to")
                        .long("to")
                        .value_name("DIGEST")
                        .help("The version whose digest begins so; `inspect NAME` lists them"),
                ),
        )
        .subcommand(named("enable").about("Lets a plugin serve again"))
        .subcommand(named("disable").about("Stops serving a plugin, also after restarts"))
        .subcommand(
            named("logs")
                .about("Prints the last log lines of a plugin")
                .arg(
                    Arg::new("lines")
                        .short('n')
                        .long("lines")
                        .value_name("NUMBER")
                        .default_value("100")
                        .value_parser(clap::value_parser!(u32))
                        .help("The most lines from before now"),
                )
                .arg(
                    Arg::new("follow")
                        .short('f')
                        .long("follow")
                        .action(ArgAction::SetTrue)
                        .help("Go on with the lines that come"),
                ),
        )
        .subcommand(test::command())
        .subcommand(named("remove").about("Removes a plugin with all of its versions"))
}

/// A subcommand that asks a server.
pub(super) fn remote(name: &'static str) -> Command {
    Command::new(name)
        .arg(
            Arg::new("server")
                .long("server")
                .value_name("URL")
                .help("The server [default: server.host and server.port of the configuration]"),
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Configuration file [default: coglex.toml] [env: COGLEX_CONFIG]"),
        )
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("DIR")
                .help("The server's data folder, for its admin key [env: COGLEX_DATA_DIR]"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print the answer as JSON"),
        )
}

/// A subcommand about one plugin of a server.
fn named(name: &'static str) -> Command {
    remote(name).arg(
        Arg::new("name")
            .value_name("NAME")
            .required(true)
            .help("The plugin"),
    )
}

fn renamed() -> Arg {
    Arg::new("name")
        .long("name")
        .value_name("NAME")
        .help("The plugin's name [default: the file's, without .wasm]")
}

/// Does what the command line says.
pub(super) fn run(given: &ArgMatches) -> anyhow::Result<()> {
    let Some((action, given)) = given.subcommand() else {
        return Ok(()); // clap has printed the help.
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of this command")?;
    if action == "test" {
        return runtime.block_on(test::run(given));
    }
    let mut out = Output {
        json: given.get_flag("json"),
        text: String::new(),
    };
    let done = runtime.block_on(act(action, given, &mut out));
    print(&out.text)?;
    done
}

/// What a command has to say, in which form.
struct Output {
    json: bool,
    text: String,
}

impl Output {
    /// The server's own words, or the same for people.
    fn show<'a, T: Deserialize<'a>>(
        &mut self,
        answer: &'a [u8],
        show: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            self.text = String::from_utf8_lossy(answer).into_owned() + "\n";
        } else {
            let read = serde_json::from_slice(answer);
            let answer = read.context("the server's answer is of another version than this")?;
            self.text = show(&answer);
        }
        Ok(())
    }
}

async fn act(action: &str, given: &ArgMatches, out: &mut Output) -> anyhow::Result<()> {
    let config = config::load(&inputs(given))?.config;
    if action == "inspect"
        && let Some(file) = given.get_one::<String>("plugin").filter(|it| is_file(it))
    {
        let name = name_of(Path::new(file), given)?;
        let found = inspect::file(Path::new(file), &name, &config).await?;
        out.text = match out.json {
            true => serde_json::to_string_pretty(&found)? + "\n",
            false => show::inspection(&found),
        };
        return Ok(());
    }
    let server = Server::open(given.get_one::<String>("server"), &config)?;
    if action == "list" {
        let answer = server.call(Method::GET, "plugins/", Bytes::new()).await?;
        return out.show::<Vec<Summary>>(&answer, |list| show::list(list));
    }
    if action == "deploy" {
        let file: &PathBuf = given.get_one("file").context("clap asks for a file")?;
        let name = name_of(file, given)?;
        let wasm =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let path = format!("plugins/{name}/");
        let answer = server.call(Method::PUT, &path, wasm.into()).await?;
        return out.show::<Status>(&answer, |status| show::changed("deployed", status));
    }
    let name = match action {
        "inspect" => given.get_one::<String>("plugin"),
        _ => given.get_one::<String>("name"),
    };
    let name = name.context("clap asks for a name")?;
    let path = format!("plugins/{}/", utf8_percent_encode(name, NON_ALPHANUMERIC));
    let (method, path, done) = match action {
        "inspect" => {
            let answer = server.call(Method::GET, &path, Bytes::new()).await?;
            return out.show::<Status>(&answer, show::status);
        }
        "logs" => {
            let lines = given.get_one::<u32>("lines").copied().unwrap_or(100);
            let follow = given.get_flag("follow");
            let path = format!("{path}logs/?lines={lines}&follow={follow}");
            if follow {
                return follow_log(&server, &path, out.json).await;
            }
            let answer = server.call(Method::GET, &path, Bytes::new()).await?;
            return out.show::<Vec<show::LogLine>>(&answer, |lines| {
                lines.iter().map(show::log_line).collect()
            });
        }
        "remove" => {
            let answer = server.call(Method::DELETE, &path, Bytes::new()).await?;
            return out.show::<u64>(&answer, |_| format!("{name} is removed\n"));
        }
        "rollback" => {
            let to = given.get_one::<String>("to").map_or("", String::as_str);
            let to = utf8_percent_encode(to, NON_ALPHANUMERIC);
            let path = format!("{path}rollback/?version={to}");
            (Method::POST, path, "rolled back")
        }
        "enable" => (Method::POST, format!("{path}enable/"), "enabled"),
        "disable" => (Method::POST, format!("{path}disable/"), "disabled"),
        other => bail!("there is no command {other}"),
    };
    let answer = server.call(method, &path, Bytes::new()).await?;
    out.show::<Status>(&answer, |status| show::changed(done, status))
}

/// Prints lines as they come, until the server or the user ends it.
async fn follow_log(server: &Server, path: &str, json: bool) -> anyhow::Result<()> {
    let mut events = server.events(path).await?;
    while let Some((event, data)) = events.next().await? {
        let text = match (event.as_str(), json) {
            ("line", false) => show::log_line(&serde_json::from_str(&data)?),
            ("line", true) => data + "\n",
            ("missed", _) => {
                let mut err = std::io::stderr().lock();
                // Without standard error there is nobody to tell.
                let _ = writeln!(err, "({data} lines were missed)");
                continue;
            }
            _ => continue,
        };
        print(&text)?;
    }
    Ok(())
}

/// Prints, and ends quietly when the reader, such as `head`, has gone.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.context("cannot print"),
    }
}

/// The configuration as a server started in this folder would have it.
pub(super) fn inputs(given: &ArgMatches) -> Inputs {
    let data_dir = given.get_one::<String>("data-dir").cloned();
    let flags = data_dir.map(|dir| ("data.dir", dir)).into_iter().collect();
    Inputs::of_process(given.get_one("config").cloned(), flags)
}

/// Whether an argument means a file; plugins' names have neither dots nor slashes.
fn is_file(argument: &str) -> bool {
    !is_plugin_name(argument)
}

/// The name that a file's plugin has.
fn name_of(file: &Path, given: &ArgMatches) -> anyhow::Result<String> {
    let stem = || file.file_stem()?.to_str().map(str::to_owned);
    let name = given.get_one::<String>("name").cloned().or_else(stem);
    let name = name.unwrap_or_default();
    if !is_plugin_name(&name) {
        bail!(
            "{name:?} cannot be a plugin's name, which is lower-case letters, digits, '-' and '_'; give one with --name"
        );
    }
    Ok(name)
}

/// Whether what is printed may have colours.
fn is_colourful() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
