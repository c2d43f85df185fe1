//! The memory that request bodies take while they are collected whole. Anybody
//! can send half a body and wait, on as many connections as the server takes;
//! how much of that is kept at once is bounded here, for all plugins together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::CallError;

/// A permit is this many bytes.
const UNIT: usize = 1024;
/// When a client may try again: bodies in flight come and go quickly.
const RETRY: Duration = Duration::from_secs(1);

/// What is left for bodies; cheap to clone, one for each runtime.
#[derive(Debug, Clone)]
pub(crate) struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    /// Room for `bytes`, rounded down to KiB.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            (bytes / UNIT).min(Semaphore::MAX_PERMITS),
        )))
    }

    /// A body of no bytes yet. Nothing is set aside for what a client says it
    /// will send: that would cost it nothing and keep others out.
    pub(crate) fn body(&self) -> Buffered {
        Buffered {
            bytes: Vec::new(),
            memory: self.clone(),
            held: None,
        }
    }
}

/// A body as it grows, and its share of the memory until it is dropped.
pub(crate) struct Buffered {
    bytes: Vec<u8>,
    memory: BodyMemory,
    held: Option<OwnedSemaphorePermit>,
}

impl Buffered {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends, if there is memory for it. Nobody waits here: who waits with
    /// half a body in hand only makes it worse.
    pub(crate) fn push(&mut self, data: bytes::Bytes) -> Result<(), CallError> {
        if self.bytes.is_empty() {
            // The common body is one frame, which need not be copied.
            self.cover(data.len())?;
            self.bytes = data.into();
            return Ok(());
        }
        let needed = self.bytes.len().saturating_add(data.len());
        if needed > self.bytes.capacity() {
            // Doubled as `Vec` would, but knowing how much that is.
            let capacity = needed.max(self.bytes.capacity().saturating_mul(2));
            self.cover(capacity)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        } else {
            // The first frame may have come with room to spare.
            self.cover(needed)?;
        }
        self.bytes.extend_from_slice(&data);
        Ok(())
    }

    /// The body, and its share of the memory, to be kept for as long as it.
    pub(crate) fn finish(self) -> (Vec<u8>, Option<OwnedSemaphorePermit>) {
        (self.bytes, self.held)
    }

    fn cover(&mut self, bytes: usize) -> Result<(), CallError> {
        let held = self
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(UNIT).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let spent = || CallError::Overloaded { retry_after: RETRY };
        let more = u32::try_from(more).map_err(|_| spent())?;
        let more = Arc::clone(&self.memory.0)
            .try_acquire_many_owned(more)
            .map_err(|_| spent())?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn kib(n: usize) -> Bytes {
        Bytes::from(vec![7; n * UNIT])
    }

    #[test]
    fn bodies_share_the_memory_and_give_it_back() {
        let memory = BodyMemory::new(8 * UNIT);
        let (mut first, mut second) = (memory.body(), memory.body());
        first.push(kib(6)).unwrap();
        second.push(kib(1)).unwrap();
        let refused = second.push(kib(2)).unwrap_err();
        assert!(matches!(refused, CallError::Overloaded { .. }));
        let (bytes, held) = first.finish();
        assert_eq!(bytes.len(), 6 * UNIT);
        assert!(second.push(kib(2)).is_err(), "it is still held");
        drop(held);
        second.push(kib(2)).unwrap();
        assert_eq!(second.len(), 3 * UNIT);
        drop(second);
        assert_eq!(memory.0.available_permits(), 8);
    }

    #[test]
    fn what_is_held_covers_what_is_allocated() {
        let memory = BodyMemory::new(1024 * UNIT);
        let mut body = memory.body();
        for _ in 0..300 {
            body.push(kib(1)).unwrap();
            let held = (1024 - memory.0.available_permits()) * UNIT;
            assert!(held >= body.bytes.capacity());
        }
        let (bytes, _held) = body.finish();
        assert_eq!(bytes, vec![7; 300 * UNIT]);
    }
}
