//! Tokens and the keys that sign them, on a store: what is not ours is nobody's,
//! keys change while users stay signed in, refresh tokens are used once.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bson::{DateTime, doc};
use coglex_services::accounts::{
    Accounts, AuthSettings, Client, RealmPolicy, SignedIn, SigningKey, TokenAlgorithm,
};
use coglex_services::caller::Credentials;
use coglex_services::documents::DocumentLimits;
use coglex_services::{Clock, Error};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::*;

crate::on_both_stores!(
    forged_tokens_are_no_sessions,
    tokens_of_another_algorithm_or_key_are_no_sessions,
    public_keys_verify_what_was_signed,
    keys_change_and_nobody_is_signed_out,
    a_revoked_key_ends_its_tokens_and_no_session,
    hosts_know_each_others_keys,
    hosts_that_sign_differently_leave_each_others_keys_alone,
    a_storm_of_first_sign_ins_makes_one_key,
    keys_grow_old,
    a_refresh_token_is_good_once,
    a_lost_answer_is_given_again_for_a_while,
    one_refresh_token_used_by_many_at_once_makes_one_successor,
    a_session_that_is_renewed_ends_all_the_same,
    what_ends_sessions_ends_their_refresh_tokens,
    users_see_and_end_their_sessions,
    use_of_a_session_is_noted,
);

const KEY: [u8; 32] = [7; 32];
const MINUTE: Duration = Duration::from_secs(60);

fn settings() -> AuthSettings {
    AuthSettings {
        argon2_memory_kib: 64,
        argon2_passes: 1,
        argon2_lanes: 1,
        hash_concurrency: 2,
        hash_queue: 1_000,
        policy: RealmPolicy {
            password_min: 1,
            allow_common: true,
            ..RealmPolicy::default()
        },
        ..AuthSettings::new(SigningKey(Arc::from(KEY)))
    }
}

fn eddsa() -> AuthSettings {
    AuthSettings {
        algorithm: TokenAlgorithm::EdDsa,
        ..settings()
    }
}

fn host(store: &Store, settings: AuthSettings, clock: &Clock) -> Accounts {
    let limits = DocumentLimits::default();
    Accounts::by_clock(store.clone(), settings, limits, clock.clone())
}

fn now() -> Clock {
    Clock::manual(DateTime::now())
}

async fn ann(accounts: &Accounts) -> SignedIn {
    let made = accounts.sign_up("users", "ann", "secret", doc! {});
    made.await.unwrap();
    sign_in(accounts).await
}

async fn sign_in(accounts: &Accounts) -> SignedIn {
    let signed_in = accounts.sign_in("users", "ann", "secret", doc! {});
    signed_in.await.unwrap()
}

async fn is_open(accounts: &Accounts, token: &str) -> bool {
    accounts.session("users", token).await.unwrap().is_some()
}

async fn renew(accounts: &Accounts, token: &str) -> Option<SignedIn> {
    let client = Client::default();
    accounts.renew("users", token, &client).await.unwrap()
}

fn bearer(token: &str) -> Credentials {
    Credentials {
        bearer: Some(token.to_owned()),
        ..Credentials::default()
    }
}

/// What the server derives from its signing key, made here once more.
fn derived(purpose: &str, parts: &[&str]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(&Sha256::digest(KEY)).unwrap();
    for part in ["coglex", purpose].iter().chain(parts) {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

fn claims_of(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap()
}

async fn assert_none(accounts: &Accounts, forged: &str) {
    // What is not ours does not end a session either; see the end of each test.
    let found = accounts.session("users", forged).await;
    assert!(
        matches!(found, Ok(None) | Err(Error::Invalid(_))),
        "{forged:.300}"
    );
    accounts.sign_out("users", forged).await.unwrap();
}

async fn forged_tokens_are_no_sessions(store: Store) {
    let accounts = host(&store, settings(), &Clock::default());
    let token = ann(&accounts).await.token;
    let claims = claims_of(&token);
    for name in ["iss", "aud", "sub", "iat", "exp", "jti", "sid"] {
        assert!(claims.get(name).is_some(), "{name}: {claims}");
    }
    let header = jsonwebtoken::decode_header(&token).unwrap();
    let kid = header.kid.clone().unwrap();
    let key = derived("token key", &["HS256", &kid]);
    let sign = |header: &Header, claims: &Value, key: &[u8]| {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(key)).unwrap()
    };
    let changed = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        sign(&header, &claims, &key)
    };
    // The way of forging works: with nothing changed the session is there.
    assert!(is_open(&accounts, &sign(&header, &claims, &key)).await);
    assert!(is_open(&accounts, &changed("jti", "another".into())).await);

    let without = |name: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        sign(&header, &claims, &key)
    };
    let named = |kid: Option<&str>| Header {
        kid: kid.map(str::to_owned),
        ..header.clone()
    };
    let parts: Vec<&str> = token.split('.').collect();
    let none = json!({ "typ": "JWT", "alg": "none", "kid": kid }).to_string();
    let none = BASE64.encode(none);
    let soon = DateTime::now().timestamp_millis() / 1000;
    let over = changed("exp", (soon - 1).into());
    assert!(!is_open(&accounts, &over).await);
    let forged = [
        String::new(),
        "a.b.c".into(),
        "x".repeat(1_000_000),
        token[..token.len() - 2].to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        sign(&header, &claims, &[8; 32]),
        // What keys are derived from signs nothing itself.
        sign(&header, &claims, &KEY),
        sign(&header, &claims, &[]),
        sign(&named(None), &claims, &key),
        sign(&named(Some("00000000")), &claims, &key),
        sign(&named(Some("")), &claims, &key),
        sign(&named(Some("../../dev/null")), &claims, &key),
        sign(&named(Some("' OR 1=1 --")), &claims, &key),
        sign(&named(Some(r#"{"$ne":null}"#)), &claims, &key),
        sign(&named(Some(&kid[..16])), &claims, &key),
        sign(&named(Some(&format!("{kid}0"))), &claims, &key),
        sign(&named(Some(&kid.to_uppercase())), &claims, &key),
        sign(
            &Header {
                alg: Algorithm::HS512,
                ..header.clone()
            },
            &claims,
            &key,
        ),
        sign(
            &Header {
                alg: Algorithm::HS384,
                ..header.clone()
            },
            &claims,
            &key,
        ),
        changed("iss", "other".into()),
        changed("iss", json!(["coglex"])),
        changed("aud", "admins".into()),
        changed("aud", json!(["admins"])),
        changed("aud", json!(["admins", "users"])),
        changed("aud", "$cookie:admins".into()),
        changed("exp", "never".into()),
        changed("nbf", (soon + 3600).into()),
        changed("iat", (soon + 3600).into()),
        changed("sub", "nobody".into()),
        changed("sub", r#"{"$ne":null}"#.into()),
        changed("sid", "00".into()),
        changed("sid", "".into()),
        changed("sid", "a.b".into()),
        without("iss"),
        without("aud"),
        without("exp"),
        without("iat"),
        without("sub"),
        without("jti"),
        without("sid"),
    ];
    for forged in forged {
        assert_none(&accounts, &forged).await;
    }
    // Each bit of what was signed counts.
    for at in (0..token.len()).step_by(7) {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(bytes).unwrap();
        if tampered != token {
            assert_none(&accounts, &tampered).await;
        }
    }
    assert!(is_open(&accounts, &token).await);
    // One of ours that is over still ends its session, and nothing else.
    accounts.sign_out("users", &over).await.unwrap();
    assert!(!is_open(&accounts, &token).await);

    assert!(accounts.is_own_token(&token));
    assert!(!accounts.is_own_token(&sign(&Header::default(), &claims, &key)));
    assert!(!accounts.is_own_token("a.b.c") && !accounts.is_own_token(""));
}

async fn tokens_of_another_algorithm_or_key_are_no_sessions(store: Store) {
    let accounts = host(&store, eddsa(), &Clock::default());
    let token = ann(&accounts).await.token;
    let claims = claims_of(&token);
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.alg, Algorithm::EdDSA);
    let kid = header.kid.clone().unwrap();
    let public = accounts.public_keys().await.unwrap();
    let public = serde_json::to_value(&public[0]).unwrap();
    let x = public["x"].as_str().unwrap();
    let raw = BASE64.decode(x).unwrap();

    // Key confusion: what everybody knows must not be good as a secret.
    let confused = Header {
        kid: Some(kid.clone()),
        ..Header::new(Algorithm::HS256)
    };
    let secret = derived("token key", &["HS256", &kid]);
    for secret in [
        &raw[..],
        x.as_bytes(),
        public.to_string().as_bytes(),
        &secret,
    ] {
        let key = EncodingKey::from_secret(secret);
        let forged = jsonwebtoken::encode(&confused, &claims, &key).unwrap();
        assert_none(&accounts, &forged).await;
        assert!(!accounts.is_own_token(&forged));
    }
    // A key that the token itself brings.
    let der = |seed: [u8; 32]| {
        let prefix = hex::decode("302e020100300506032b657004220420").unwrap();
        EncodingKey::from_ed_der(&[prefix, seed.to_vec()].concat())
    };
    let own = der([9; 32]);
    let brought = Header {
        jwk: jsonwebtoken::jwk::Jwk::from_encoding_key(&own, Algorithm::EdDSA).ok(),
        jku: Some("http://127.0.0.1:1/jwks.json".into()),
        ..header.clone()
    };
    for header in [&brought, &header] {
        let forged = jsonwebtoken::encode(header, &claims, &own).unwrap();
        assert_none(&accounts, &forged).await;
    }
    // The way of forging works.
    let right = der(derived("token key", &["EdDSA", &kid]));
    let made = jsonwebtoken::encode(&header, &claims, &right).unwrap();
    assert!(is_open(&accounts, &made).await);
}

async fn public_keys_verify_what_was_signed(store: Store) {
    let clock = Clock::default();
    let accounts = host(&store, eddsa(), &clock);
    // They are there before the first token is.
    assert_eq!(accounts.public_keys().await.unwrap().len(), 1);
    let token = ann(&accounts).await.token;
    let keys = accounts.public_keys().await.unwrap();
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid;
    let key = keys.iter().find(|key| key.common.key_id == kid).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["users"]);
    validation.set_issuer(&["coglex"]);
    let decoding = DecodingKey::from_jwk(key).unwrap();
    jsonwebtoken::decode::<Value>(&token, &decoding, &validation).unwrap();
    let printed = serde_json::to_string(&keys).unwrap();
    assert!(!printed.contains("\"d\""), "{printed}");
    // What a browser holds for days is not for others.
    let cookie = sign_in(&accounts).await.cookie;
    assert!(jsonwebtoken::decode::<Value>(&cookie, &decoding, &validation).is_err());
    assert!(is_open(&accounts, &cookie).await);
    // Secret keys are not shown, and what they sign is known to every host.
    let secret = host(&store, settings(), &clock);
    let other = sign_in(&secret).await.token;
    assert_eq!(secret.public_keys().await.unwrap().len(), 1);
    assert!(is_open(&accounts, &other).await && is_open(&secret, &token).await);
}

async fn keys_change_and_nobody_is_signed_out(store: Store) {
    let clock = now();
    let accounts = host(&store, settings(), &clock);
    let before = ann(&accounts).await;
    clock.advance(MINUTE);
    let kid = accounts.rotate_keys(false).await.unwrap();
    let after = sign_in(&accounts).await;
    let kid_of = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert_eq!(kid_of(&after.token), kid);
    assert_ne!(kid_of(&before.token), kid);
    assert!(is_open(&accounts, &before.token).await && is_open(&accounts, &after.token).await);
    let keys = accounts.token_keys().await.unwrap();
    assert_eq!(keys.len(), 2);
    assert!(
        keys[0].signs && keys[0].until.is_none() && keys[0].kid == kid,
        "{keys:?}"
    );
    assert!(!keys[1].signs, "{keys:?}");
    // The former key verifies for as long as the longest of its tokens lives.
    let until = keys[1].until.unwrap().timestamp_millis() - clock.now().timestamp_millis();
    assert!(until >= before.session_expires * 1000 - clock.now().timestamp_millis());
    let stored = all(&store, "_coglex_token_keys", doc! {}).await;
    for record in stored {
        let names: Vec<&str> = record.keys().map(String::as_str).collect();
        assert!(
            names
                .iter()
                .all(|name| ["_id", "alg", "created", "until"].contains(name))
        );
    }
}

async fn a_revoked_key_ends_its_tokens_and_no_session(store: Store) {
    let clock = Clock::default();
    let accounts = host(&store, settings(), &clock);
    let before = ann(&accounts).await;
    accounts.rotate_keys(true).await.unwrap();
    assert!(!is_open(&accounts, &before.token).await);
    assert!(!is_open(&accounts, &before.cookie).await);
    assert!(
        accounts.is_own_token(&before.token),
        "guests must not see it"
    );
    assert_eq!(accounts.token_keys().await.unwrap().len(), 1);
    let renewed = renew(&accounts, &before.refresh_token).await.unwrap();
    assert!(is_open(&accounts, &renewed.token).await);
}

async fn hosts_know_each_others_keys(store: Store) {
    let clock = Clock::default();
    let (one, two) = (
        host(&store, settings(), &clock),
        host(&store, settings(), &clock),
    );
    let first = ann(&one).await;
    assert!(is_open(&two, &first.token).await);
    one.rotate_keys(false).await.unwrap();
    let second = sign_in(&one).await;
    assert!(is_open(&two, &second.token).await && is_open(&two, &first.token).await);
    // Of a host with another signing key nothing is known, and nothing disturbed.
    let other = AuthSettings {
        signing_key: SigningKey(Arc::from([8; 32])),
        ..settings()
    };
    let other = host(&store, other, &clock);
    let third = sign_in(&other).await;
    assert!(!is_open(&two, &third.token).await && !is_open(&other, &second.token).await);
    assert!(is_open(&other, &third.token).await);
    assert!(renew(&other, &second.refresh_token).await.is_none());
    assert!(renew(&two, &second.refresh_token).await.is_some());
}

async fn hosts_that_sign_differently_leave_each_others_keys_alone(store: Store) {
    let clock = now();
    let (one, two) = (
        host(&store, settings(), &clock),
        host(&store, eddsa(), &clock),
    );
    ann(&one).await;
    for _ in 0..3 {
        clock.advance(MINUTE);
        sign_in(&two).await;
        sign_in(&one).await;
    }
    let keys = one.token_keys().await.unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys.iter().all(|key| key.until.is_none()), "{keys:?}");
    two.rotate_keys(false).await.unwrap();
    let keys = one.token_keys().await.unwrap();
    let over = keys.iter().find(|key| key.until.is_some()).unwrap();
    assert_eq!((keys.len(), over.algorithm), (3, "EdDSA"));
}

async fn a_storm_of_first_sign_ins_makes_one_key(store: Store) {
    let accounts = host(&store, settings(), &Clock::default());
    let made = accounts.sign_up("users", "ann", "secret", doc! {});
    made.await.unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let accounts = accounts.clone();
            tokio::spawn(async move { sign_in(&accounts).await.token })
        })
        .collect();
    for task in tasks {
        assert!(is_open(&accounts, &task.await.unwrap()).await);
    }
    assert_eq!(accounts.token_keys().await.unwrap().len(), 1);
}

async fn keys_grow_old(store: Store) {
    let clock = now();
    let young = AuthSettings {
        key_lifetime: MINUTE,
        ..settings()
    };
    let accounts = host(&store, young, &clock);
    let first = ann(&accounts).await;
    clock.advance(MINUTE - Duration::from_secs(1));
    sign_in(&accounts).await;
    assert_eq!(accounts.token_keys().await.unwrap().len(), 1);
    clock.advance(Duration::from_secs(1));
    sign_in(&accounts).await;
    assert_eq!(accounts.token_keys().await.unwrap().len(), 2);
    assert!(is_open(&accounts, &first.token).await);
    // Those that are over are forgotten.
    clock.advance(Duration::from_secs(30 * 86_400));
    assert!(!is_open(&accounts, &first.token).await);
    sign_in(&accounts).await;
    clock.advance(MINUTE);
    sign_in(&accounts).await;
    // The second and the third, which have signed until just now, and the fourth.
    assert_eq!(accounts.token_keys().await.unwrap().len(), 3);
    assert_eq!(all(&store, "_coglex_token_keys", doc! {}).await.len(), 3);
}

async fn a_refresh_token_is_good_once(store: Store) {
    let clock = now();
    let accounts = host(&store, settings(), &clock);
    let first = ann(&accounts).await;
    let other = sign_in(&accounts).await;
    let stored = all(&store, "users", doc! {}).await;
    let stored = serde_json::to_string(&stored).unwrap();
    let secret = first.refresh_token.rsplit('.').next().unwrap();
    assert!(!stored.contains(secret) && !format!("{first:?}").contains(secret));
    // An access token lives for a quarter of an hour, its session for longer.
    assert!(first.expires < first.session_expires);
    clock.advance(Duration::from_secs(901));
    assert!(!is_open(&accounts, &first.token).await);
    assert!(is_open(&accounts, &first.cookie).await);

    let second = renew(&accounts, &first.refresh_token).await.unwrap();
    assert!(second.session_expires > first.session_expires);
    assert_eq!(second.user.key, "ann");
    assert!(!second.user.document.contains_key("_coglex"));
    clock.advance(Duration::from_secs(11));
    let third = renew(&accounts, &second.refresh_token).await.unwrap();
    clock.advance(Duration::from_secs(11));
    assert!(is_open(&accounts, &third.token).await);
    // Somebody has kept a copy: owner and thief cannot be told apart.
    assert!(renew(&accounts, &second.refresh_token).await.is_none());
    assert!(!is_open(&accounts, &third.token).await);
    assert!(renew(&accounts, &third.refresh_token).await.is_none());
    // Other sessions of the user are others' business.
    assert!(renew(&accounts, &other.refresh_token).await.is_some());

    for wrong in [
        "",
        "cgrt_",
        "cgrt_a.b.c",
        &first.token,
        &first.refresh_token[5..],
    ] {
        assert!(renew(&accounts, wrong).await.is_none(), "{wrong}");
    }
    let client = Client::default();
    let admins = accounts.renew("admins", &other.refresh_token, &client);
    assert!(admins.await.unwrap().is_none());
    // A refresh token is no access token.
    assert!(!is_open(&accounts, &other.refresh_token).await);
}

async fn a_lost_answer_is_given_again_for_a_while(store: Store) {
    let clock = now();
    let accounts = host(&store, settings(), &clock);
    let first = ann(&accounts).await;
    let lost = renew(&accounts, &first.refresh_token).await.unwrap();
    clock.advance(Duration::from_secs(9));
    let again = renew(&accounts, &first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, lost.refresh_token);
    assert!(is_open(&accounts, &again.token).await);
    // Once the successor is used, its predecessor proves a copy, at any time.
    let next = renew(&accounts, &again.refresh_token).await.unwrap();
    assert!(renew(&accounts, &first.refresh_token).await.is_none());
    assert!(renew(&accounts, &next.refresh_token).await.is_none());

    let late = sign_in(&accounts).await;
    let used = renew(&accounts, &late.refresh_token).await.unwrap();
    clock.advance(Duration::from_secs(10));
    assert!(renew(&accounts, &late.refresh_token).await.is_none());
    assert!(renew(&accounts, &used.refresh_token).await.is_none());
}

async fn one_refresh_token_used_by_many_at_once_makes_one_successor(store: Store) {
    let accounts = host(&store, settings(), &Clock::default());
    let first = ann(&accounts).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (accounts, token) = (accounts.clone(), first.refresh_token.clone());
            tokio::spawn(async move { renew(&accounts, &token).await.unwrap().refresh_token })
        })
        .collect();
    let mut successors = Vec::new();
    for task in tasks {
        successors.push(task.await.unwrap());
    }
    successors.dedup();
    assert_eq!(successors.len(), 1);
    assert!(renew(&accounts, &successors[0]).await.is_some());
}

async fn a_session_that_is_renewed_ends_all_the_same(store: Store) {
    let clock = now();
    let mut brief = settings();
    brief.policy.session_ttl = MINUTE;
    brief.policy.session_max = 2 * MINUTE;
    let accounts = host(&store, brief, &clock);
    let mut last = ann(&accounts).await;
    let ends = last.session_expires + 60;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(35));
        last = renew(&accounts, &last.refresh_token).await.unwrap();
        assert!(last.session_expires <= ends && last.expires <= ends);
    }
    clock.advance(Duration::from_secs(20));
    assert!(renew(&accounts, &last.refresh_token).await.is_none());
    // And without renewal after its own time.
    let unused = sign_in(&accounts).await;
    clock.advance(Duration::from_secs(62));
    assert!(renew(&accounts, &unused.refresh_token).await.is_none());
}

async fn what_ends_sessions_ends_their_refresh_tokens(store: Store) {
    let accounts = host(&store, settings(), &Clock::default());
    let out = ann(&accounts).await;
    accounts.sign_out("users", &out.token).await.unwrap();
    assert!(renew(&accounts, &out.refresh_token).await.is_none());

    let (own, other) = (sign_in(&accounts).await, sign_in(&accounts).await);
    let set = doc! { "_password": "new secret" };
    let kept = Some(own.token.as_str());
    accounts.refresh("users", "ann", set, kept).await.unwrap();
    assert!(renew(&accounts, &other.refresh_token).await.is_none());
    let own = renew(&accounts, &own.refresh_token).await.unwrap();

    let deleted = store.delete("users", doc! {}, true).await.unwrap();
    assert_eq!(deleted, 1);
    assert!(renew(&accounts, &own.refresh_token).await.is_none());
}

async fn users_see_and_end_their_sessions(store: Store) {
    let clock = now();
    let accounts = host(&store, settings(), &clock);
    ann(&accounts).await;
    let from = Client {
        address: Some("192.0.2.7".parse().unwrap()),
        agent: Some("Agent/1.0 (of Bond)".into()),
    };
    clock.advance(MINUTE);
    let bond = accounts.sign_in_from("users", "ann", "secret", doc! {}, &from);
    let bond = bond.await.unwrap();
    clock.advance(MINUTE);
    let last = sign_in(&accounts).await;
    let list = async |token: &str| {
        let credentials = bearer(token);
        accounts.sessions("users", &credentials).await.unwrap()
    };
    let sessions = list(&bond.token).await.unwrap();
    assert_eq!(sessions.len(), 3);
    assert!(sessions[0].used > sessions[1].used && sessions[1].used > sessions[2].used);
    let current: Vec<bool> = sessions.iter().map(|session| session.current).collect();
    assert_eq!(current, [false, true, false]);
    assert_eq!(sessions[1].agent.as_deref(), Some("Agent/1.0 (of Bond)"));
    assert_eq!(sessions[1].address.as_deref(), Some("192.0.2.7"));
    assert_eq!(sessions[0].address, None);

    // Somebody else's session cannot be ended, nor another field taken away.
    let made = accounts.sign_up("users", "bob", "secret", doc! { "name": "Bob" });
    made.await.unwrap();
    let bob = accounts
        .sign_in("users", "bob", "secret", doc! {})
        .await
        .unwrap();
    let end = async |token: &str, id: &str| {
        let credentials = bearer(token);
        let ended = accounts.end_session("users", &credentials, id);
        ended.await.unwrap()
    };
    for id in [
        &*sessions[0].id,
        "",
        "x",
        "a.b",
        "$",
        &"0".repeat(64),
        &sessions[0].id.to_uppercase(),
    ] {
        assert_eq!(end(&bob.token, id).await, Some(false), "{id}");
    }
    assert_eq!(end("nobody", &sessions[0].id).await, None);
    assert!(is_open(&accounts, &last.token).await);
    assert_eq!(end(&bond.token, &sessions[0].id).await, Some(true));
    assert_eq!(end(&bond.token, &sessions[0].id).await, Some(false));
    assert!(!is_open(&accounts, &last.token).await);

    sign_in(&accounts).await;
    let bonds = bearer(&bond.token);
    let others = accounts.end_other_sessions("users", &bonds);
    assert_eq!(others.await.unwrap(), Some(2));
    assert_eq!(list(&bond.token).await.unwrap().len(), 1);
    let others = accounts.end_other_sessions("users", &bonds);
    assert_eq!(others.await.unwrap(), Some(0));
    assert!(is_open(&accounts, &bob.token).await);
    assert_eq!(list(&last.token).await, None);
}

async fn use_of_a_session_is_noted(store: Store) {
    let clock = now();
    let accounts = host(&store, settings(), &clock);
    let cookie = ann(&accounts).await.cookie;
    let used = async || {
        let credentials = bearer(&cookie);
        let sessions = accounts.sessions("users", &credentials);
        sessions.await.unwrap().unwrap()[0].used
    };
    let opened = used().await;
    clock.advance(14 * MINUTE);
    assert!(is_open(&accounts, &cookie).await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(used().await, opened);
    clock.advance(MINUTE);
    assert!(is_open(&accounts, &cookie).await);
    for _ in 0..200 {
        if used().await == clock.now() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the use was not noted");
}
