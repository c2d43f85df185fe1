//! Stripe's forms, `items[0][price]=price_1&metadata[order]=7`, as JSON. All leaves
//! are texts, as they are on the wire.

use serde_json::{Map, Value};

/// Deeper forms are not Stripe's.
const MAX_DEPTH: usize = 12;

/// Reads a query string or a form body.
pub(crate) fn parse(text: &[u8]) -> Result<Map<String, Value>, String> {
    let mut root = Value::Object(Map::new());
    for (name, value) in form_urlencoded::parse(text) {
        let path = path(&name)?;
        place(&mut root, &path, value.into_owned()).ok_or_else(|| format!("Invalid {name}"))?;
    }
    lists(&mut root);
    match root {
        Value::Object(form) => Ok(form),
        _ => Err("Invalid form".to_owned()),
    }
}

/// `a[b][]` as `a`, `b` and an empty name.
fn path(name: &str) -> Result<Vec<&str>, String> {
    let (first, mut rest) = match name.find('[') {
        Some(at) => name.split_at(at),
        None => (name, ""),
    };
    let mut path = vec![first];
    while !rest.is_empty() {
        let inner = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let Some((part, after)) = inner else {
            return Err(format!("Invalid parameter name: {name}"));
        };
        path.push(part);
        rest = after;
    }
    match path.len() {
        1..=MAX_DEPTH => Ok(path),
        _ => Err(format!("Parameter is nested too deeply: {name}")),
    }
}

fn place(at: &mut Value, path: &[&str], value: String) -> Option<()> {
    let Some((first, rest)) = path.split_first() else {
        *at = Value::String(value);
        return Some(());
    };
    if at.is_null() {
        *at = Value::Object(Map::new());
    }
    let object = at.as_object_mut()?;
    // `a[]=1&a[]=2`: each is the next one.
    let name = match first.is_empty() {
        true => object.len().to_string(),
        false => (*first).to_owned(),
    };
    place(object.entry(name).or_insert(Value::Null), rest, value)
}

/// Objects whose names are 0, 1, 2… become lists.
fn lists(value: &mut Value) {
    let Value::Object(object) = value else {
        return;
    };
    object.values_mut().for_each(lists);
    let mut numbered: Vec<(usize, Value)> = Vec::new();
    for (name, value) in object.iter() {
        match name.parse() {
            Ok(number) => numbered.push((number, value.clone())),
            Err(_) => return,
        }
    }
    if !numbered.is_empty() {
        numbered.sort_by_key(|(number, _)| *number);
        *value = numbered.into_iter().map(|(_, value)| value).collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_become_trees() {
        let check = |text: &str, expected: Value| {
            assert_eq!(Value::Object(parse(text.as_bytes()).unwrap()), expected);
        };
        check("", json!({}));
        check("a=1&b=x+y%21", json!({"a": "1", "b": "x y!"}));
        check(
            "items[0][price]=p&items[0][quantity]=2&items[1][price]=q",
            json!({"items": [{"price": "p", "quantity": "2"}, {"price": "q"}]}),
        );
        check("expand[]=a&expand[]=b", json!({"expand": ["a", "b"]}));
        check("m%5Bk%5D=v", json!({"m": {"k": "v"}}));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for bad in [
            "a[b=1",
            "a[b]c=1",
            "a=1&a[b]=2",
            &format!("a{}=1", "[b]".repeat(20)),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
