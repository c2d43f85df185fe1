//! A message, checked before anything of it gets near a header.

use lettre::Message;
use lettre::message::{Mailbox, MultiPart, SinglePart};

use crate::mailer::SendError;

/// The longest address (RFC 5321, section 4.5.3.1.3, less the angle brackets).
const MAX_ADDRESS_BYTES: usize = 254;
/// The longest subject: a line of a header has at most 998 characters.
pub const MAX_SUBJECT_BYTES: usize = 500;

/// A message to one reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// One line.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The same for readers that show HTML.
    pub html: Option<String>,
}

impl Letter {
    /// The message as it is sent. Control characters, line breaks above all, are refused
    /// rather than encoded: nobody means them in an address or a subject.
    pub(crate) fn message(
        &self,
        from: &Mailbox,
        to: &str,
        reply_to: Option<&str>,
        id: Option<&str>,
    ) -> Result<Message, SendError> {
        let subject = self.subject.trim();
        if subject.len() > MAX_SUBJECT_BYTES || subject.contains(char::is_control) {
            return Err(SendError::refused("the subject is not one short line"));
        }
        let mut builder = Message::builder()
            .from(from.clone())
            .to(mailbox(to)?)
            .subject(subject)
            .date_now()
            .message_id(id.map(|id| format!("<{id}@{}>", from.email.domain())));
        if let Some(address) = reply_to {
            builder = builder.reply_to(mailbox(address)?);
        }
        // Made by a program: nobody's holiday answers it (RFC 3834, section 5).
        builder = builder.header(AutoSubmitted);
        let message = match &self.html {
            Some(html) => builder.multipart(MultiPart::alternative_plain_html(
                self.text.clone(),
                html.clone(),
            )),
            None => builder.singlepart(SinglePart::plain(self.text.clone())),
        };
        message.map_err(|error| SendError::refused(&error.to_string()))
    }
}

/// Whether mail can be sent there: `local@domain`, without a name, comment or quotes.
pub fn is_address(text: &str) -> bool {
    mailbox(text).is_ok()
}

fn mailbox(text: &str) -> Result<Mailbox, SendError> {
    let plain = text.len() <= MAX_ADDRESS_BYTES
        && !text
            .contains(|c: char| c.is_control() || c.is_whitespace() || "\"<>(),;:\\".contains(c));
    let address = plain.then(|| text.parse().ok()).flatten();
    let address = address.ok_or_else(|| SendError::refused("the address is none"))?;
    Ok(Mailbox::new(None, address))
}

/// `Auto-Submitted: auto-generated`.
#[derive(Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(subject: &str) -> Letter {
        Letter {
            subject: subject.into(),
            text: "Good day.\n.\nBcc: eve@example.org\n".into(),
            html: Some("<p>Good day.</p>".into()),
        }
    }

    fn made(subject: &str, to: &str) -> Result<String, SendError> {
        let from: Mailbox = "Acme <acme@example.org>".parse().unwrap();
        let message = letter(subject).message(&from, to, None, Some("1"))?;
        Ok(String::from_utf8(message.formatted()).unwrap())
    }

    #[test]
    fn a_message_has_both_bodies_and_says_that_it_is_automatic() {
        let text = made("Grüße", "ann@example.org").unwrap();
        for line in [
            "From: \"Acme\" <acme@example.org>",
            "To: ann@example.org",
            "Message-ID: <1@example.org>",
            "Auto-Submitted: auto-generated",
            "Content-Type: multipart/alternative",
            "Content-Type: text/html",
        ] {
            assert!(
                text.contains(line) || text.contains(&line.replace('"', "")),
                "{line}\n{text}"
            );
        }
        assert!(!text.contains("Grüße"), "{text}");
    }

    #[test]
    fn nothing_gets_into_the_headers() {
        for to in [
            "",
            "ann",
            "ann@",
            "@example.org",
            "ann@example.org\r\nBcc: eve@example.org",
            "ann@example.org, eve@example.org",
            "Ann <ann@example.org>",
            "\"ann eve\"@example.org",
            "ann@exa mple.org",
            "ann@example.org\0",
        ] {
            assert!(!is_address(to), "{to:?}");
            assert!(made("Hello", to).is_err(), "{to:?}");
        }
        for subject in [
            "a\r\nBcc: eve@example.org",
            "a\nb",
            "a\0b",
            &"x".repeat(501),
        ] {
            assert!(made(subject, "ann@example.org").is_err(), "{subject:?}");
        }
        assert!(is_address("ann+tag@sub.example.org"));
        // What stands in the body stays there.
        let text = made("Hello", "ann@example.org").unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains("Bcc"), "{head}");
    }
}
