//! The status and the code of each failure of a payment.

use coglex_payment::{PaymentError, Refusal};
use http::StatusCode;

use crate::http::error::ApiError;

/// What a client is told. Codes of Stripe's are passed on.
pub(super) fn problem(error: PaymentError) -> ApiError {
    match error {
        PaymentError::NotConfigured => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "payment_not_configured",
            "Payments are off: the setting payment.secret_key has no key of Stripe.",
        ),
        PaymentError::WebhookNotConfigured => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "payment_webhook_not_configured",
            "Events are not taken: the setting payment.webhook_secret has no signing secret.",
        ),
        PaymentError::Invalid(sentence) => ApiError::invalid(sentence),
        PaymentError::Untrusted { code, message } => ApiError::bad_request(code, message),
        PaymentError::Declined(refusal) => of_stripe(StatusCode::PAYMENT_REQUIRED, refusal),
        PaymentError::Refused(refusal) => of_stripe(StatusCode::BAD_REQUEST, refusal),
        PaymentError::NotFound(refusal) => of_stripe(StatusCode::NOT_FOUND, refusal),
        PaymentError::Provider(refusal) => of_stripe(StatusCode::BAD_GATEWAY, refusal),
        PaymentError::Busy { retry_after } => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "stripe_busy",
            "Stripe takes no more requests for now.",
        )
        .with_retry_after(retry_after),
        PaymentError::Service(error) => ApiError::from(error),
    }
}

fn of_stripe(status: StatusCode, refusal: Refusal) -> ApiError {
    let mut sentence = refusal.message;
    for (name, value) in [
        ("decline_code", refusal.decline_code),
        ("param", refusal.param),
    ] {
        if let Some(value) = value {
            sentence.push_str(&format!(" ({name}: {value})"));
        }
    }
    ApiError::new(status, refusal.code, sentence)
}
