//! What has to be true of an ID token (OpenID Connect Core 1.0, section 3.1.3.7).

use std::collections::HashSet;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

/// Seconds that the provider's clock may differ from ours.
const LEEWAY: i64 = 60;
/// Longer ones are not looked at.
const MAX_BYTES: usize = 64 << 10;
/// Bytes of an RSA key's modulus, at least (RFC 7518, section 3.3).
const MIN_RSA_BYTES: usize = 256;
/// Keys that a token without a `kid` is tried with.
const MAX_TRIES: usize = 8;

/// What a token is compared with.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) nonce: &'a str,
    /// Unix seconds.
    pub(crate) now: i64,
}

/// What is used of a token's claims.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    aud: Value,
    exp: f64,
    #[serde(default)]
    iat: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    azp: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
    /// Microsoft's tenant.
    #[serde(default)]
    tid: Option<String>,
    #[serde(flatten)]
    pub(crate) rest: serde_json::Map<String, Value>,
}

/// The header of a token, unverified; none of a text that is no token, or one that is
/// not signed with a public key.
pub(crate) fn header(token: &str) -> Option<Header> {
    if token.len() > MAX_BYTES {
        return None;
    }
    let header = jsonwebtoken::decode_header(token).ok()?;
    // With a secret of both sides, whoever can verify can sign: keys that are published
    // would be taken for the secret.
    let is_public = !matches!(
        header.alg,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
    );
    is_public.then_some(header)
}

/// Whether a key may be the one that a token is signed with.
pub(crate) fn fits(key: &Jwk, header: &Header) -> bool {
    if let (Some(wanted), known) = (&header.kid, &key.common.key_id)
        && known.as_ref() != Some(wanted)
    {
        return false;
    }
    let signs = match &key.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(_) => false,
    };
    let algorithm = key.common.key_algorithm.is_none_or(|algorithm| {
        algorithm
            .to_string()
            .parse::<Algorithm>()
            .is_ok_and(|algorithm| algorithm == header.alg)
    });
    let kind = match (&key.algorithm, header.alg) {
        (
            AlgorithmParameters::RSA(rsa),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512,
        ) => {
            let modulus = BASE64
                .decode(rsa.n.trim_end_matches('='))
                .unwrap_or_default();
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            modulus.len() - zeros >= MIN_RSA_BYTES
        }
        (AlgorithmParameters::EllipticCurve(_), Algorithm::ES256 | Algorithm::ES384) => true,
        (AlgorithmParameters::OctetKeyPair(_), Algorithm::EdDSA) => true,
        _ => false,
    };
    signs && algorithm && kind
}

/// The claims of a token, if all of it is as it has to be; else which check it does not
/// pass.
pub(crate) fn verify(
    token: &str,
    header: &Header,
    keys: &[Jwk],
    expected: &Expected<'_>,
) -> Result<Claims, &'static str> {
    let mut validation = Validation::new(header.alg);
    // All of it below, by our own clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims = HashSet::new();
    let mut fitting = keys.iter().filter(|key| fits(key, header)).peekable();
    if fitting.peek().is_none() {
        return Err("no key of the provider fits it");
    }
    let claims = fitting.take(MAX_TRIES).find_map(|key| {
        let key = DecodingKey::from_jwk(key).ok()?;
        let decoded = jsonwebtoken::decode::<Claims>(token, &key, &validation);
        decoded.ok().map(|token| token.claims)
    });
    let claims = claims.ok_or("its signature is wrong, or claims are missing")?;
    let audiences: Vec<&str> = match &claims.aud {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.contains(&expected.client_id) {
        return Err("it is for somebody else");
    }
    let party = claims.azp.as_deref();
    if party.is_some_and(|party| party != expected.client_id)
        || audiences.len() > 1 && party.is_none()
    {
        return Err("it was made for somebody else");
    }
    if claims.iss != issuer_of(expected.issuer, &claims) {
        return Err("it is of another issuer");
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err("its subject is none");
    }
    let (now, leeway) = (expected.now as f64, LEEWAY as f64);
    // JSON has no number that is none.
    if claims.exp + leeway <= now {
        return Err("it has expired");
    }
    let starts = claims.iat.into_iter().chain([claims.nbf.unwrap_or(0.0)]);
    if starts.into_iter().any(|start| start > now + leeway) {
        return Err("it is from the future");
    }
    let nonce = claims.nonce.as_deref().unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) || expected.nonce.is_empty() {
        return Err("its nonce is another");
    }
    Ok(claims)
}

/// The issuer, in which Microsoft writes the user's tenant.
fn issuer_of(issuer: &str, claims: &Claims) -> String {
    let tenant = claims.tid.as_deref().unwrap_or_default();
    let is_id = tenant.len() == 36 && tenant.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match is_id {
        true => issuer.replace("{tenantid}", tenant),
        false => issuer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::EncodingKey;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use serde_json::json;

    use super::*;

    struct Signer {
        key: EncodingKey,
        public: Jwk,
    }

    impl Signer {
        fn new(kid: Option<&str>) -> Self {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let der = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
            let key = EncodingKey::from_ec_der(der.as_ref());
            let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
            public.common.key_id = kid.map(str::to_owned);
            Self { key, public }
        }

        fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
            let mut header = Header::new(Algorithm::ES256);
            header.kid = kid.map(str::to_owned);
            jsonwebtoken::encode(&header, claims, &self.key).unwrap()
        }
    }

    fn good() -> Value {
        json!({
            "iss": "https://op.example", "sub": "ann", "aud": "us",
            "exp": 1_300, "iat": 1_000, "nonce": "n", "email": "ann@example.org",
        })
    }

    fn check(token: &str, keys: &[Jwk]) -> Result<Claims, &'static str> {
        let expected = Expected {
            issuer: "https://op.example",
            client_id: "us",
            nonce: "n",
            now: 1_000,
        };
        let header = header(token).ok_or("it is no token")?;
        verify(token, &header, keys, &expected)
    }

    #[test]
    fn every_claim_counts() {
        let signer = Signer::new(Some("k"));
        let keys = [signer.public.clone()];
        let with = |changes: Value| {
            let mut claims = good();
            for (name, value) in changes.as_object().unwrap() {
                claims[name] = value.clone();
            }
            check(&signer.sign(Some("k"), &claims), &keys)
        };
        let claims = with(json!({})).unwrap();
        assert_eq!(
            (&*claims.sub, &claims.rest["email"]),
            ("ann", &json!("ann@example.org"))
        );
        for (changes, says) in [
            (
                json!({ "iss": "https://op.example/" }),
                Some("another issuer"),
            ),
            (
                json!({ "iss": "https://evil.example" }),
                Some("another issuer"),
            ),
            (json!({ "iss": null }), Some("missing")),
            (json!({ "aud": "them" }), Some("somebody else")),
            (json!({ "aud": ["them"] }), Some("somebody else")),
            (json!({ "aud": ["us"] }), None),
            (json!({ "aud": ["us", "them"] }), Some("somebody else")),
            (json!({ "aud": ["us", "them"], "azp": "us" }), None),
            (json!({ "azp": "them" }), Some("somebody else")),
            (json!({ "exp": 940 }), Some("expired")),
            (json!({ "exp": 941 }), None),
            (json!({ "exp": "never" }), Some("missing")),
            (json!({ "exp": null }), Some("missing")),
            (json!({ "iat": 1_061 }), Some("future")),
            (json!({ "nbf": 1_061 }), Some("future")),
            (json!({ "nonce": "m" }), Some("nonce")),
            (json!({ "nonce": null }), Some("nonce")),
            (json!({ "sub": "" }), Some("subject")),
            (json!({ "sub": "x".repeat(256) }), Some("subject")),
            (json!({ "sub": 7 }), Some("missing")),
        ] {
            match (with(changes.clone()), says) {
                (Ok(_), None) => {}
                (Err(why), Some(says)) => assert!(why.contains(says), "{changes}: {why}"),
                (answer, _) => panic!("{changes}: {answer:?}"),
            }
        }
    }

    #[test]
    fn only_the_providers_own_keys_sign() {
        let (one, other) = (Signer::new(Some("one")), Signer::new(Some("other")));
        let keys = [one.public.clone(), other.public.clone()];
        let token = |signer: &Signer, kid| signer.sign(kid, &good());
        assert!(check(&token(&one, Some("one")), &keys).is_ok());
        assert!(check(&token(&other, None), &keys).is_ok());
        assert!(check(&token(&one, Some("other")), &keys).is_err());
        assert!(check(&token(&one, Some("unknown")), &keys).is_err());
        assert!(check(&token(&Signer::new(None), None), &keys).is_err());
        assert!(check(&token(&one, Some("one")), &[]).is_err());
        // Keys for other uses, or other algorithms.
        let mut key = one.public.clone();
        key.common.public_key_use = Some(PublicKeyUse::Encryption);
        assert!(check(&token(&one, None), &[key]).is_err());
        let mut key = one.public.clone();
        key.common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::ES384);
        assert!(check(&token(&one, None), &[key]).is_err());
        // Every seventh character.
        let good = token(&one, Some("one"));
        for at in (0..good.len()).step_by(7) {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(
                check(&String::from_utf8(bytes).unwrap(), &keys).is_err(),
                "{at}"
            );
        }
    }

    #[test]
    fn tokens_that_anybody_can_make_are_none() {
        let signer = Signer::new(Some("k"));
        let keys = [signer.public.clone()];
        let payload = BASE64.encode(good().to_string());
        for head in [r#"{"alg":"none"}"#, r#"{"alg":"None","kid":"k"}"#] {
            let token = format!("{}.{payload}.", BASE64.encode(head));
            assert!(check(&token, &keys).is_err());
        }
        // The public key taken for a secret.
        let AlgorithmParameters::EllipticCurve(curve) = &signer.public.algorithm else {
            panic!("{:?}", signer.public);
        };
        let mut confused = Header::new(Algorithm::HS256);
        confused.kid = Some("k".into());
        let secret = EncodingKey::from_secret(curve.x.as_bytes());
        let token = jsonwebtoken::encode(&confused, &good(), &secret).unwrap();
        assert!(header(&token).is_none());
        assert!(header(&"x".repeat(MAX_BYTES + 1)).is_none());
    }

    #[test]
    fn short_rsa_keys_are_not_believed() {
        let rsa = |bytes: usize| -> Jwk {
            let n = BASE64.encode(vec![0xff; bytes]);
            serde_json::from_value(json!({ "kty": "RSA", "n": n, "e": "AQAB" })).unwrap()
        };
        let header = Header::new(Algorithm::RS256);
        assert!(fits(&rsa(256), &header) && !fits(&rsa(128), &header));
        let padded = [vec![0; 128], vec![0xff; 128]].concat();
        let n = BASE64.encode(padded);
        let key: Jwk =
            serde_json::from_value(json!({ "kty": "RSA", "n": n, "e": "AQAB" })).unwrap();
        assert!(!fits(&key, &header));
    }

    #[test]
    fn a_tenant_takes_its_place_in_the_issuer_if_it_is_one() {
        let claims = |tid: &str| -> Claims {
            let mut claims = good();
            claims["tid"] = tid.into();
            serde_json::from_value(claims).unwrap()
        };
        let template = "https://login.microsoftonline.com/{tenantid}/v2.0";
        let id = "9188040d-6c67-4c5b-b112-36a304b66dad";
        assert_eq!(
            issuer_of(template, &claims(id)),
            format!("https://login.microsoftonline.com/{id}/v2.0")
        );
        assert_eq!(issuer_of(template, &claims("evil/..")), template);
    }
}
