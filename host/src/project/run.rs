//! Runs the languages' tools: what they say is shown as it comes, and kept for
//! those who were not watching the terminal.

use std::io::{IsTerminal as _, Write as _};
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;

/// How much of a tool's output is kept: the end of it, where the errors are.
const KEPT: usize = 64 * 1024;

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// The tool says what is wrong with the source. It has been shown already.
    #[error("the source does not build")]
    Source {
        /// What the tool said, without colours.
        output: String,
    },
    /// The tool could not be run, or something around it failed.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl BuildError {
    /// What a person has to read to mend it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Source { output } => output.clone(),
            Self::Other(error) => format!("{error:#}"),
        }
    }
}

/// When a tool's words are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Standard error as it comes.
    Live,
    /// Everything, but only when the tool fails.
    OnFailure,
}

/// Runs a tool to its end; answers with its standard output. `program` is its
/// name for messages.
pub(super) async fn run(
    program: &str,
    command: &mut Command,
    show: Show,
) -> Result<String, BuildError> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {program}; is it installed?"))?;
    let stdout = child.stdout.take().context("the tool has no output")?;
    let stderr = child.stderr.take().context("the tool has no output")?;
    let (printed, said) = tokio::join!(all(stdout), lines(stderr, show));
    let printed = printed.with_context(|| format!("cannot read what {program} prints"))?;
    let said = said.with_context(|| format!("cannot read what {program} says"))?;
    let status = child
        .wait()
        .await
        .with_context(|| format!("cannot wait for {program}"))?;
    if status.success() {
        return Ok(printed);
    }
    let output = match show {
        Show::Live => said,
        Show::OnFailure => {
            let all = format!("{printed}{said}");
            tell(&all);
            all
        }
    };
    Err(BuildError::Source {
        output: without_colours(end_of(&output)),
    })
}

/// Whether standard error understands colours, for tools that cannot see it.
pub(super) fn in_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Writes to standard error. If that is gone, there is nobody to tell.
pub(super) fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

async fn all(mut from: impl AsyncRead + Unpin) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn lines(from: impl AsyncRead + Unpin, show: Show) -> std::io::Result<String> {
    let mut from = BufReader::new(from);
    let mut kept = String::new();
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).await? > 0 {
        let text = String::from_utf8_lossy(&line);
        if show == Show::Live {
            tell(&text);
        }
        kept.push_str(&text);
        if kept.len() > 2 * KEPT {
            kept = end_of(&kept).to_owned();
        }
        line.clear();
    }
    Ok(kept)
}

/// The last bytes of a text, from the start of a character.
fn end_of(text: &str) -> &str {
    let mut start = text.len().saturating_sub(KEPT);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default()
}

/// Takes out what tells a terminal how to show a text: `ESC [ … m` and the like.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        if char != '\x1b' {
            plain.push(char);
        } else if rest.next() == Some('[') {
            rest.by_ref().find(|char| ('@'..='~').contains(char));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out() {
        let text = "\x1b[1m\x1b[38;5;9merror\x1b[0m: no\n";
        assert_eq!(without_colours(text), "error: no\n");
        assert_eq!(without_colours("a\x1b"), "a");
        assert_eq!(without_colours("a\x1b[31"), "a");
    }

    #[test]
    fn the_end_is_kept() {
        let text = "é".repeat(KEPT);
        let end = end_of(&text);
        assert!(end.len() <= KEPT && end.chars().all(|char| char == 'é'));
        assert_eq!(end_of("short"), "short");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn output_is_returned_and_failures_keep_both_streams() {
        let mut good = Command::new("sh");
        good.args(["-c", "echo out; echo err >&2"]);
        assert_eq!(
            run("sh", &mut good, Show::OnFailure).await.unwrap(),
            "out\n"
        );
        let mut bad = Command::new("sh");
        bad.args(["-c", "echo out; echo err >&2; exit 3"]);
        let error = run("sh", &mut bad, Show::OnFailure).await.unwrap_err();
        assert_eq!(error.text(), "out\nerr\n");
        let absent = run("absent", &mut Command::new("/absent/tool"), Show::Live).await;
        assert!(absent.unwrap_err().text().contains("cannot start absent"));
    }
}
