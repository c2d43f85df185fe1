//! `coglex mail …`: looks at letters, and tries the SMTP server. No running server is
//! needed: both go by the configuration.

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::plugin::print;
use super::{inputs, with_settings};
use crate::config;
use crate::mail::{self, Mail};

const STORY: &str = "\
The configuration is that of the server in this folder.

  coglex mail templates                the letters that there are
  coglex mail preview reset            one of them, with made-up values
  coglex mail preview reset --html     its HTML
  coglex mail test ann@example.org     sends a letter now, and tells what the server said

Templates are files NAME.txt and NAME.html in the folder of the setting
mail.templates_dir, in place of the built-in ones.";

/// The command and its subcommands.
pub(super) fn command() -> Command {
    let name = Arg::new("name").value_name("NAME").required(true);
    let preview = Command::new("preview")
        .about("Prints a letter with made-up values")
        .arg(name.help("The template's name"))
        .arg(
            Arg::new("html")
                .long("html")
                .action(ArgAction::SetTrue)
                .help("Print the HTML instead of subject and text"),
        )
        .arg(
            Arg::new("values")
                .long("values")
                .value_name("JSON")
                .help("Values instead of the made-up ones: a JSON object"),
        );
    let address = Arg::new("address").value_name("ADDRESS").required(true);
    Command::new("mail")
        .about("Shows what letters look like, and tries the SMTP server")
        .after_help(STORY)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(
            Command::new("templates").about("Lists the letters"),
        ))
        .subcommand(with_settings(preview))
        .subcommand(with_settings(
            Command::new("test")
                .about("Sends the letter `code`, with made-up values, to an address")
                .arg(address.help("Where to")),
        ))
}

/// Does what the command line says.
pub(super) fn run(given: &ArgMatches) -> anyhow::Result<()> {
    let Some((action, given)) = given.subcommand() else {
        return Ok(()); // clap has printed the help.
    };
    let config = config::load(&inputs(given))?.config;
    let text = |name: &str| given.get_one::<String>(name);
    match action {
        "templates" => {
            let names = mail::templates(&config)?.names();
            print(&(names.join("\n") + "\n"))
        }
        "preview" => {
            let values = text("values").map(|values| serde_json::from_str(values));
            let values = values.transpose().context("--values is not JSON")?;
            let name = text("name").map_or("", String::as_str);
            let letter = mail::templates(&config)?.preview(name, values.as_ref())?;
            if !given.get_flag("html") {
                return print(&format!("Subject: {}\n\n{}", letter.subject, letter.text));
            }
            match letter.html {
                Some(html) => print(&html),
                None => bail!("the letter {name} has no HTML"),
            }
        }
        "test" => {
            let Some(mail) = Mail::open(&config, false)? else {
                bail!("there is no SMTP server: the setting mail.host is not set");
            };
            let to = text("address").map_or("", String::as_str);
            let letter = mail.templates().preview("code", None)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start the threads of this command")?;
            runtime
                .block_on(mail.send(&letter, to))
                .context("the letter was not taken")?;
            print("the server has taken the letter\n")
        }
        other => bail!("there is no command {other}"),
    }
}
