//! `coglex:kv`: the plugin's keys and values.

use std::time::Duration;

use coglex_services::kv::KvError;

use super::storage::turn;
use crate::bindings::kv::store::{Error, Host};
use crate::state::InstanceState;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for InstanceState {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        self.charge(key.len())?;
        let shared = &*self.shared;
        let got = {
            let _turn = turn(shared, self.call.hook_depth).await;
            shared.services.kv.get(&shared.caller, &key).await
        };
        self.hand(got, |value| value.as_ref().map_or(0, Vec::len))
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Answer<()> {
        self.charge(key.len() + value.len())?;
        let shared = &*self.shared;
        let ttl = ttl_ms.map(Duration::from_millis);
        let set = {
            let _turn = turn(shared, self.call.hook_depth).await;
            let kv = &shared.services.kv;
            kv.set(&shared.caller, &key, value, ttl).await
        };
        self.hand(set, |()| 0)
    }

    async fn delete(&mut self, key: String) -> Answer<bool> {
        self.charge(key.len())?;
        let shared = &*self.shared;
        let deleted = {
            let _turn = turn(shared, self.call.hook_depth).await;
            shared.services.kv.delete(&shared.caller, &key).await
        };
        self.hand(deleted, |_| 0)
    }

    async fn increment(&mut self, key: String, by: i64, ttl_ms: Option<u64>) -> Answer<i64> {
        self.charge(key.len())?;
        let shared = &*self.shared;
        let ttl = ttl_ms.map(Duration::from_millis);
        let sum = {
            let _turn = turn(shared, self.call.hook_depth).await;
            let kv = &shared.services.kv;
            kv.increment(&shared.caller, &key, by, ttl).await
        };
        self.hand(sum, |_| 0)
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Answer<bool> {
        self.charge(key.len() + value.len() + expected.as_ref().map_or(0, Vec::len))?;
        let shared = &*self.shared;
        let ttl = ttl_ms.map(Duration::from_millis);
        let done = {
            let _turn = turn(shared, self.call.hook_depth).await;
            let kv = &shared.services.kv;
            kv.compare_and_set(&shared.caller, &key, expected, value, ttl)
                .await
        };
        self.hand(done, |_| 0)
    }

    async fn keys(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Answer<Vec<String>> {
        self.charge(prefix.len() + after.as_ref().map_or(0, String::len))?;
        let shared = &*self.shared;
        let keys = {
            let _turn = turn(shared, self.call.hook_depth).await;
            let kv = &shared.services.kv;
            kv.keys(&shared.caller, &prefix, after.as_deref(), limit)
                .await
        };
        self.hand(keys, |keys| keys.iter().map(String::len).sum())
    }
}

impl InstanceState {
    fn hand<T>(&mut self, result: Result<T, KvError>, size: impl Fn(&T) -> usize) -> Answer<T> {
        Ok(match result {
            Ok(answer) => {
                self.carry(size(&answer))?;
                Ok(answer)
            }
            Err(KvError::Invalid(why)) => Err(Error::Invalid(why)),
            Err(error @ KvError::Full(_)) => Err(Error::Invalid(error.to_string())),
            Err(error @ KvError::NotACounter) => Err(Error::WrongType(error.to_string())),
            Err(KvError::Contended) => Err(Error::Contended),
            Err(KvError::Service(error)) => {
                self.log_failure(&error);
                Err(Error::Unavailable)
            }
        })
    }
}
