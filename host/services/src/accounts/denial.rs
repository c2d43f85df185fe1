//! Why somebody is not let in, or may not change how he gets in, where a client should
//! do something about it. Each has a stable code.

use bson::DateTime;

/// A proof of identity that is missing, wrong or not enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The first factor is right; the user has a second one.
    #[error("a second factor is required: send a code with the challenge")]
    SecondFactorRequired(Challenge),
    /// The challenge is none of ours, over, or was answered.
    #[error("the challenge is not good or no longer is; sign in again")]
    ChallengeInvalid,
    /// The password is missing or wrong.
    #[error("the password is missing or not right")]
    WrongPassword,
    /// The code of the second factor is missing or wrong, or was used before.
    #[error("the code is missing, not right, or has been used before")]
    WrongCode,
    /// The user has no password to show, and signed in too long ago.
    #[error("this needs a sign-in of the last few minutes; sign in again")]
    SignInAgain,
    /// A second factor is there already.
    #[error("a second factor is set up already; disable it first")]
    TotpEnabled,
    /// There is no second factor.
    #[error("no second factor is set up")]
    TotpNotEnabled,
    /// There is no second factor to confirm, or it was begun too long ago.
    #[error("there is no second factor to confirm; begin again")]
    TotpNotBegun,
    /// The user's address has to be verified first.
    #[error("the e-mail address is not verified yet")]
    EmailNotVerified,
    /// A mailed link is none of ours, over, or was used.
    #[error("the link is not good or no longer is; ask for another")]
    TokenInvalid,
    /// A browser comes back from a provider, and nothing is known of that it went there.
    #[error("this sign-in was not begun in this browser, took too long, or has been finished")]
    OAuthStateInvalid,
    /// A page's code is none of ours, over, or was used.
    #[error("the code is not good or no longer is; sign in again")]
    OAuthCodeInvalid,
    /// The user has not agreed at the provider.
    #[error("the provider was not allowed to say who you are")]
    ProviderDenied,
    /// The provider cannot be reached, or is not believed.
    #[error("the provider did not say who you are, or not so that it can be believed")]
    ProviderFailed,
    /// There is an account with the address that a provider tells.
    #[error("an account has this address already: sign in to it in another way and link this")]
    AccountExists,
    /// The identity is another user's.
    #[error("another user has linked this identity")]
    IdentityTaken,
    /// The realm takes no new users.
    #[error("users of this collection do not sign up themselves")]
    SignUpClosed,
    /// A user would lock himself out.
    #[error("this is the last way to sign in; set a password or link another first")]
    LastWayIn,
    /// Something else was changed in the same moment.
    #[error("the account was changed in this moment; try again")]
    Changed,
}

impl Denial {
    /// The stable, snake_case code.
    pub fn code(&self) -> &'static str {
        match self {
            Denial::SecondFactorRequired(_) => "second_factor_required",
            Denial::ChallengeInvalid => "challenge_invalid",
            Denial::WrongPassword => "wrong_password",
            Denial::WrongCode => "wrong_code",
            Denial::SignInAgain => "sign_in_again",
            Denial::TotpEnabled => "totp_enabled",
            Denial::TotpNotEnabled => "totp_not_enabled",
            Denial::TotpNotBegun => "totp_not_begun",
            Denial::EmailNotVerified => "email_not_verified",
            Denial::TokenInvalid => "token_invalid",
            Denial::OAuthStateInvalid => "oauth_state_invalid",
            Denial::OAuthCodeInvalid => "oauth_code_invalid",
            Denial::ProviderDenied => "access_denied",
            Denial::ProviderFailed => "provider_failed",
            Denial::AccountExists => "account_exists",
            Denial::IdentityTaken => "identity_taken",
            Denial::SignUpClosed => "sign_up_closed",
            Denial::LastWayIn => "last_way_in",
            Denial::Changed => "changed_meanwhile",
        }
    }
}

/// What a sign-in is gone on with by a second factor.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Opaque; good once, for this user alone. It opens nothing by itself.
    pub token: String,
    /// When it is over.
    pub expires: DateTime,
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenge")
            .field("token", &"***")
            .field("expires", &self.expires)
            .finish()
    }
}
