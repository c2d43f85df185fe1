//! A component with tests. Two kinds: a command (`wasi:cli/run`) with Rust's test
//! harness (libtest) in it, as `cargo test` builds one, and a component that
//! exports `coglex:testing/suite`.

use std::sync::Arc;

use coglex_services::caller::Credentials;
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandIndices;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

use super::bindings::exports::coglex::testing::suite::GuestIndices;
use crate::ask::{Ask, Policy};
use crate::doors::{self, Ending};
use crate::error::LoadError;
use crate::limits::Spent;
use crate::link;
use crate::plugin::CallContext;
use crate::runtime::Runtime;
use crate::state::{InstanceState, Phase, Watch, store, wasi_builder};

/// Bytes that a test may print. Past it, printing fails.
const MAX_PRINTED: usize = 4 * 1024 * 1024;

/// A compiled component with tests.
#[derive(Clone)]
pub struct Suite {
    component: Component,
}

/// As whom tests run: the plugin that they are the tests of.
#[derive(Debug, Clone, Default)]
pub struct Tested {
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub ask: Ask,
    /// What it gets of that.
    pub policy: Policy,
}

/// How a test went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Passed,
    /// It was not run: its harness cannot, or was told not to.
    Ignored,
    /// Badly.
    Failed {
        /// What ended it, where that is known.
        why: Option<String>,
        /// What it printed, and its panic.
        printed: String,
    },
}

enum Kind {
    Command(CommandIndices),
    Suite(GuestIndices),
}

/// What is there after a run, whether it went well or not.
struct Ended<T> {
    answer: Result<T, String>,
    printed: String,
}

impl Suite {
    /// Compiles it, or takes it from the runtime's cache. Takes up to seconds of
    /// all cores.
    pub async fn compile(runtime: &Runtime, wasm: Vec<u8>) -> Result<Self, LoadError> {
        let component = runtime.compile_only(wasm).await?;
        Ok(Self { component })
    }

    /// The names of its tests. `runtime` has a harness, of which nothing is used.
    pub async fn list(&self, runtime: &Runtime, tested: &Tested) -> Result<Vec<String>, String> {
        let (pre, kind) = self.link(tested).map_err(|error| sentence(&error))?;
        let ended = match kind {
            Kind::Command(door) => {
                let arguments = ["tests", "--list", "--format", "terse"];
                let ended = command(runtime, tested, &pre, &door, &arguments).await;
                Ended {
                    answer: ended.answer.map(|_| listed(&ended.printed)),
                    printed: ended.printed,
                }
            }
            Kind::Suite(door) => {
                run(runtime, tested, &pre, &[], async |store, instance| {
                    door.load(&mut *store, instance)?.call_list(store).await
                })
                .await
            }
        };
        ended.answer.map_err(|why| with(&why, &ended.printed))
    }

    /// Runs one of its tests. `runtime` has the harness of this test, and no other
    /// uses it.
    pub async fn run(&self, runtime: &Runtime, tested: &Tested, test: &str) -> Outcome {
        let (pre, kind) = match self.link(tested) {
            Ok(linked) => linked,
            Err(error) => {
                return Outcome::Failed {
                    why: Some(sentence(&error)),
                    printed: String::new(),
                };
            }
        };
        match kind {
            Kind::Command(door) => {
                // Without capture: what it has captured is lost when a test panics,
                // which ends the guest.
                let arguments = ["tests", "--exact", test, "--nocapture"];
                let ended = command(runtime, tested, &pre, &door, &arguments).await;
                match ended.answer {
                    Ok(true) if was_ignored(&ended.printed) => Outcome::Ignored,
                    Ok(true) => Outcome::Passed,
                    Ok(false) => Outcome::Failed {
                        why: None,
                        printed: own_words(&ended.printed, test),
                    },
                    Err(why) => Outcome::Failed {
                        why: Some(why).filter(|why| !why.is_empty()),
                        printed: own_words(&ended.printed, test),
                    },
                }
            }
            Kind::Suite(door) => {
                let ended = run(runtime, tested, &pre, &[], async |store, instance| {
                    let guest = door.load(&mut *store, instance)?;
                    guest.call_run(store, test).await
                })
                .await;
                match ended.answer {
                    Ok(Ok(())) => Outcome::Passed,
                    Ok(Err(why)) | Err(why) => Outcome::Failed {
                        why: Some(why).filter(|why| !why.is_empty()),
                        printed: ended.printed,
                    },
                }
            }
        }
    }

    fn link(&self, tested: &Tested) -> Result<(InstancePre<InstanceState>, Kind), LoadError> {
        let granted = tested.policy.allow.grant(&tested.ask.grants);
        let pre = link::link_tests(&self.component, &tested.ask.grants, &granted)?;
        let kind = match GuestIndices::new(&pre) {
            Ok(suite) => Kind::Suite(suite),
            Err(_) => Kind::Command(
                CommandIndices::new(&pre).map_err(|error| LoadError::Link(error.into()))?,
            ),
        };
        Ok((pre, kind))
    }
}

/// Adds `coglex:testing/host` to what tests may import.
pub(crate) fn link_host(
    linker: &mut wasmtime::component::Linker<InstanceState>,
) -> wasmtime::Result<()> {
    use wasmtime::component::HasSelf;
    super::bindings::coglex::testing::host::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Runs a command; answers whether it ended well.
async fn command(
    runtime: &Runtime,
    tested: &Tested,
    pre: &InstancePre<InstanceState>,
    door: &CommandIndices,
    arguments: &[&str],
) -> Ended<bool> {
    run(runtime, tested, pre, arguments, async |store, instance| {
        let command = door.load(&mut *store, instance)?;
        match command.wasi_cli_run().call_run(store).await {
            Ok(ended) => Ok(ended.is_ok()),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(code)) => Ok(*code == 0),
                None => Err(error),
            },
        }
    })
    .await
}

/// Runs something in a fresh instance, within the plugin's budget.
async fn run<T>(
    runtime: &Runtime,
    tested: &Tested,
    pre: &InstancePre<InstanceState>,
    arguments: &[&str],
    call: impl AsyncFnOnce(
        &mut Store<InstanceState>,
        &wasmtime::component::Instance,
    ) -> wasmtime::Result<T>,
) -> Ended<T> {
    let shared = runtime.share_tests(tested);
    let context = CallContext {
        request_id: "test".to_owned(),
        credentials: Credentials {
            api_key: true,
            ..Credentials::default()
        },
        users: Vec::new(),
        invocation: None,
        hook_depth: 0,
    };
    let budget = &shared.budget;
    let (mut store, watch) = store(pre.engine(), &shared, Phase::Serve, budget, context);
    let printed = MemoryOutputPipe::new(MAX_PRINTED);
    let mut wasi = wasi_builder(&shared);
    wasi.stdout(printed.clone())
        .stderr(printed.clone())
        .args(arguments);
    store.data_mut().set_wasi(wasi.build());
    let ended = doors::attempt(&watch, budget.wall, async {
        let instance = pre.instantiate_async(&mut store).await?;
        call(&mut store, &instance).await
    })
    .await;
    drop(store);
    let answer = ended.map_err(|ending| explain(&ending, &watch, &shared));
    let printed = String::from_utf8_lossy(&printed.contents()).into_owned();
    Ended { answer, printed }
}

/// Why a guest ended before its time; nothing to say for a panic, which has said
/// it itself.
fn explain(ending: &Ending, watch: &Watch, shared: &Arc<crate::plugin::Shared>) -> String {
    let budget = &shared.budget;
    if watch.memory_refused() {
        return format!(
            "the test wanted more than its memory budget of {} bytes",
            budget.memory_bytes
        );
    }
    match ending {
        Ending::Wall(wall) => {
            format!("the test was ended after its wall-clock budget of {wall:?}")
        }
        Ending::NoInstance(error) => format!("no instance is free: {error}"),
        Ending::Trap(error) => match (error.downcast_ref::<Spent>(), error.downcast_ref()) {
            (Some(spent), _) => format!("the test was ended: {spent}"),
            (None, Some(wasmtime::Trap::UnreachableCodeReached)) => String::new(),
            _ => error.root_cause().to_string(),
        },
    }
}

fn sentence(error: &LoadError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

fn with(why: &str, printed: &str) -> String {
    match printed.trim() {
        "" => why.to_owned(),
        printed => format!("{why}\n{printed}"),
    }
}

/// The tests of `--list --format terse`: a line `NAME: test` for each.
fn listed(printed: &str) -> Vec<String> {
    let tests = printed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"));
    tests.map(str::to_owned).collect()
}

/// Whether libtest says that the one test was left out.
fn was_ignored(printed: &str) -> bool {
    let result = printed
        .lines()
        .rfind(|line| line.starts_with("test result:"));
    result.is_some_and(|line| line.contains(" 1 ignored"))
}

/// What a test has printed without what libtest prints around it.
fn own_words(printed: &str, test: &str) -> String {
    let start = format!("test {test} ... ");
    let lines = printed.lines().filter_map(|line| {
        let line = line.strip_prefix(start.as_str()).unwrap_or(line);
        let around = line.starts_with("running 1 test")
            || line.starts_with("test result:")
            || ["ok", "FAILED", "failures:"].contains(&line)
            || line.trim() == test;
        (!around).then_some(line)
    });
    let words: Vec<&str> = lines.collect();
    words.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_in_the_list() {
        let printed = "tests::a: test\nb: test\nslow: benchmark\n\n";
        assert_eq!(listed(printed), ["tests::a", "b"]);
        assert!(listed("").is_empty());
    }

    #[test]
    fn a_test_that_was_left_out_did_not_pass() {
        let result = |passed, ignored| {
            format!(
                "\ntest result: ok. {passed} passed; 0 failed; {ignored} ignored; 0 measured; 3 filtered out\n"
            )
        };
        assert!(was_ignored(&result(0, 1)));
        assert!(!was_ignored(&result(1, 0)));
        assert!(!was_ignored("test says 1 ignored"));
    }

    #[test]
    fn what_the_harness_prints_is_left_out() {
        let printed = "\nrunning 1 test\ntest a::b ... \nthread 'main' panicked at src/lib.rs:7:\nleft: 1\nFAILED\n\nfailures:\n\nfailures:\n    a::b\n\ntest result: FAILED. 0 passed";
        assert_eq!(
            own_words(printed, "a::b"),
            "thread 'main' panicked at src/lib.rs:7:\nleft: 1"
        );
    }
}
