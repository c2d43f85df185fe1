//! wasmtime's settings, and the thread that makes guests yield.

use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::error::RuntimeError;

/// How often a computing guest is made to yield and its CPU budget is looked at.
/// Shorter makes budgets finer and other calls wait less behind a busy guest;
/// 5 ms costs nothing that could be measured.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Elements of one table. A large Rust guest has a few thousand functions whose
/// address is taken, an interpreter some ten thousand.
pub(crate) const TABLE_ELEMENTS: usize = 50_000;
/// Core instances in one component. One from `wit-bindgen` has three; one that
/// is linked from shared libraries, as Python's, has some twenty.
pub(crate) const CORE_INSTANCES: u32 = 64;
/// Memories and tables in one component.
pub(crate) const MEMORIES: u32 = 4;
pub(crate) const TABLES: u32 = 16;

/// An engine for `max_instances` guests at a time of `max_memory` bytes each.
pub(crate) fn engine(max_instances: u32, max_memory: usize) -> Result<Engine, RuntimeError> {
    let mut config = Config::new();
    config
        // Guests are WASI 0.2. Leaving the component model's concurrency on, its
        // default, costs each call its set-up.
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .parallel_compilation(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
            max_instances,
            max_memory,
        )));
    Engine::new(&config).map_err(|error| RuntimeError::Engine(error.into()))
}

/// Slots that are made once and reused, so that a fresh instance costs no
/// `mmap` and few page faults.
fn pool(max_instances: u32, max_memory: usize) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(max_instances)
        .total_core_instances(max_instances.saturating_mul(8))
        .total_memories(max_instances)
        .total_tables(max_instances.saturating_mul(4))
        .total_stacks(max_instances)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .max_component_instance_size(4 * 1024 * 1024)
        .max_memory_size(max_memory)
        .table_elements(TABLE_ELEMENTS)
        .max_unused_warm_slots(64);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        // The kernel says which pages a guest has touched, so only those are
        // wiped and they stay resident for the next guest.
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(8 * 1024 * 1024)
            .table_keep_resident(64 * 1024);
    } else {
        // Without that, all of it would be wiped at each call: keep it small.
        pool.linear_memory_keep_resident(128 * 1024)
            .table_keep_resident(8 * 1024);
    }
    pool
}

/// Starts the thread that advances the engine's epoch. It holds the engine
/// weakly and ends soon after the last runtime is gone.
pub(crate) fn start_ticker(engine: &Engine) -> Result<(), RuntimeError> {
    let weak = engine.weak();
    std::thread::Builder::new()
        .name("epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .map(drop)
        .map_err(RuntimeError::Ticker)
}
