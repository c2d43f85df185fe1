//! Paths and patterns. The server does the matching in production; this is what
//! is left of it here, above all for [`App::respond`](super::App::respond).

/// Routes match with and without a trailing slash, and are compared without.
pub(super) fn without_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(rest) => rest,
    }
}

/// The values of the pattern's parameters, if the path matches.
pub(super) fn capture(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
    let mut params = Vec::new();
    let mut rest = path.split('/');
    for want in pattern.split('/') {
        let name = want
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        match name {
            Some(name) if name.starts_with('*') => {
                let tail: Vec<&str> = rest.collect();
                let tail = tail.join("/");
                return (!tail.is_empty()).then(|| {
                    params.push((name.trim_start_matches('*').to_owned(), tail));
                    params
                });
            }
            Some(name) => {
                let value = rest.next().filter(|value| !value.is_empty())?;
                params.push((name.to_owned(), value.to_owned()));
            }
            None if rest.next() == Some(want) => {}
            None => return None,
        }
    }
    rest.next().is_none().then_some(params)
}

/// Sorts patterns as the server prefers them, from the left: a literal segment
/// before a parameter, that before the rest.
pub(super) fn vagueness(pattern: &str) -> Vec<u8> {
    let vagueness = |segment: &str| match segment.strip_prefix('{') {
        None => 0,
        Some(name) if !name.starts_with('*') => 1,
        Some(_) => 2,
    };
    pattern.split('/').map(vagueness).collect()
}
