//! What `coglex dev` prints when it is up: where it listens, the key, what is
//! loaded, and requests to try. On standard output; `serve` does not print it.

use std::io::{IsTerminal as _, Write};
use std::net::SocketAddr;

use coglex_runtime::{Door, Guard, Plugin, Route};

use crate::app::AppState;

/// Prints it.
pub(crate) fn print(state: &AppState, address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (bold, plain) = if colour {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("", "")
    };
    let url = format!("http://{address}");
    let key = state.api_key.expose();
    let generation = state.plugins.current();

    writeln!(out, "\n{bold}Coglex is up at {url}{plain}")?;
    writeln!(out, "  API key   {key}")?;
    writeln!(out, "  data      {}", state.config.data.dir.display())?;
    writeln!(out, "  plugins   {}", state.plugins.dir().display())?;
    for plugin in generation.plugins() {
        describe(&mut out, plugin)?;
    }
    for (name, why) in generation.failures() {
        writeln!(out, "\n  {bold}{name}{plain} is not loaded: {why}")?;
    }
    writeln!(out, "\n{bold}Try{plain}")?;
    for request in requests(
        &url,
        key,
        state.plugins.function("example_function").is_some(),
    ) {
        writeln!(out, "  {request}")?;
    }
    writeln!(
        out,
        "\nSave a plugin's source and the next request runs the new code. Ctrl-C ends.\n"
    )?;
    out.flush()
}

fn describe(out: &mut impl Write, plugin: &Plugin) -> std::io::Result<()> {
    writeln!(
        out,
        "\n  {}  (granted: {})",
        plugin.name(),
        plugin.granted()
    )?;
    for route in plugin.routes() {
        writeln!(out, "    {}", route_line(route))?;
    }
    if plugin.door() == Door::WasiHttp && plugin.routes().is_empty() {
        writeln!(
            out,
            "    any /{}/…  [API key]  a standard wasi:http component",
            plugin.name()
        )?;
    }
    for function in plugin.functions() {
        let summary = function.summary.as_deref().unwrap_or_default();
        writeln!(out, "    function {}  {summary}", function.name)?;
        for schedule in &function.schedules {
            writeln!(out, "      at {} (UTC)", schedule.cron)?;
        }
        for hook in &function.hooks {
            let (moment, operation) = (hook.moment, hook.operation);
            writeln!(out, "      {moment} {operation} of {}", hook.collection)?;
        }
    }
    Ok(())
}

fn route_line(route: &Route) -> String {
    let methods = if route.methods.is_empty() {
        "any".to_owned()
    } else {
        let names: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
        names.join("|")
    };
    let guards: Vec<String> = route
        .guards
        .iter()
        .map(|guard| match guard {
            Guard::ApiKey => "API key".to_owned(),
            Guard::Authenticated(realm) => format!("signed in to {realm}"),
            Guard::Role { realm, role } => format!("{role} of {realm}"),
        })
        .collect();
    let guards = if guards.is_empty() {
        "open".to_owned()
    } else {
        guards.join(", ")
    };
    let summary = route.summary.as_deref().unwrap_or_default();
    format!("{methods} {}  [{guards}]  {summary}", route.path)
}

/// Requests that work when pasted, each on one line.
fn requests(url: &str, key: &str, has_example: bool) -> [String; 3] {
    let json = "-H 'Content-Type: application/json'";
    let documents = format!("{url}/service/storage/v1/my_collection/");
    let third = if has_example {
        format!(
            "curl -H 'X-API-Key: {key}' {json} -d '{{\"args\": [\"Ann\"]}}' {url}/service/execution/v1/execute/example_function/"
        )
    } else {
        format!("curl {url}/readyz")
    };
    [
        format!(
            "curl -H 'X-API-Key: {key}' {json} -d '{{\"document\": {{\"type\": \"important\", \"title\": \"First\"}}}}' {documents}"
        ),
        format!("curl -H 'X-API-Key: {key}' {documents}"),
        third,
    ]
}
