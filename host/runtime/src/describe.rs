//! What a plugin says about itself, checked: everything that comes out of
//! `describe()` is a guest's word and ends up in tables and listings.

mod declared;
mod events;
mod terms;

use std::collections::BTreeSet;

use http::Method;

use crate::bindings::function::functions::FunctionInfo as WitFunction;
use crate::bindings::gateway::app;
use crate::error::LoadError;
use crate::schema::Schema;

pub(crate) use declared::add as add_declarations;
pub use declared::{Hook, Schedule};
pub(crate) use events::add as add_events;
pub use terms::{CacheHints, Rate, RateScope, Terms};

const MAX_ROUTES: usize = 1_000;
const MAX_FUNCTIONS: usize = 1_000;
const MAX_METHODS: usize = 16;
const MAX_GUARDS: usize = 16;
const MAX_PATH: usize = 1_024;
const MAX_SEGMENTS: usize = 32;
const MAX_NAME: usize = 64;
const MAX_SUMMARY: usize = 500;
const MAX_COLLECTION: usize = 120;
/// Schemas of all routes together; each is compiled.
const MAX_SCHEMAS: usize = 1024 * 1024;

/// One route of a gateway app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Methods; none means any.
    pub methods: Vec<Method>,
    /// The pattern: literal segments, `{name}`, and `{*name}` at the end. No
    /// trailing slash, except in `/`.
    pub path: String,
    /// Conditions, all of which hold before the guest runs.
    pub guards: Vec<Guard>,
    /// The largest body in bytes, where the app wants less than the server.
    pub body_limit: Option<u64>,
    /// Rate, caching, kinds of bodies, schemas.
    pub terms: Terms,
    /// One sentence for listings.
    pub summary: Option<String>,
}

/// A condition on a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// A valid API key.
    ApiKey,
    /// A session of a user of this collection.
    Authenticated(String),
    /// A session of a user of this collection who has this role.
    Role {
        /// The users' collection.
        realm: String,
        /// The role.
        role: String,
    },
}

/// A function that clients call by name, and what was declared of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FunctionInfo {
    /// Its name.
    pub name: String,
    /// One sentence for listings.
    pub summary: Option<String>,
    /// What `args` look like; every call is checked.
    pub args: Option<Schema>,
    /// What `kwargs` look like; every call is checked.
    pub kwargs: Option<Schema>,
    /// What the result looks like.
    pub result: Option<Schema>,
    /// When it runs by itself.
    pub schedules: Vec<Schedule>,
    /// The writes that it watches.
    pub hooks: Vec<Hook>,
    /// Kinds of payment events that it is told of: whole names, `customer.*`, or `*`.
    pub events: Vec<String>,
}

/// Checks the routes of an app. Compiles their schemas, which takes a while.
pub(crate) fn routes(manifest: app::Manifest) -> Result<Vec<Route>, LoadError> {
    if manifest.routes.is_empty() {
        return Err(declares("an app without routes"));
    }
    if manifest.routes.len() > MAX_ROUTES {
        return Err(declares(format!(
            "{} routes; {MAX_ROUTES} are the most",
            manifest.routes.len()
        )));
    }
    let schemas = manifest.routes.iter().flat_map(|route| {
        [
            &route.body_schema,
            &route.query_schema,
            &route.output_schema,
        ]
        .into_iter()
        .flatten()
    });
    if schemas.map(String::len).sum::<usize>() > MAX_SCHEMAS {
        return Err(declares(format!(
            "schemas of more than {MAX_SCHEMAS} bytes in all"
        )));
    }
    manifest.routes.into_iter().map(route).collect()
}

fn route(mut route: app::Route) -> Result<Route, LoadError> {
    let path = path(&route.path).map_err(|why| {
        declares(format!(
            "the route {:?}, whose path {why}",
            shown(&route.path)
        ))
    })?;
    let at = |what: String| declares(format!("the route {path} with {what}"));
    if route.methods.len() > MAX_METHODS {
        return Err(at(format!("more than {MAX_METHODS} methods")));
    }
    let methods = route.methods.iter().map(|name| {
        method(name).ok_or_else(|| {
            at(format!(
                "the method {:?}, which is not one in upper case",
                shown(name)
            ))
        })
    });
    let methods = methods.collect::<Result<Vec<_>, _>>()?;
    if route.guards.len() > MAX_GUARDS {
        return Err(at(format!("more than {MAX_GUARDS} guards")));
    }
    let guards = std::mem::take(&mut route.guards);
    let guards = guards.into_iter().map(|wanted| guard(wanted).map_err(&at));
    let guards = guards.collect::<Result<Vec<_>, _>>()?;
    let terms = Terms::check(&mut route, !guards.is_empty()).map_err(&at)?;
    let summary = summary(route.summary).map_err(&at)?;
    Ok(Route {
        methods,
        guards,
        body_limit: route.body_limit,
        terms,
        summary,
        path,
    })
}

fn guard(guard: app::Guard) -> Result<Guard, String> {
    let realm = |collection: String| {
        if is_collection(&collection) {
            return Ok(collection);
        }
        Err(format!(
            "a guard on {:?}, which is not a collection's name",
            shown(&collection)
        ))
    };
    match guard {
        app::Guard::ApiKey => Ok(Guard::ApiKey),
        app::Guard::Authenticated(collection) => realm(collection).map(Guard::Authenticated),
        app::Guard::Role(app::Role { collection, name }) => {
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
                return Err(format!("a guard on the role {:?}", shown(&name)));
            }
            Ok(Guard::Role {
                realm: realm(collection)?,
                role: name,
            })
        }
    }
}

/// The path without a trailing slash, or what is wrong with it.
fn path(path: &str) -> Result<String, String> {
    if path.len() > MAX_PATH {
        return Err(format!("has more than {MAX_PATH} bytes"));
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err("does not start with /".to_owned());
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Ok("/".to_owned());
    }
    let mut names = BTreeSet::new();
    let mut segments = rest.split('/').peekable();
    let mut count = 0;
    while let Some(segment) = segments.next() {
        count += 1;
        if count > MAX_SEGMENTS {
            return Err(format!("has more than {MAX_SEGMENTS} segments"));
        }
        let Some(inner) = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        else {
            literal(segment)?;
            continue;
        };
        let name = match inner.strip_prefix('*') {
            Some(_) if segments.peek().is_some() => {
                return Err(format!("has {segment} before its end"));
            }
            Some(name) => name,
            None => inner,
        };
        if !is_parameter(name) {
            return Err(format!(
                "has the parameter {segment}; a name is letters, digits and _, and does not start with a digit"
            ));
        }
        if !names.insert(name) {
            return Err(format!("has the parameter {name} twice"));
        }
    }
    Ok(format!("/{rest}"))
}

fn literal(segment: &str) -> Result<(), String> {
    if segment.is_empty() {
        return Err("has an empty segment".to_owned());
    }
    if segment == "." || segment == ".." {
        return Err(format!("has the segment {segment}"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%".contains(&byte);
    match segment.bytes().find(|&byte| !allowed(byte)) {
        None => Ok(()),
        Some(b'{' | b'}') => {
            Err("has braces inside a segment; a parameter is a whole segment".to_owned())
        }
        Some(byte) => Err(format!(
            "has {:?}, which a URL path cannot hold",
            char::from(byte)
        )),
    }
}

fn method(name: &str) -> Option<Method> {
    let upper = !name.is_empty()
        && name.len() <= 32
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    // CONNECT asks a proxy for a tunnel; it has no path.
    (upper && name != "CONNECT")
        .then(|| Method::from_bytes(name.as_bytes()).ok())
        .flatten()
}

/// Checks the functions of a component.
pub(crate) fn functions(functions: Vec<WitFunction>) -> Result<Vec<FunctionInfo>, LoadError> {
    if functions.is_empty() {
        return Err(declares("no function"));
    }
    if functions.len() > MAX_FUNCTIONS {
        return Err(declares(format!(
            "{} functions; {MAX_FUNCTIONS} are the most",
            functions.len()
        )));
    }
    let mut names = BTreeSet::new();
    let mut checked = Vec::with_capacity(functions.len());
    for function in functions {
        let name = function.name;
        if !is_function(&name) {
            return Err(declares(format!(
                "the function {:?}; a name is at most {MAX_NAME} letters, digits, '_', '-' and '.'",
                shown(&name)
            )));
        }
        if !names.insert(name.clone()) {
            return Err(declares(format!("the function {name} twice")));
        }
        let summary = summary(function.summary)
            .map_err(|what| declares(format!("the function {name} with {what}")))?;
        checked.push(FunctionInfo {
            name,
            summary,
            ..FunctionInfo::default()
        });
    }
    Ok(checked)
}

fn summary(text: Option<String>) -> Result<Option<String>, String> {
    match text {
        Some(text) if text.len() > MAX_SUMMARY => {
            Err(format!("a summary of more than {MAX_SUMMARY} bytes"))
        }
        Some(text) if text.chars().any(char::is_control) => {
            Err("control characters in its summary".to_owned())
        }
        other => Ok(other),
    }
}

fn is_parameter(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_function(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        // `.` and `..` mean something else in the path that calls it.
        && name.bytes().any(|byte| byte != b'.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// Roughly a collection's name; the accounts service knows exactly.
fn is_collection(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_COLLECTION && !name.chars().any(char::is_control)
}

/// A guest's text in an error: not too much of it.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(80)).unwrap_or(text)
}

fn declares(what: impl Into<String>) -> LoadError {
    LoadError::Declares(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_literal_segments_parameters_and_a_tail() {
        let good = |text: &str, expected: &str| assert_eq!(path(text).unwrap(), expected);
        good("/", "/");
        good("/api/myapi/v1/data/", "/api/myapi/v1/data");
        good("/items/{id}", "/items/{id}");
        good("/files/{*rest}", "/files/{*rest}");
        good("/a%20b/~x:y@z", "/a%20b/~x:y@z");
        let bad = |text: &str, part: &str| {
            let why = path(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        };
        bad("", "does not start");
        bad("items", "does not start");
        bad("/a//b", "empty segment");
        bad("/a/../b", "the segment ..");
        bad("/{*rest}/x", "before its end");
        bad("/{id}/{id}", "twice");
        bad("/{}", "parameter");
        bad("/{1a}", "parameter");
        bad("/x{id}", "braces");
        bad("/a b", "cannot hold");
        bad("/a?b", "cannot hold");
        bad("/ü", "cannot hold");
        bad(&format!("/{}", "a/".repeat(40)), "segments");
        bad(&format!("/{}", "a".repeat(2_000)), "bytes");
    }

    #[test]
    fn methods_are_upper_case_tokens() {
        assert_eq!(method("GET"), Some(Method::GET));
        assert_eq!(method("M-SEARCH").unwrap().as_str(), "M-SEARCH");
        for bad in ["", "get", "GET ", "CONNECT", "G\nT"] {
            assert_eq!(method(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_route_is_refused_with_a_sentence_that_names_it() {
        let route = |change: fn(&mut app::Route)| {
            let mut route = app::Route {
                methods: vec!["GET".to_owned()],
                path: "/a".to_owned(),
                guards: vec![app::Guard::ApiKey],
                body_limit: None,
                media_types: Vec::new(),
                rate: None,
                cache: None,
                summary: None,
                body_schema: None,
                query_schema: None,
                output_schema: None,
            };
            change(&mut route);
            routes(app::Manifest {
                routes: vec![route],
            })
        };
        assert_eq!(route(|_| ()).unwrap().len(), 1);
        let refused = |result: Result<Vec<Route>, LoadError>, part: &str| {
            let error = result.unwrap_err().to_string();
            assert!(
                error.starts_with("it declares the route") && error.contains(part),
                "{error}"
            );
        };
        refused(
            route(|route| route.methods = vec!["get".to_owned()]),
            "/a with the method \"get\"",
        );
        refused(
            route(|route| route.guards = vec![app::Guard::Authenticated(String::new())]),
            "guard",
        );
        let nobody = |route: &mut app::Route| {
            let (collection, name) = ("users".to_owned(), String::new());
            route.guards = vec![app::Guard::Role(app::Role { collection, name })];
        };
        refused(route(nobody), "a guard on the role \"\"");
        refused(
            route(|route| route.query_schema = Some("1".to_owned())),
            "a schema of its query",
        );
        refused(
            route(|route| route.summary = Some("a\nb".to_owned())),
            "control characters",
        );
        refused(route(|route| route.path = "a".to_owned()), "does not start");
        assert!(routes(app::Manifest { routes: Vec::new() }).is_err());
    }

    #[test]
    fn function_names_are_unique_and_fit_in_a_path() {
        let check = |names: &[&str]| {
            let infos = names.iter().map(|name| WitFunction {
                name: (*name).to_owned(),
                summary: None,
            });
            functions(infos.collect())
        };
        assert_eq!(check(&["example_function", "a.b-c"]).unwrap().len(), 2);
        for bad in [&["a", "a"][..], &["a/b"], &[""], &[".."], &["ü"], &[]] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
