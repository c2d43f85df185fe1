//! A provider that is a few answers in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use http::StatusCode;
use serde_json::json;

use super::*;
use crate::http::Answer;

/// Answers by URL, and what was asked.
#[derive(Default)]
struct Fake {
    answers: BTreeMap<String, (u16, Value)>,
    asked: Mutex<Vec<(String, String, String)>>,
}

#[async_trait]
impl Http for Fake {
    async fn send(&self, request: Request<Bytes>) -> Result<Answer, String> {
        let url = request.uri().to_string();
        let header = request.headers().get("authorization");
        let header = header.map_or("", |value| value.to_str().unwrap());
        let body = String::from_utf8_lossy(request.body()).into_owned();
        let asked = (url.clone(), header.to_owned(), body);
        self.asked.lock().unwrap().push(asked);
        let (status, body) = self.answers.get(&url).ok_or("nobody is there")?;
        Ok(Answer {
            status: StatusCode::from_u16(*status).unwrap(),
            body: body.to_string().into(),
        })
    }
}

fn settings(preset: Preset) -> ProviderSettings {
    ProviderSettings {
        name: "p".into(),
        preset,
        issuer: None,
        tenant: None,
        client_id: "us".into(),
        client_secret: Some(ClientSecret::Text("s:cret".into())),
        scopes: None,
        authorization_url: None,
        token_url: None,
        userinfo_url: None,
    }
}

fn exchange<'a>() -> Exchange<'a> {
    Exchange {
        code: "c",
        issuer: None,
        redirect_uri: "https://us.example/back",
        verifier: "v",
        nonce: "n",
        now: 1_000,
    }
}

fn provider(preset: Preset, answers: &[(&str, u16, Value)]) -> (Provider, Arc<Fake>) {
    let answers = answers.iter();
    let fake = Arc::new(Fake {
        answers: answers
            .map(|(url, status, body)| ((*url).to_owned(), (*status, body.clone())))
            .collect(),
        ..Fake::default()
    });
    (Provider::new(settings(preset), fake.clone()).unwrap(), fake)
}

const TOKEN: &str = "https://github.com/login/oauth/access_token";
const USER: &str = "https://api.github.com/user";
const EMAILS: &str = "https://api.github.com/user/emails";

#[tokio::test]
async fn github_tells_by_its_api_who_somebody_is() {
    let (github, fake) = provider(
        Preset::GitHub,
        &[
            (
                TOKEN,
                200,
                json!({ "access_token": "t", "token_type": "bearer" }),
            ),
            (
                USER,
                200,
                json!({ "id": 583231, "login": "ann", "name": null, "email": "any@x.example" }),
            ),
            (
                EMAILS,
                200,
                json!([
                    { "email": "old@x.example", "primary": false, "verified": true },
                    { "email": "ann@x.example", "primary": true, "verified": true },
                ]),
            ),
        ],
    );
    let identity = github.identify(&exchange()).await.unwrap();
    assert_eq!(
        (&*identity.issuer, &*identity.subject),
        ("https://github.com", "583231")
    );
    assert_eq!(identity.name.as_deref(), Some("ann"));
    let email = identity.email.unwrap();
    assert_eq!((&*email.address, email.verified), ("ann@x.example", true));
    let asked = fake.asked.lock().unwrap();
    assert_eq!(
        asked[0].2,
        "grant_type=authorization_code&code=c&redirect_uri=https%3A%2F%2Fus.example%2Fback&code_verifier=v&client_id=us&client_secret=s%3Acret"
    );
    assert_eq!(asked[1].1, "Bearer t");
}

#[tokio::test]
async fn github_says_200_to_a_code_that_it_refuses() {
    let (github, _) = provider(
        Preset::GitHub,
        &[(TOKEN, 200, json!({ "error": "bad_verification_code" }))],
    );
    let refused = github.identify(&exchange()).await;
    assert!(matches!(refused, Err(Error::Refused { code, .. }) if code == "bad_verification_code"));
}

#[tokio::test]
async fn an_unverified_address_of_github_is_none() {
    let (github, _) = provider(
        Preset::GitHub,
        &[
            (TOKEN, 200, json!({ "access_token": "t" })),
            (USER, 200, json!({ "id": 1, "login": "ann" })),
            (
                EMAILS,
                200,
                json!([{ "email": "ann@x.example", "primary": true, "verified": false }]),
            ),
        ],
    );
    assert_eq!(github.identify(&exchange()).await.unwrap().email, None);
}

#[tokio::test]
async fn metadata_of_another_issuer_are_not_believed() {
    let mut settings = settings(Preset::Oidc);
    settings.issuer = Some("https://op.example".into());
    for (issuer, token, good) in [
        ("https://op.example", "https://op.example/token", true),
        ("https://op.example/", "https://op.example/token", false),
        ("https://evil.example", "https://op.example/token", false),
        ("https://op.example", "http://op.example/token", false),
    ] {
        let fake = Arc::new(Fake {
            answers: BTreeMap::from([(
                "https://op.example/.well-known/openid-configuration".to_owned(),
                (
                    200,
                    json!({
                        "issuer": issuer, "token_endpoint": token,
                        "authorization_endpoint": "https://op.example/authorize?x=y",
                        "jwks_uri": "https://op.example/jwks",
                    }),
                ),
            )]),
            ..Fake::default()
        });
        let provider = Provider::new(settings.clone(), fake).unwrap();
        let request = Authorization {
            redirect_uri: "https://us.example/back",
            state: "s",
            nonce: "n",
            challenge: "h",
        };
        let url = provider.authorization_url(&request).await;
        assert_eq!(url.is_ok(), good, "{issuer} {token} {url:?}");
        if let Ok(url) = url {
            assert_eq!(
                url,
                "https://op.example/authorize?x=y&response_type=code&client_id=us&redirect_uri=https%3A%2F%2Fus.example%2Fback&scope=openid+email+profile&state=s&code_challenge=h&code_challenge_method=S256&nonce=n"
            );
        }
    }
}

#[test]
fn presets_differ_in_whose_word_is_believed() {
    let email = |preset, told: Value| {
        let mut settings = settings(preset);
        settings.issuer = Some("https://op.example".into());
        let provider = Provider::new(settings, Arc::new(Fake::default())).unwrap();
        let identity = provider.identity("i", "s", told.as_object().unwrap());
        let email = identity.email.unwrap();
        (email.verified, email.authoritative)
    };
    let of =
        |address: &str, verified: Value| json!({ "email": address, "email_verified": verified });
    assert_eq!(
        email(Preset::Oidc, of("a@x.example", json!(true))),
        (true, true)
    );
    assert_eq!(
        email(Preset::Oidc, of("a@x.example", json!(false))),
        (false, false)
    );
    assert_eq!(
        email(Preset::Oidc, json!({ "email": "a@x.example" })),
        (false, false)
    );
    assert_eq!(
        email(Preset::Google, of("a@gmail.com", json!(true))),
        (true, true)
    );
    assert_eq!(
        email(Preset::Google, of("a@x.example", json!(true))),
        (true, false)
    );
    let hosted = json!({ "email": "a@x.example", "email_verified": true, "hd": "x.example" });
    assert_eq!(email(Preset::Google, hosted), (true, true));
    assert_eq!(
        email(Preset::Microsoft, of("a@x.example", json!(true))),
        (false, false)
    );
    let owned = json!({ "email": "a@x.example", "xms_edov": 1 });
    assert_eq!(email(Preset::Microsoft, owned), (true, true));
}

#[test]
fn settings_that_cannot_work_are_told() {
    let check = |change: &dyn Fn(&mut ProviderSettings), says: &str| {
        let mut settings = settings(Preset::Oidc);
        settings.issuer = Some("https://op.example".into());
        change(&mut settings);
        match Provider::new(settings, Arc::new(Fake::default())) {
            Ok(_) => assert_eq!(says, ""),
            Err(sentence) => assert!(!says.is_empty() && sentence.contains(says), "{sentence}"),
        }
    };
    check(&|_| {}, "");
    check(&|one| one.issuer = None, "issuer");
    check(
        &|one| one.issuer = Some("http://op.example".into()),
        "issuer",
    );
    check(
        &|one| one.token_url = Some("http://op.example".into()),
        "token_url",
    );
    check(&|one| one.client_id = String::new(), "client_id");
    check(&|one| one.preset = Preset::Apple, "Apple");
    check(&|one| one.tenant = Some("a/../b".into()), "tenant");
}
