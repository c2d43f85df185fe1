//! A server with a stand-in for Stripe: events find their way, and tests can send events
//! of their own, signed as Stripe signs them.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use coglex_fake_stripe::{Endpoint, FakeStripe, sign};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ADMIN_KEY, API_KEY, Client, PATIENCE, Reply, Send as _, TestServer};

/// The signing secret of every [`Shop`].
pub const SECRET: &str = "whsec_of_the_tests";

/// Where events are sent.
pub const WEBHOOK: &str = "/service/payment/v1/webhook/";

/// A server and its Stripe.
pub struct Shop {
    /// The stand-in.
    pub fake: FakeStripe,
    /// The server.
    pub server: TestServer,
    /// Runs the stand-in.
    runtime: tokio::runtime::Runtime,
}

impl Shop {
    /// With an empty store of its own.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), |_| {})
    }

    /// In a folder that a test has prepared; `adjust` can say more.
    pub fn start_in(dir: TempDir, adjust: impl FnOnce(&mut Command)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let fake = runtime.block_on(FakeStripe::start(address)).unwrap();
        let server = server(dir, &fake, adjust);
        fake.deliver_to(Endpoint {
            url: format!("{}{WEBHOOK}", server.url),
            secret: SECRET.to_owned(),
        });
        Self {
            fake,
            server,
            runtime,
        }
    }

    /// Kills the server without warning, and starts another on what it has left. Events
    /// of the stand-in go to the first one still: this is for events that tests send.
    pub fn kill_and_start(self) -> Self {
        let Self {
            fake,
            server: old,
            runtime,
        } = self;
        let server = server(old.kill(), &fake, |_| {});
        Self {
            fake,
            server,
            runtime,
        }
    }

    /// Tells the stand-in what to do.
    pub fn control(&self, path: &str, body: &Value) -> Value {
        let http = reqwest::blocking::Client::new();
        let url = format!("{}/_fake/{path}", self.fake.url());
        let answer = http.post(url).json(body).send().unwrap();
        answer.error_for_status().unwrap().json().unwrap()
    }

    /// What the stand-in has been asked, by path: the idempotency keys.
    pub fn asked(&self, path: &str) -> Vec<Value> {
        let url = format!("{}/_fake/requests", self.fake.url());
        let all: Vec<Value> = reqwest::blocking::get(url).unwrap().json().unwrap();
        let of_path = all.into_iter().filter(|asked| asked["path"] == path);
        of_path.collect()
    }

    /// Makes a Checkout session of one line.
    pub fn checkout(&self, email: &str, price: &str, mode: &str) -> Value {
        let order = order(email, price, mode);
        self.server
            .api()
            .post("/service/payment/v1/checkout/", &order)
            .json()
    }

    /// Does what the customer does on the page of a session.
    pub fn decide(&self, session: &Value, action: &str) -> (u16, String) {
        let http = reqwest::blocking::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let url = session["url"].as_str().unwrap();
        let answer = http
            .post(url)
            .body(format!("action={action}"))
            .send()
            .unwrap();
        (answer.status().as_u16(), answer.text().unwrap())
    }

    /// Sends an event, signed now.
    pub fn send(&self, event: &Value) -> Reply {
        send_to(&self.server.anonymous(), event)
    }

    /// What somebody has paid for.
    pub fn entitlements(&self, who: &str) -> Value {
        let path = format!("/service/payment/v1/entitlements/{who}/");
        self.server.api().get(&path).json()
    }

    /// Waits until that is so.
    #[track_caller]
    pub fn until(&self, who: &str, meets: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let found = self.entitlements(who);
            if meets(&found) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "still {found}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn server(dir: TempDir, fake: &FakeStripe, adjust: impl FnOnce(&mut Command)) -> TestServer {
    TestServer::start_in(dir, &["--payment-timeout", "2s"], |command| {
        command
            .env("SERVER_SECRET", API_KEY)
            .env("COGLEX_ADMIN_KEY", ADMIN_KEY)
            .env("STRIPE_SECRET_KEY", "sk_test_geheim")
            .env("STRIPE_WEBHOOK_SECRET", SECRET)
            .env("STRIPE_API_BASE", fake.url());
        adjust(command);
    })
}

/// The body of `checkout/`.
pub fn order(email: &str, price: &str, mode: &str) -> Value {
    json!({
        "success_url": "https://shop.example/done", "cancel_url": "https://shop.example/",
        "email": email, "linedata": [{"price": price, "quantity": 1}], "mode": mode,
        "metadata": {"entitlement": "gold"},
    })
}

/// Unix seconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// An event about an object.
pub fn event(id: &str, kind: &str, created: i64, object: Value) -> Value {
    json!({
        "id": id, "object": "event", "api_version": "2026-09-30.endive", "created": created,
        "data": {"object": object}, "livemode": false, "pending_webhooks": 1,
        "request": {"id": null, "idempotency_key": null}, "type": kind,
    })
}

/// A subscription as events show it, as far as anybody looks.
pub fn subscription(id: &str, customer: &str, status: &str) -> Value {
    json!({
        "id": id, "object": "subscription", "customer": customer, "status": status,
        "cancel_at_period_end": false, "metadata": {}, "created": 1,
        "items": {"data": [{
            "current_period_end": 2_000_000_000,
            "price": {"id": "price_1", "product": "prod_1", "lookup_key": "pro"},
        }]},
    })
}

/// Sends an event, signed now.
pub fn send_to(client: &Client, event: &Value) -> Reply {
    let payload = event.to_string();
    let signature = sign(payload.as_bytes(), SECRET, now());
    send_signed(client, &payload, &signature)
}

/// Sends bytes with a signature.
pub fn send_signed(client: &Client, payload: &str, signature: &str) -> Reply {
    let request = client.request(Method::POST, WEBHOOK);
    let request = request.header("stripe-signature", signature);
    request
        .header("content-type", "application/json")
        .body(payload.to_owned())
        .reply()
}
