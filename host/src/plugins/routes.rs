//! Which plugin answers a path: the routes of all loaded apps in one table,
//! built whole for each generation and never changed after.
//!
//! It knows methods and patterns. Guards, bodies and calls are the gateway's.

use std::collections::BTreeMap;
use std::sync::Arc;

use coglex_runtime::{Door, Guard, Plugin, Route, Terms};
use http::Method;

/// First path segments that belong to the server. An app can neither declare
/// them nor reach them with a wildcard.
pub(super) const RESERVED: [&str; 5] = ["service", "admin", "static", "healthz", "readyz"];

/// The one path that the server keeps among the well-known ones (RFC 8615).
const JWKS_PATH: &str = "/.well-known/jwks.json";

/// Whether the server keeps this path for itself.
pub(crate) fn is_reserved(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
    RESERVED.contains(&first) || path == JWKS_PATH
}

/// Why a set of plugins cannot be served together, as a sentence.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Clash {
    /// Two routes answer the same requests.
    #[error("route {method} {path} of {plugin} is already answered by {other}")]
    Route {
        /// The newcomer.
        plugin: String,
        /// Who has it.
        other: String,
        /// The method, or `any`.
        method: String,
        /// The newcomer's pattern.
        path: String,
    },
    /// The path belongs to the server.
    #[error("route {path} of {plugin} is under a path that the server keeps for itself")]
    Reserved {
        /// The newcomer.
        plugin: String,
        /// Its pattern.
        path: String,
    },
    /// The pattern cannot be matched.
    #[error("route {path} of {plugin} is not a valid pattern: {reason}")]
    Pattern {
        /// The newcomer.
        plugin: String,
        /// Its pattern.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Two components have a function of the same name.
    #[error("function {function} of {plugin} exists already in {other}")]
    Function {
        /// The newcomer.
        plugin: String,
        /// Who has it.
        other: String,
        /// The function.
        function: String,
    },
    /// Both have secrets, and the environment cannot tell whose they are.
    #[error(
        "{plugin} and {other} are both granted secrets, and would both be given those of \
         COGLEX_PLUGIN_SECRET_{prefix}__…; rename one of them, or grant secrets to one only"
    )]
    Secrets {
        /// The newcomer.
        plugin: String,
        /// Who has it.
        other: String,
        /// What both names become in the names of variables.
        prefix: String,
    },
}

/// A route and who answers it.
pub struct Entry {
    /// The app.
    pub plugin: Plugin,
    /// The route as the app declared it, or as the server made it up for a plain
    /// component.
    pub route: Route,
    /// Set for a plain `wasi:http` component: the prefix that is taken off the
    /// path before the component sees it.
    pub mount: Option<String>,
    /// Names of the pattern's parameters, in order.
    names: Vec<String>,
}

/// What the table says about a request.
pub enum Lookup {
    /// This route answers it.
    Found {
        /// The route.
        entry: Arc<Entry>,
        /// Parameter names and raw (still percent-encoded) values.
        params: Vec<(String, String)>,
    },
    /// The path exists, the method does not; these do.
    WrongMethod {
        /// For the `Allow` header.
        allow: String,
    },
    /// No route has this path.
    Missing,
}

/// All routes of a generation.
#[derive(Default)]
pub(super) struct RouteTable {
    /// Parameter names are numbered here, so that two apps may name the same
    /// place differently; the value points into `entries`.
    matcher: matchit::Router<usize>,
    keys: BTreeMap<String, usize>,
    entries: Vec<Vec<Arc<Entry>>>,
}

impl RouteTable {
    /// Adds every route of `plugin`.
    pub(super) fn add(&mut self, plugin: &Plugin) -> Result<(), Clash> {
        if plugin.door() == Door::WasiHttp && plugin.routes().is_empty() {
            return self.mount(plugin);
        }
        for route in plugin.routes() {
            self.insert(plugin, route.clone(), None)?;
        }
        Ok(())
    }

    /// A component that says nothing about its routes lives under its own name,
    /// behind the API key.
    fn mount(&mut self, plugin: &Plugin) -> Result<(), Clash> {
        let prefix = format!("/{}", plugin.name());
        for path in [prefix.clone(), format!("{prefix}/{{*rest}}")] {
            let route = Route {
                methods: Vec::new(),
                path,
                guards: vec![Guard::ApiKey],
                body_limit: None,
                terms: Terms::default(),
                summary: None,
            };
            self.insert(plugin, route, Some(prefix.clone()))?;
        }
        Ok(())
    }

    fn insert(
        &mut self,
        plugin: &Plugin,
        route: Route,
        mount: Option<String>,
    ) -> Result<(), Clash> {
        let path = route.path.clone();
        if is_reserved(&path) {
            return Err(Clash::Reserved {
                plugin: plugin.name().to_owned(),
                path,
            });
        }
        let (key, names) = number_params(&path);
        let index = match self.keys.get(&key) {
            Some(&index) => index,
            None => {
                let index = self.entries.len();
                self.matcher
                    .insert(key.clone(), index)
                    .map_err(|error| Clash::Pattern {
                        plugin: plugin.name().to_owned(),
                        path: path.clone(),
                        reason: error.to_string(),
                    })?;
                self.keys.insert(key, index);
                self.entries.push(Vec::new());
                index
            }
        };
        let Some(at_path) = self.entries.get_mut(index) else {
            return Ok(());
        };
        if let Some((other, method)) = at_path
            .iter()
            .find_map(|entry| overlap(entry, plugin, &route))
        {
            return Err(Clash::Route {
                plugin: plugin.name().to_owned(),
                other,
                method,
                path,
            });
        }
        at_path.push(Arc::new(Entry {
            plugin: plugin.clone(),
            route,
            mount,
            names,
        }));
        Ok(())
    }

    /// The route for a request. A named method goes before `any`; `HEAD` falls
    /// back to `GET`.
    pub(super) fn find(&self, method: &Method, path: &str) -> Lookup {
        if is_reserved(path) {
            return Lookup::Missing;
        }
        let Ok(matched) = self.matcher.at(path) else {
            return Lookup::Missing;
        };
        let Some(at_path) = self.entries.get(*matched.value) else {
            return Lookup::Missing;
        };
        let named = |method: &Method| {
            at_path
                .iter()
                .find(|entry| entry.route.methods.contains(method))
        };
        let head_as_get = || {
            (*method == Method::HEAD)
                .then(|| named(&Method::GET))
                .flatten()
        };
        let any = || at_path.iter().find(|entry| entry.route.methods.is_empty());
        let found = named(method).or_else(head_as_get).or_else(any);
        match found {
            Some(entry) => {
                let values = matched.params.iter().map(|(_, value)| value.to_owned());
                let params = entry.names.iter().cloned().zip(values).collect();
                Lookup::Found {
                    entry: Arc::clone(entry),
                    params,
                }
            }
            None => Lookup::WrongMethod {
                allow: allow(at_path),
            },
        }
    }
}

/// Who already answers a method that the newcomer wants, and which. Within one
/// app, a route for any method takes what its named methods leave; another app's
/// route would take them away.
fn overlap(entry: &Entry, plugin: &Plugin, route: &Route) -> Option<(String, String)> {
    let same_app = entry.plugin.name() == plugin.name();
    if same_app && entry.route.methods.is_empty() != route.methods.is_empty() {
        return None;
    }
    let theirs = &entry.route.methods;
    let method = match (theirs.is_empty(), route.methods.is_empty()) {
        (_, true) => "any".to_owned(),
        (true, false) => route.methods.first()?.to_string(),
        (false, false) => route
            .methods
            .iter()
            .find(|method| theirs.contains(method))?
            .to_string(),
    };
    Some((entry.plugin.name().to_owned(), method))
}

fn allow(entries: &[Arc<Entry>]) -> String {
    let mut methods: Vec<&str> = entries
        .iter()
        .flat_map(|entry| entry.route.methods.iter().map(Method::as_str))
        .collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}

/// `/a/{id}/{*rest}` becomes `/a/{0}/{*1}` and `["id", "rest"]`.
fn number_params(path: &str) -> (String, Vec<String>) {
    let mut key = String::with_capacity(path.len());
    let mut names = Vec::new();
    for segment in path.split('/').skip(1) {
        key.push('/');
        match segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        {
            Some(name) => {
                let (star, name) = match name.strip_prefix('*') {
                    Some(name) => ("*", name),
                    None => ("", name),
                };
                key.push_str(&format!("{{{star}{}}}", names.len()));
                names.push(name.to_owned());
            }
            None => key.push_str(segment),
        }
    }
    (key, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_so_that_names_do_not_matter() {
        let names = |path: &str| number_params(path);
        assert_eq!(
            names("/a/{id}"),
            ("/a/{0}".to_owned(), vec!["id".to_owned()])
        );
        assert_eq!(names("/a/{x}/{*y}").0, "/a/{0}/{*1}");
        assert_eq!(names("/").0, "/");
    }

    #[test]
    fn reserved_paths_are_known_by_their_first_segment() {
        for path in [
            "/service",
            "/service/x",
            "/static/a",
            "/admin",
            "/healthz",
            "/readyz",
        ] {
            assert!(is_reserved(path), "{path}");
        }
        for path in ["/", "/services", "/api/service", "/staticx"] {
            assert!(!is_reserved(path), "{path}");
        }
    }
}
