//! `coglex dev --fake-stripe`: payments without a network and without an account. The
//! server speaks to a stand-in in its own process, which sends it events.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail};
use coglex_fake_stripe::{Endpoint, FakeStripe};

use crate::config::{PaymentConfig, PaymentMode, Secret};

/// The stand-in, for as long as the server runs.
pub(crate) struct Stripe {
    fake: FakeStripe,
    webhook_secret: String,
}

impl Stripe {
    /// Starts it, and points the settings to it. Refuses where they name a real one.
    pub(crate) async fn start(payment: &mut PaymentConfig) -> anyhow::Result<Self> {
        let live = payment
            .secret_key
            .as_ref()
            .is_some_and(|key| key.expose().contains("_live_"));
        if live || payment.mode == PaymentMode::Live {
            bail!(
                "--fake-stripe is for development, and the settings of payment are for live mode"
            );
        }
        let fake = FakeStripe::start((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .context("cannot start the stand-in for Stripe")?;
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).context("the system has no random numbers")?;
        let webhook_secret = format!("whsec_{}", hex::encode(bytes));
        payment.secret_key = Some(Secret::from("sk_test_fake".to_owned()));
        payment.webhook_secret = Some(Secret::from(webhook_secret.clone()));
        payment.api_base = fake.url();
        Ok(Self {
            fake,
            webhook_secret,
        })
    }

    /// Has events sent to the server, puts something up for sale, and says so.
    pub(crate) fn announce(&self, mut server: SocketAddr) -> std::io::Result<()> {
        if server.ip().is_unspecified() {
            server.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        self.fake.deliver_to(Endpoint {
            url: format!("http://{server}/service/payment/v1/webhook/"),
            secret: self.webhook_secret.clone(),
        });
        let once = self.fake.offer("Something", 1_000, "eur", None);
        let monthly = self
            .fake
            .offer("Something each month", 500, "eur", Some("month"));
        let mut out = std::io::stdout().lock();
        writeln!(out, "stand-in for Stripe on {}", self.fake.url())?;
        writeln!(out, "  {once}  10.00 eur")?;
        writeln!(out, "  {monthly}  5.00 eur each month")?;
        out.flush()
    }
}
