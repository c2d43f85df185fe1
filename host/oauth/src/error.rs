//! Why a provider's word could not be had, or is not believed.

/// Why there is no identity. What it says is for the log: none of it is a client's
/// business, but that it did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The provider cannot be reached, or does not answer in time.
    #[error("the provider {provider} cannot be reached: {why}")]
    Unreachable {
        /// The provider's name.
        provider: String,
        /// What happened.
        why: String,
    },
    /// What the provider answers is not what it should be.
    #[error("the provider {provider} answers wrongly: {why}")]
    Answer {
        /// The provider's name.
        provider: String,
        /// What is wrong with it.
        why: String,
    },
    /// The provider refuses the code: it was used before, is over, or is not for us.
    #[error("the provider {provider} refuses the code: {code}")]
    Refused {
        /// The provider's name.
        provider: String,
        /// Its error code (RFC 6749, section 5.2).
        code: String,
    },
    /// The ID token is not to be believed.
    #[error("the ID token of {provider} is not good: {why}")]
    IdToken {
        /// The provider's name.
        provider: String,
        /// Which check it does not pass.
        why: &'static str,
    },
    /// Something here, such as the provider's settings.
    #[error("{0}")]
    Local(&'static str),
}
