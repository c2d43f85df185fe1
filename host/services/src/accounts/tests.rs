use super::*;

pub(super) fn settings() -> AuthSettings {
    AuthSettings {
        argon2_memory_kib: 64,
        argon2_passes: 1,
        argon2_lanes: 1,
        hash_concurrency: 2,
        hash_queue: 64,
        session_ttl: Duration::from_secs(3600),
        signing_key: SigningKey(Arc::from([7; 32])),
        issuer: "coglex".into(),
    }
}
