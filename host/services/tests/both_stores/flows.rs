//! What accounts do by mail, on a store: links and codes that are good once, for a
//! while, and are nowhere at rest.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use coglex_services::accounts::{
    Accounts, AuthSettings, Client, Denial, FlowPolicy, RealmPolicy, SigningKey, Verification,
};
use coglex_services::documents::DocumentLimits;
use coglex_services::jobs::{Claim, Outcome, State};
use coglex_services::outbox::Posting;
use coglex_services::{Clock, Error, Outbox};

use crate::support::*;

crate::on_both_stores!(
    a_letter_that_is_sent_again_has_the_same_link_until_that_is_used,
    links_are_good_for_a_while,
    of_two_who_use_a_link_at_once_one_does,
    a_user_gets_so_many_letters_in_an_hour,
    nothing_at_rest_opens_anything,
    requests_for_nobody_are_kept_the_same_and_come_to_nothing,
    a_code_is_good_once_and_for_a_while,
    a_code_does_not_outlive_the_address,
    the_first_proof_of_an_address_ends_what_others_have_begun,
    where_mail_is_off_nothing_is_kept,
);

const ANN: &str = "ann@example.org";
const MINUTE: Duration = Duration::from_secs(60);

struct Host {
    accounts: Accounts,
    outbox: Outbox,
    clock: Clock,
    store: Store,
}

impl Host {
    fn new(store: &Store, is_on: bool) -> Self {
        let page = || Some("https://app.example/{realm}".to_owned());
        let flows = FlowPolicy {
            codes: true,
            verification: Verification::Off,
            verify_url: page(),
            reset_url: page(),
            email_url: page(),
            ..FlowPolicy::default()
        };
        let settings = AuthSettings {
            argon2_memory_kib: 64,
            argon2_passes: 1,
            hash_concurrency: 2,
            hash_queue: 1_000,
            // What is asked too often is another test's.
            key_failures: 0,
            address_failures: 0,
            policy: RealmPolicy {
                flows,
                ..RealmPolicy::default()
            },
            ..AuthSettings::new(SigningKey(Arc::from([7; 32])))
        };
        let clock = Clock::manual(DateTime::now());
        let outbox = Outbox::new(store.clone(), MINUTE, is_on);
        let limits = DocumentLimits::default();
        let accounts = Accounts::by_clock(store.clone(), settings, limits, clock.clone());
        Self {
            accounts: accounts.with_outbox(outbox.clone()),
            outbox,
            clock,
            store: store.clone(),
        }
    }

    async fn with_ann(store: &Store) -> Self {
        let host = Self::new(store, true);
        let made = host
            .accounts
            .sign_up("users", ANN, "correct horse", doc! {});
        made.await.unwrap();
        host
    }

    /// The next letter of a flow, claimed; notices before it are sent.
    async fn claim(&self) -> Claim {
        loop {
            let mut claims = self.outbox.jobs().claim(1).await.unwrap();
            let claim = claims.pop().expect("a letter");
            match Outbox::posting(&claim.job) {
                Some(Posting::Flow(_)) => return claim,
                _ => self.settle(&claim).await,
            }
        }
    }

    /// What a letter of a flow says; nothing if it is not to be sent.
    async fn says(&self, claim: &Claim, name: &str) -> Option<String> {
        let Some(Posting::Flow(letter)) = Outbox::posting(&claim.job) else {
            panic!("no letter of a flow: {:?}", claim.job);
        };
        let mail = self
            .accounts
            .letter(&letter, &claim.job.id)
            .await
            .unwrap()?;
        assert_eq!(mail.to, ANN);
        Some(mail.values[name].as_str().unwrap().to_owned())
    }

    async fn settle(&self, claim: &Claim) {
        let outcome = Outcome::Succeeded("true".to_owned());
        let settled = self.outbox.jobs().settle(claim, &outcome).await.unwrap();
        assert_eq!(settled, Some(State::Succeeded));
    }

    /// The token of a link that is asked for and sent.
    async fn reset(&self) -> String {
        let client = Client::default();
        self.accounts
            .request_reset("users", ANN, &client)
            .await
            .unwrap();
        let claim = self.claim().await;
        let link = self.says(&claim, "link").await.unwrap();
        self.settle(&claim).await;
        token(&link)
    }

    async fn confirm(&self, token: &str, password: &str) -> Result<(), Error> {
        self.accounts.confirm_reset("users", token, password).await
    }

    /// Challenge and code of a letter that is asked for and sent.
    async fn code(&self) -> (String, String) {
        let client = Client::default();
        let asked = self
            .accounts
            .request_code("users", ANN, &client)
            .await
            .unwrap();
        let claim = self.claim().await;
        let code = self.says(&claim, "code").await.unwrap();
        // The same at another try.
        assert_eq!(self.says(&claim, "code").await.unwrap(), code);
        self.settle(&claim).await;
        (asked.challenge, code)
    }

    async fn enter(&self, challenge: &str, code: &str) -> Result<(), Error> {
        let client = Client::default();
        let entered =
            self.accounts
                .sign_in_by_code("users", ANN, challenge, code, doc! {}, &client);
        entered.await.map(drop)
    }
}

fn token(link: &str) -> String {
    let token = link.strip_prefix("https://app.example/users#token=");
    token.expect(link).to_owned()
}

fn is(result: Result<(), Error>, denial: &Denial) -> bool {
    matches!(result, Err(Error::Denied(given)) if given == *denial)
}

async fn a_letter_that_is_sent_again_has_the_same_link_until_that_is_used(store: Store) {
    let host = Host::with_ann(&store).await;
    let client = Client::default();
    host.accounts
        .request_reset("users", ANN, &client)
        .await
        .unwrap();
    let claim = host.claim().await;
    let link = host.says(&claim, "link").await.unwrap();
    // The server took it, and its answer was lost.
    assert_eq!(host.says(&claim, "link").await.unwrap(), link);
    host.confirm(&token(&link), "another horse").await.unwrap();
    assert_eq!(host.says(&claim, "link").await, None);
    assert!(is(
        host.confirm(&token(&link), "third horse").await,
        &Denial::TokenInvalid
    ));
    let signed_in = host
        .accounts
        .sign_in("users", ANN, "another horse", doc! {});
    signed_in.await.unwrap();
}

async fn links_are_good_for_a_while(store: Store) {
    let host = Host::with_ann(&store).await;
    let late = host.reset().await;
    host.clock.advance(60 * MINUTE);
    assert!(is(
        host.confirm(&late, "another horse").await,
        &Denial::TokenInvalid
    ));
    let in_time = host.reset().await;
    host.clock.advance(59 * MINUTE);
    host.confirm(&in_time, "another horse").await.unwrap();
    // A letter that could not be sent in time is not sent.
    let client = Client::default();
    host.accounts
        .request_reset("users", ANN, &client)
        .await
        .unwrap();
    let claim = host.claim().await;
    host.clock.advance(61 * MINUTE);
    assert_eq!(host.says(&claim, "link").await, None);
}

async fn of_two_who_use_a_link_at_once_one_does(store: Store) {
    let host = Host::with_ann(&store).await;
    let token = host.reset().await;
    let (one, two) = tokio::join!(
        host.confirm(&token, "another horse"),
        host.confirm(&token, "other donkey")
    );
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let password = if one.is_ok() {
        "another horse"
    } else {
        "other donkey"
    };
    let signed_in = host.accounts.sign_in("users", ANN, password, doc! {});
    signed_in.await.unwrap();
}

async fn a_user_gets_so_many_letters_in_an_hour(store: Store) {
    let host = Host::with_ann(&store).await;
    let client = Client::default();
    let mut last = String::new();
    for _ in 0..6 {
        last = host.reset().await;
    }
    host.accounts
        .request_reset("users", ANN, &client)
        .await
        .unwrap();
    let claim = host.claim().await;
    assert_eq!(host.says(&claim, "link").await, None);
    host.settle(&claim).await;
    // What was sent is not taken back by that.
    host.confirm(&last, "another horse").await.unwrap();
    host.clock.advance(61 * MINUTE);
    host.reset().await;
    // And four codes at a time.
    for _ in 0..4 {
        host.code().await;
    }
    host.accounts
        .request_code("users", ANN, &client)
        .await
        .unwrap();
    let claim = host.claim().await;
    assert_eq!(host.says(&claim, "code").await, None);
    host.settle(&claim).await;
    host.clock.advance(11 * MINUTE);
    host.code().await;
}

async fn nothing_at_rest_opens_anything(store: Store) {
    let host = Host::with_ann(&store).await;
    let link = host.reset().await;
    let (challenge, code) = host.code().await;
    let mut kept = String::new();
    for collection in ["users", "_coglex_mail"] {
        for document in all(&host.store, collection, doc! {}).await {
            kept.push_str(&document.to_string());
        }
    }
    let secret = link.rsplit('.').next().unwrap();
    for secret in [&link, secret, &challenge, &format!("\"{code}\"")] {
        assert!(!kept.contains(secret), "{secret} in {kept}");
    }
    // With another signing key the same database gives nothing away either: a token of
    // it is none.
    assert!(is(
        host.confirm(&format!("{link}x"), "another horse").await,
        &Denial::TokenInvalid
    ));
    host.confirm(&link, "another horse").await.unwrap();
}

async fn requests_for_nobody_are_kept_the_same_and_come_to_nothing(store: Store) {
    let host = Host::with_ann(&store).await;
    let client = Client::default();
    let accounts = &host.accounts;
    accounts
        .request_reset("users", "nobody@example.org", &client)
        .await
        .unwrap();
    accounts
        .request_code("users", "nobody@example.org", &client)
        .await
        .unwrap();
    for name in ["link", "code"] {
        let claim = host.claim().await;
        assert_eq!(host.says(&claim, name).await, None);
        host.settle(&claim).await;
    }
    // Nor is there anything for who has no address.
    accounts
        .sign_up("users", "bob", "correct horse", doc! { "email": "bob" })
        .await
        .unwrap();
    accounts
        .request_reset("users", "bob", &client)
        .await
        .unwrap();
    let claim = host.claim().await;
    assert_eq!(host.says(&claim, "link").await, None);
}

async fn a_code_is_good_once_and_for_a_while(store: Store) {
    let host = Host::with_ann(&store).await;
    let (challenge, code) = host.code().await;
    host.clock.advance(10 * MINUTE);
    assert!(is(host.enter(&challenge, &code).await, &Denial::WrongCode));
    let (challenge, code) = host.code().await;
    host.enter(&challenge, &code).await.unwrap();
    assert!(is(host.enter(&challenge, &code).await, &Denial::WrongCode));
    // The right one is too late after five that were wrong.
    let (challenge, code) = host.code().await;
    let wrong = if code == "123456" { "123457" } else { "123456" };
    for _ in 0..5 {
        assert!(is(host.enter(&challenge, wrong).await, &Denial::WrongCode));
    }
    assert!(is(host.enter(&challenge, &code).await, &Denial::WrongCode));
    // And of two at once one opens a session.
    let (challenge, code) = host.code().await;
    let (one, two) = tokio::join!(host.enter(&challenge, &code), host.enter(&challenge, &code));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
}

async fn a_code_does_not_outlive_the_address(store: Store) {
    let host = Host::with_ann(&store).await;
    let (challenge, code) = host.code().await;
    let change = doc! { "$set": { "_key": "eve@example.org" } };
    store.update("users", set(doc! {}, change)).await.unwrap();
    let client = Client::default();
    let entered = host.accounts.sign_in_by_code(
        "users",
        "eve@example.org",
        &challenge,
        &code,
        doc! {},
        &client,
    );
    assert!(is(entered.await.map(drop), &Denial::WrongCode));
}

async fn the_first_proof_of_an_address_ends_what_others_have_begun(store: Store) {
    let host = Host::with_ann(&store).await;
    let eve = host
        .accounts
        .sign_in("users", ANN, "correct horse", doc! {})
        .await
        .unwrap();
    let linked = doc! { "_coglex.identities": [{ "id": "evil" }] };
    store
        .update("users", set(doc! {}, doc! { "$set": linked }))
        .await
        .unwrap();
    let own = async || -> Document {
        let user = all(&store, "users", doc! {}).await.remove(0);
        user.get_document("_coglex").unwrap().clone()
    };
    let (challenge, code) = host.code().await;
    host.enter(&challenge, &code).await.unwrap();
    let session = host.accounts.session("users", &eve.token).await.unwrap();
    assert!(session.is_none());
    assert_eq!(own().await.get("identities"), None);
    let user = all(&store, "users", doc! {}).await.remove(0);
    assert!(matches!(user.get("_password"), None | Some(Bson::Null)));
    // From then on a code is one way of several.
    let token = host.reset().await;
    host.confirm(&token, "another horse").await.unwrap();
    let (challenge, code) = host.code().await;
    let signed_in = host
        .accounts
        .sign_in("users", ANN, "another horse", doc! {})
        .await
        .unwrap();
    host.enter(&challenge, &code).await.unwrap();
    let session = host
        .accounts
        .session("users", &signed_in.token)
        .await
        .unwrap();
    assert!(session.is_some());
}

async fn where_mail_is_off_nothing_is_kept(store: Store) {
    let host = Host::new(&store, false);
    let client = Client::default();
    let reset = host.accounts.request_reset("users", ANN, &client).await;
    assert!(matches!(reset, Err(Error::MailUnavailable)), "{reset:?}");
    let code = host.accounts.request_code("users", ANN, &client).await;
    assert!(matches!(code, Err(Error::MailUnavailable)), "{code:?}");
    assert!(all(&store, "_coglex_mail", doc! {}).await.is_empty());
}
