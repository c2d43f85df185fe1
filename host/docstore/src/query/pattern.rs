//! Regular expressions, as MongoDB's clients write them (PCRE), run by an engine
//! whose time is linear in the text.
//!
//! The two dialects differ in details, so the pattern is translated first.
//! What a linear engine cannot do (look-around, back-references, possessive
//! matching) is refused, never approximated.

use std::cell::Cell;

use regex::bytes::{Regex, RegexBuilder};

use crate::error::{Error, Result};
use crate::value::{Kind, Value};

/// Bytes of a pattern; MongoDB's own limit.
const MAX_PATTERN: usize = 32_764;
/// Bytes that a compiled pattern may take, so that `(a{1000}){1000}` is refused.
const MAX_PROGRAM: usize = 256 << 10;
/// The same for a schema's, which is compiled once for all writes.
const MAX_SCHEMA_PROGRAM: usize = 1 << 20;
/// Patterns in one question or change, all its parts together. Compiling one
/// takes milliseconds, and each is held as long as the operation runs.
pub(crate) const MAX_PATTERNS: usize = 64;

thread_local! {
    /// Patterns that the operation under way may still compile; none outside of
    /// a [`Budget`].
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Bounds the patterns that are compiled on this thread while it lives. Within
/// another budget it changes nothing, so that the parts of an operation (a
/// filter, a projection, the stages of a pipeline) share the outermost.
///
/// Compiling never waits, so an operation stays on its thread meanwhile; the
/// budget must not be held across an `await`, and cannot be where futures are
/// `Send`.
pub(crate) struct Budget {
    outermost: bool,
    stays: std::marker::PhantomData<*const ()>,
}

impl Budget {
    pub(crate) fn open() -> Self {
        let outermost = LEFT.get().is_none();
        if outermost {
            LEFT.set(Some(MAX_PATTERNS));
        }
        Budget {
            outermost,
            stays: std::marker::PhantomData,
        }
    }

    /// Takes one pattern of the open budget.
    fn spend() -> Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(Error::TooLarge(format!(
                "there are more than {MAX_PATTERNS} regular expressions in the operation"
            ))),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        if self.outermost {
            LEFT.set(None);
        }
    }
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    source: Box<str>,
    options: Box<str>,
}

impl Pattern {
    /// Compiles `source` with options out of `imsx`; `u` is accepted and changes
    /// nothing.
    pub(crate) fn compile(source: &str, options: &str, path: &str) -> Result<Self> {
        Budget::spend()?;
        Self::within(source, options, path, MAX_PROGRAM)
    }

    /// Compiles a schema's pattern.
    pub(crate) fn of_schema(source: &str, keyword: &str) -> Result<Self> {
        Self::within(source, "", keyword, MAX_SCHEMA_PROGRAM)
    }

    fn within(source: &str, options: &str, path: &str, max_program: usize) -> Result<Self> {
        let refuse = |why: &str| Error::Invalid(format!("$regex at '{path}': {why}"));
        if source.len() > MAX_PATTERN {
            return Err(refuse("the pattern is too long"));
        }
        if source.contains('\0') {
            return Err(refuse("the pattern contains a NUL character"));
        }
        let has = |flag: char| options.contains(flag);
        if let Some(unknown) = options.chars().find(|option| !"imsxu".contains(*option)) {
            return Err(refuse(&format!("unknown option '{unknown}'")));
        }
        let translated = translate(source, has('m')).map_err(|why| refuse(&why))?;
        let regex = RegexBuilder::new(&translated)
            .case_insensitive(has('i'))
            .multi_line(has('m'))
            .dot_matches_new_line(has('s'))
            .ignore_whitespace(has('x'))
            .size_limit(max_program)
            .dfa_size_limit(max_program)
            .nest_limit(100)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => refuse("the pattern is too costly"),
                _ => refuse("the pattern is not a supported regular expression"),
            })?;
        let mut options: Vec<char> = options.chars().collect();
        options.sort_unstable();
        options.dedup();
        Ok(Pattern {
            regex,
            source: source.into(),
            options: options.into_iter().collect(),
        })
    }

    /// The pattern itself, for searching in UTF-8 text.
    pub(crate) fn regex(&self) -> &Regex {
        &self.regex
    }

    /// Strings and symbols match by content, a stored pattern by being the same.
    pub(crate) fn matches(&self, value: Value<'_>) -> bool {
        match value.kind {
            Kind::String | Kind::Symbol => self.regex.is_match(value.text()),
            Kind::Regex => value.regex() == (self.source.as_bytes(), self.options.as_bytes()),
            _ => false,
        }
    }

    /// Whether a text matches, such as a field's name.
    pub(crate) fn matches_text(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// The literal text that every match starts with, when the pattern is
    /// anchored and case matters.
    pub(crate) fn prefix(&self) -> Option<String> {
        if !self.options.is_empty() {
            return None;
        }
        let body = self.source.strip_prefix('^')?;
        if body.contains('|') {
            return None;
        }
        let mut literal = String::new();
        for (at, character) in body.char_indices() {
            if character.is_alphanumeric() || " _-/@:,;#%&=<>!~'\"`".contains(character) {
                literal.push(character);
                continue;
            }
            // A quantifier makes the character before it optional.
            if matches!(
                body.get(at..).and_then(|rest| rest.chars().next()),
                Some('*' | '?' | '{')
            ) {
                literal.pop();
            }
            break;
        }
        (!literal.is_empty()).then_some(literal)
    }
}

/// Rewrites PCRE as the `regex` crate's dialect.
fn translate(source: &str, multi_line: bool) -> Result<String, String> {
    let mut out = String::with_capacity(source.len() + 16);
    let mut characters = source.chars().peekable();
    let mut in_class = false;
    // Whether the last piece was a quantifier: another '+' would make it
    // possessive.
    let mut quantified = false;
    while let Some(character) = characters.next() {
        let was_quantified = std::mem::take(&mut quantified);
        match character {
            '\\' => match characters.next() {
                None => return Err("the pattern ends in a backslash".into()),
                Some('Q') => {
                    let mut quoted = String::new();
                    for next in characters.by_ref() {
                        quoted.push(next);
                        if quoted.ends_with("\\E") {
                            quoted.truncate(quoted.len() - 2);
                            break;
                        }
                    }
                    out.push_str(&regex::escape(&quoted));
                }
                Some('E') => {}
                // PCRE's classes are ASCII unless asked otherwise.
                Some('d') => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str(if in_class {
                    "0-9A-Za-z_"
                } else {
                    "[0-9A-Za-z_]"
                }),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str(if in_class {
                    "\\t\\n\\x0B\\x0C\\r "
                } else {
                    "[\\t\\n\\x0B\\x0C\\r\\x20]"
                }),
                Some('S') => out.push_str("[^\\t\\n\\x0B\\x0C\\r\\x20]"),
                Some('b') if in_class => out.push_str("\\x08"),
                Some('b') => out.push_str("(?-u:\\b)"),
                Some('B') => out.push_str("(?-u:\\B)"),
                Some('Z') => out.push_str("(?:\\n?\\z)"),
                Some('e') => out.push_str("\\x1B"),
                Some(other @ ('<' | '>')) => out.push(other),
                Some(digit @ '1'..='9') => {
                    return Err(format!("the back-reference \\{digit} is not supported"));
                }
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
            },
            '[' if in_class => {
                if characters.peek() == Some(&':') {
                    out.push('[');
                    for next in characters.by_ref() {
                        out.push(next);
                        if out.ends_with(":]") {
                            break;
                        }
                    }
                } else {
                    out.push_str("\\[");
                }
            }
            '[' => {
                in_class = true;
                out.push('[');
                if characters.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that opens the class's list is literal.
                if characters.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(character);
            }
            _ if in_class => out.push(character),
            '(' => {
                out.push('(');
                let rest: String = characters.clone().take(3).collect();
                for refused in ["?=", "?!", "?<=", "?<!", "?>", "?|", "?#", "?(", "*"] {
                    if rest.starts_with(refused) {
                        return Err(format!("the group ({refused}…) is not supported"));
                    }
                }
            }
            // Without the multi-line option, '$' also matches before a final
            // line break.
            '$' if !multi_line => out.push_str("(?:\\n?\\z)"),
            '{' => {
                let bounds: String = characters.clone().take_while(|next| *next != '}').collect();
                let closed = characters.clone().any(|next| next == '}');
                let (low, high) = bounds.split_once(',').unwrap_or((&bounds, ""));
                let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                if closed && !low.is_empty() && digits(low) && digits(high) {
                    out.push('{');
                    out.push_str(&bounds);
                    out.push('}');
                    let _ = characters.nth(bounds.chars().count());
                    quantified = true;
                } else {
                    out.push_str("\\{");
                }
            }
            '}' => out.push_str("\\}"),
            '+' if was_quantified => return Err("possessive quantifiers are not supported".into()),
            '*' | '+' | '?' => {
                out.push(character);
                quantified = !was_quantified;
            }
            _ => out.push(character),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::OwnedValue;
    use bson::Bson;

    fn check(pattern: &str, options: &str, text: &str, expected: bool) {
        let compiled = Pattern::compile(pattern, options, "a").unwrap();
        let value = OwnedValue::encode(&Bson::String(text.into())).unwrap();
        assert_eq!(
            compiled.matches(value.get()),
            expected,
            "/{pattern}/{options} on {text:?}"
        );
    }

    #[test]
    fn patterns_mean_what_pcre_means() {
        check("b", "", "abc", true);
        check("^b", "", "abc", false);
        check("B", "i", "abc", true);
        check("É", "i", "é", true);
        check("a.c", "", "a\nc", false);
        check("a.c", "s", "a\nc", true);
        check("^c", "", "a\nc", false);
        check("^c", "m", "a\nc", true);
        check("a b # note", "x", "ab", true);
        check("c$", "", "abc\n", true);
        check("c$", "", "abc\n\n", false);
        check("a$", "m", "a\nb", true);
        check("\\d", "", "٣", false);
        check("\\w", "", "é", false);
        check("[\\d-]+$", "", "1-2", true);
        check("\\bfoo\\b", "", "a foo b", true);
        check("[[:alpha:]]", "", "1a", true);
        check("[]a]", "", "]", true);
        check("[a&&b]", "", "&", true);
        check("[[a]", "", "[", true);
        check("a{", "", "a{", true);
        check("{name}", "", "{name}", true);
        check("a{2,3}", "", "caab", true);
        check("a{2}b", "", "aab", true);
        check("a+?b", "", "aab", true);
        check("\\Qa.b\\E", "", "axb", false);
        check("\\Qa.b\\Ec", "", "a.bc", true);
        check("a\\/b", "", "a/b", true);
        check("\\<", "", "<", true);
    }

    #[test]
    fn what_cannot_be_run_in_linear_time_is_refused() {
        for (pattern, options, why) in [
            ("(?=a)", "", "not supported"),
            ("(?<!a)b", "", "not supported"),
            ("(a)\\1", "", "back-reference"),
            ("a++", "", "possessive"),
            ("(?>a)", "", "not supported"),
            ("(", "", "not a supported"),
            ("a", "g", "unknown option 'g'"),
            ("(((a{100}){100}){100}){100}", "", "too costly"),
            (&"x".repeat(40_000), "", "too long"),
            (&"(".repeat(5_000), "", "not a supported"),
        ] {
            let error = Pattern::compile(pattern, options, "a.b")
                .unwrap_err()
                .to_string();
            assert!(error.contains(why) && error.contains("a.b"), "{error}");
        }
    }

    #[test]
    fn anchored_literals_give_a_prefix() {
        for (pattern, options, expected) in [
            ("^abc", "", Some("abc")),
            ("^abc.*", "", Some("abc")),
            ("^abc*", "", Some("ab")),
            ("^abc?d", "", Some("ab")),
            ("^a{2}", "", None),
            ("^abc+", "", Some("abc")),
            ("^abc|d", "", None),
            ("^abc", "i", None),
            ("abc", "", None),
            ("^\\d", "", None),
        ] {
            let prefix = Pattern::compile(pattern, options, "a").unwrap().prefix();
            assert_eq!(prefix.as_deref(), expected, "{pattern}");
        }
    }
}
