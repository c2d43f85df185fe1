//! Whole objects, with every field that Stripe sends and readers insist on. `id` is
//! the kind's prefix until the object is kept.

use serde_json::{Value, json};

use crate::state::{now, random};

pub(crate) fn product(name: &str) -> Value {
    json!({
        "id": "prod", "object": "product", "active": true, "created": now(),
        "default_price": null, "description": null, "images": [], "livemode": false,
        "marketing_features": [], "metadata": {}, "name": name,
        "package_dimensions": null, "shippable": null, "statement_descriptor": null,
        "tax_code": null, "type": "service", "unit_label": null, "updated": now(), "url": null,
    })
}

/// `every` is the interval of one that recurs.
pub(crate) fn price(product: &str, amount: i64, currency: &str, every: Option<&str>) -> Value {
    let recurring = every.map(|interval| {
        json!({
            "interval": interval, "interval_count": 1, "meter": null,
            "usage_type": "licensed", "trial_period_days": null,
        })
    });
    json!({
        "id": "price", "object": "price", "active": true, "billing_scheme": "per_unit",
        "created": now(), "currency": currency, "custom_unit_amount": null,
        "livemode": false, "lookup_key": null, "metadata": {}, "nickname": null,
        "product": product, "recurring": recurring, "tax_behavior": "unspecified",
        "tiers_mode": null, "transform_quantity": null,
        "type": if every.is_some() { "recurring" } else { "one_time" },
        "unit_amount": amount, "unit_amount_decimal": amount.to_string(),
    })
}

pub(crate) fn customer(email: Option<&str>, name: Option<&str>, metadata: Value) -> Value {
    json!({
        "id": "cus", "object": "customer", "address": null, "balance": 0, "created": now(),
        "currency": null, "default_source": null, "delinquent": false, "description": null,
        "discount": null, "email": email, "invoice_prefix": random().to_uppercase(),
        "invoice_settings": {
            "custom_fields": null, "default_payment_method": null, "footer": null,
            "rendering_options": null,
        },
        "livemode": false, "metadata": metadata, "name": name, "next_invoice_sequence": 1,
        "phone": null, "preferred_locales": [], "shipping": null, "tax_exempt": "none",
        "test_clock": null,
    })
}

/// What is bought: the price of each line and how many.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) price: Value,
    pub(crate) quantity: i64,
}

impl Line {
    pub(crate) fn amount(&self) -> i64 {
        let unit = self.price["unit_amount"].as_i64().unwrap_or(0);
        unit.saturating_mul(self.quantity)
    }
}

pub(crate) fn total(lines: &[Line]) -> i64 {
    lines.iter().map(Line::amount).fold(0, i64::saturating_add)
}

pub(crate) fn currency(lines: &[Line]) -> String {
    let first = lines
        .first()
        .and_then(|line| line.price["currency"].as_str());
    first.unwrap_or("usd").to_owned()
}

/// An open Checkout session. The lines are kept beside Stripe's own fields, which do
/// not show them unless they are asked for.
pub(crate) fn session(mode: &str, lines: &[Line], form: &Value) -> Value {
    let amount = total(lines);
    let text = |name: &str| form.get(name).cloned().unwrap_or(Value::Null);
    json!({
        "id": "cs_test", "object": "checkout.session", "adaptive_pricing": {"enabled": false},
        "after_expiration": null, "allow_promotion_codes": null,
        "amount_subtotal": amount, "amount_total": amount,
        "automatic_tax": {"enabled": false, "liability": null, "provider": null, "status": null},
        "billing_address_collection": null, "cancel_url": text("cancel_url"),
        "client_reference_id": text("client_reference_id"), "client_secret": null,
        "collected_information": null, "consent": null, "consent_collection": null,
        "created": now(), "currency": currency(lines), "currency_conversion": null,
        "custom_fields": [],
        "custom_text": {
            "after_submit": null, "shipping_address": null, "submit": null,
            "terms_of_service_acceptance": null,
        },
        "customer": text("customer"), "customer_account": null,
        "customer_creation": if mode == "payment" { "if_required" } else { "always" },
        "customer_details": null, "customer_email": text("customer_email"), "discounts": [],
        "expires_at": now() + 24 * 60 * 60, "invoice": null,
        "invoice_creation": null, "livemode": false, "locale": null,
        "managed_payments": null, "integration_identifier": null,
        "metadata": form.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "mode": mode, "origin_context": null, "payment_intent": null, "payment_link": null,
        "payment_method_collection": "always", "payment_method_configuration_details": null,
        "payment_method_options": {}, "payment_method_types": ["card"],
        "payment_status": "unpaid", "permissions": null,
        "phone_number_collection": {"enabled": false}, "recovered_from": null,
        "saved_payment_method_options": null, "setup_intent": null,
        "shipping_address_collection": null, "shipping_cost": null, "shipping_options": [],
        "status": "open", "submit_type": null, "subscription": null,
        "success_url": text("success_url"),
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page", "url": null, "wallet_options": null,
    })
}

pub(crate) fn payment_intent(amount: i64, currency: &str, customer: Value, paid: bool) -> Value {
    json!({
        "id": "pi", "object": "payment_intent", "amount": amount, "amount_capturable": 0,
        "amount_details": {"tip": {}}, "amount_received": if paid { amount } else { 0 },
        "application": null, "application_fee_amount": null,
        "automatic_payment_methods": null, "canceled_at": null, "cancellation_reason": null,
        "capture_method": "automatic_async", "client_secret": null,
        "confirmation_method": "automatic", "created": now(), "currency": currency,
        "customer": customer, "customer_account": null, "description": null,
        "excluded_payment_method_types": null, "last_payment_error": null,
        "latest_charge": null, "livemode": false, "managed_payments": null, "metadata": {},
        "next_action": null, "on_behalf_of": null, "payment_method": null,
        "payment_method_configuration_details": null, "payment_method_options": {},
        "payment_method_types": ["card"], "processing": null, "receipt_email": null,
        "review": null, "setup_future_usage": null, "shipping": null, "source": null,
        "statement_descriptor": null, "statement_descriptor_suffix": null,
        "status": if paid { "succeeded" } else { "requires_payment_method" },
        "transfer_data": null, "transfer_group": null,
    })
}

pub(crate) fn charge(intent: &Value, email: Option<&str>) -> Value {
    json!({
        "id": "ch", "object": "charge", "amount": intent["amount"],
        "amount_captured": intent["amount"], "amount_refunded": 0, "application": null,
        "application_fee": null, "application_fee_amount": null, "balance_transaction": null,
        "billing_details": {
            "address": {
                "city": null, "country": null, "line1": null, "line2": null,
                "postal_code": null, "state": null,
            },
            "email": email, "name": null, "phone": null, "tax_id": null,
        },
        "calculated_statement_descriptor": "FAKE", "captured": true, "created": now(),
        "currency": intent["currency"], "customer": intent["customer"], "description": null,
        "disputed": false, "failure_balance_transaction": null, "failure_code": null,
        "failure_message": null, "fraud_details": {}, "livemode": false,
        "metadata": intent["metadata"], "on_behalf_of": null, "outcome": null, "paid": true,
        "payment_intent": intent["id"], "payment_method": null,
        "payment_method_details": null, "receipt_email": null, "receipt_number": null,
        "receipt_url": null, "refunded": false, "review": null, "shipping": null,
        "source": null, "source_transfer": null, "statement_descriptor": null,
        "statement_descriptor_suffix": null, "status": "succeeded", "transfer_data": null,
        "transfer_group": null,
    })
}

pub(crate) fn refund(amount: i64, charge: &Value, reason: Value, metadata: Value) -> Value {
    json!({
        "id": "re", "object": "refund", "amount": amount, "balance_transaction": null,
        "charge": charge["id"], "created": now(), "currency": charge["currency"],
        "destination_details": {"card": {"type": "refund"}, "type": "card"},
        "metadata": metadata, "payment_intent": charge["payment_intent"], "reason": reason,
        "receipt_number": null, "source_transfer_reversal": null, "status": "succeeded",
        "transfer_reversal": null,
    })
}

/// A month from now, near enough.
const PERIOD: i64 = 30 * 24 * 60 * 60;

pub(crate) fn subscription(
    customer: &str,
    lines: &[Line],
    status: &str,
    due: Option<i64>,
    metadata: Value,
) -> Value {
    let items = lines.iter().map(|line| {
        let unit = &line.price["unit_amount"];
        let recurring = &line.price["recurring"];
        json!({
            "id": format!("si_{}", random()), "object": "subscription_item",
            "billing_thresholds": null, "created": now(), "current_period_start": now(),
            "current_period_end": now() + PERIOD, "discounts": [], "metadata": {},
            "plan": {
                "id": line.price["id"], "object": "plan", "active": true, "amount": unit,
                "amount_decimal": line.price["unit_amount_decimal"],
                "billing_scheme": "per_unit", "created": now(),
                "currency": line.price["currency"], "interval": recurring["interval"],
                "interval_count": 1, "livemode": false, "metadata": {}, "meter": null,
                "nickname": null, "product": line.price["product"], "tiers_mode": null,
                "transform_usage": null, "trial_period_days": null, "usage_type": "licensed",
            },
            "price": line.price, "quantity": line.quantity, "subscription": null,
            "tax_rates": [],
        })
    });
    json!({
        "id": "sub", "object": "subscription", "application": null,
        "application_fee_percent": null,
        "automatic_tax": {"disabled_reason": null, "enabled": false, "liability": null},
        "billing_cycle_anchor": now(), "billing_cycle_anchor_config": null,
        "billing_mode": {"type": "flexible", "flexible": null}, "billing_schedules": [],
        "billing_thresholds": null, "cancel_at": null, "cancel_at_period_end": false,
        "canceled_at": null,
        "cancellation_details": {"comment": null, "feedback": null, "reason": null},
        "collection_method": if due.is_some() { "send_invoice" } else { "charge_automatically" },
        "created": now(), "currency": currency(lines), "customer": customer,
        "customer_account": null, "days_until_due": due, "default_payment_method": null,
        "default_source": null, "default_tax_rates": [], "description": null,
        "discounts": [], "ended_at": null,
        "invoice_settings": {
            "account_tax_ids": null, "custom_fields": null, "description": null,
            "footer": null, "issuer": {"type": "self"},
        },
        "items": {
            "object": "list", "data": items.collect::<Vec<_>>(), "has_more": false,
            "url": "/v1/subscription_items",
        },
        "latest_invoice": null, "livemode": false, "managed_payments": null,
        "metadata": metadata, "next_pending_invoice_item_invoice": null,
        "on_behalf_of": null, "pause_collection": null,
        "payment_settings": {
            "payment_method_options": null, "payment_method_types": null,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": null, "pending_setup_intent": null,
        "pending_update": null, "schedule": null, "start_date": now(), "status": status,
        "test_clock": null, "transfer_data": null, "trial_end": null,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": null,
    })
}

/// The parts of an invoice that receivers of events go by.
pub(crate) fn invoice(subscription: &Value, lines: &[Line], paid: bool) -> Value {
    let amount = total(lines);
    json!({
        "id": "in", "object": "invoice", "amount_due": amount,
        "amount_paid": if paid { amount } else { 0 },
        "amount_remaining": if paid { 0 } else { amount }, "attempt_count": 0,
        "attempted": paid, "auto_advance": true, "billing_reason": "subscription_create",
        "collection_method": subscription["collection_method"], "created": now(),
        "currency": subscription["currency"], "customer": subscription["customer"],
        "customer_email": null, "hosted_invoice_url": null, "livemode": false,
        "metadata": {}, "number": random().to_uppercase(),
        "parent": {
            "type": "subscription_details",
            "subscription_details": {"metadata": {}, "subscription": subscription["id"]},
        },
        "period_start": now(), "period_end": now() + PERIOD,
        "status": if paid { "paid" } else { "open" }, "subtotal": amount, "total": amount,
    })
}

pub(crate) fn portal_session(customer: &str, return_url: Value) -> Value {
    json!({
        "id": "bps", "object": "billing_portal.session",
        "configuration": "bpc_fake", "created": now(), "customer": customer,
        "customer_account": null, "flow": null, "livemode": false, "locale": null,
        "on_behalf_of": null, "return_url": return_url, "url": null,
    })
}
