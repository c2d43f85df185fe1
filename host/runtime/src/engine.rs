//! wasmtime's settings, and the thread that makes guests yield.

use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    RegallocAlgorithm,
};

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
/// Memories and tables in one component. A component that is built from one
/// source has one memory and two tables (its own and the adapter's); some room
/// is left for two that are composed. The pool has as many for each guest, so
/// that greedy components cannot use up what others were counted on to find.
pub(crate) const MEMORIES: u32 = 2;
pub(crate) const TABLES: u32 = 4;
/// Guests that may `describe` at once, in slots that no call can take: a plugin
/// can be loaded, and a bad one replaced, while others fill the pool.
pub(crate) const DESCRIBING: u32 = 16;
/// Guests that may wait for their next call, of all plugins that reuse theirs.
/// They too have slots of their own.
pub(crate) const IDLE: u32 = 64;

/// Guests that other guests have called, of all plugins. Their slots are their
/// own, so that no call waits for what its callers hold; see `nested`.
pub(crate) const NESTED: u32 = 64;

/// An engine for `max_instances` calls at a time, and [`DESCRIBING`], [`IDLE`] and
/// [`NESTED`] more guests, of `max_memory` bytes each.
pub(crate) fn engine(max_instances: u32, max_memory: usize) -> Result<Engine, RuntimeError> {
    let guests = max_instances.saturating_add(DESCRIBING + IDLE + NESTED);
    let config = config(guests, max_memory);
    Engine::new(&config).map_err(|error| RuntimeError::Engine(error.into()))
}

/// An engine that runs nothing, but compiles for [`engine`] with the same `max_memory`,
/// in less time; see `tiers`.
pub(crate) fn quick_compiler(max_memory: usize) -> Result<Engine, RuntimeError> {
    let mut config = config(1, max_memory);
    // Together they halve the time; either alone saves a quarter.
    config
        .cranelift_opt_level(OptLevel::None)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    Engine::new(&config).map_err(|error| RuntimeError::Engine(error.into()))
}

fn config(guests: u32, max_memory: usize) -> Config {
    let mut config = Config::new();
    config
        // Guests are WASI 0.2. Leaving the component model's concurrency on, its
        // default, costs each call its set-up.
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        // Twice the default: the frames of code that was made quickly are larger.
        .max_wasm_stack(1024 * 1024)
        .parallel_compilation(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
            guests, max_memory,
        )));
    config
}

/// Slots that are made once and reused, so that a fresh instance costs no
/// `mmap` and few page faults.
fn pool(guests: u32, max_memory: usize) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        .total_core_instances(guests.saturating_mul(CORE_INSTANCES))
        .total_memories(guests.saturating_mul(MEMORIES))
        .total_tables(guests.saturating_mul(TABLES))
        .total_stacks(guests)
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
