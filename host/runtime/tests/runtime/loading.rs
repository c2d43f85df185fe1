//! What can be loaded, what cannot and why, and the cache of compiled code.

use std::fs;
use std::path::{Path, PathBuf};

use coglex_runtime::{Budget, Door, LoadError, Policy, Runtime, RuntimeSettings};

use crate::support::{Log, bytes, load, loaded, run, runtime, services};
use crate::wat::{echo, runs};

fn seven() -> String {
    runs("(call $digit (i32.const 7))")
}

#[tokio::test]
async fn a_component_says_what_it_has() {
    let runtime = runtime(Budget::default());
    let plugin = loaded(&runtime, &seven()).await;
    assert_eq!(plugin.name(), "probe");
    assert_eq!(plugin.digest().len(), 64);
    assert_eq!(plugin.functions().len(), 1);
    assert_eq!(plugin.functions()[0].name, "probe");
    assert!(plugin.routes().is_empty());
    assert_eq!(plugin.door(), Door::None);

    let app = loaded(&runtime, &echo(200)).await;
    assert_eq!(app.door(), Door::Records);
    assert_eq!(app.routes().len(), 1);
    assert_eq!(app.routes()[0].path, "/echo");
    assert!(app.functions().is_empty());
    assert_ne!(app.digest(), plugin.digest());
}

#[tokio::test]
async fn what_is_not_a_component_is_refused_with_a_reason() {
    let runtime = runtime(Budget::default());
    let refused = async |wasm: Vec<u8>| {
        runtime
            .load("probe", wasm, None, Policy::default())
            .await
            .map(drop)
            .unwrap_err()
    };
    assert!(matches!(refused(b"".to_vec()).await, LoadError::NotWasm));
    assert!(matches!(
        refused(b"#!/bin/sh\nexit 1\n".to_vec()).await,
        LoadError::NotWasm
    ));
    assert!(matches!(
        refused(seven().into_bytes()).await,
        LoadError::NotWasm
    ));
    assert!(matches!(
        refused(bytes("(module)")).await,
        LoadError::CoreModule
    ));
    assert!(matches!(
        refused(bytes("(component)")).await,
        LoadError::NoDoor
    ));

    let whole = bytes(&seven());
    for length in [8, 100, whole.len() / 2, whole.len() - 1] {
        let error = refused(whole[..length].to_vec()).await;
        assert!(
            matches!(error, LoadError::Compile(_) | LoadError::NoDoor),
            "{length}: {error}"
        );
    }
}

#[tokio::test]
async fn half_an_app_is_refused() {
    let runtime = runtime(Budget::default());
    let half = |export: &str| {
        let wat = echo(200);
        let start = wat.find(&format!("(export \"{export}\"")).unwrap();
        let end = start + wat[start..].find("))").unwrap() + 2;
        // The last export shares its closing parenthesis with the component.
        let closing = if end == wat.len() { ")" } else { "" };
        format!("{}{}{closing}", &wat[..start], &wat[end..])
    };
    for export in ["coglex:gateway/app@0.1.0", "coglex:gateway/handler@0.1.0"] {
        let error = load(&runtime, &half(export)).await.unwrap_err();
        assert!(matches!(error, LoadError::HalfAnApp { .. }), "{error}");
        assert!(error.to_string().contains(export), "{error}");
    }
}

#[tokio::test]
async fn a_bad_route_or_name_is_refused_by_name() {
    let runtime = runtime(Budget::default());
    let error = load(&runtime, &echo(200).replace("\"/echo\"", "\"/ech{\""))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/ech{"), "{error}");
    let error = load(&runtime, &seven().replace("\"probe\"", "\"pr be\""))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("pr be"), "{error}");
}

#[tokio::test]
async fn a_manifest_inside_counts_unless_one_lies_beside() {
    let runtime = runtime(Budget::default());
    let wat = seven().replacen(
        "(core module $main",
        "(core module $main (@custom \"coglex:manifest\" \"[budget]\\nhost_calls = 7\")",
        1,
    );
    let plugin = loaded(&runtime, &wat).await;
    assert_eq!(plugin.budget().host_calls, 7);
    let beside = Some("[budget]\nhost_calls = 8");
    let plugin = runtime
        .load("probe", bytes(&wat), beside, Policy::default())
        .await
        .unwrap();
    assert_eq!(plugin.budget().host_calls, 8);
    let error = runtime
        .load("probe", bytes(&wat), Some("nonsense"), Policy::default())
        .await
        .unwrap_err();
    assert!(matches!(error, LoadError::Ask(_)), "{error}");
}

fn cached(dir: &Path) -> Runtime {
    let settings = RuntimeSettings {
        cache_dir: Some(dir.join("compiled")),
        max_instances: 4,
        ..RuntimeSettings::default()
    };
    Runtime::new(settings, services()).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("compiled")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn compiled_code_is_kept_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    loaded(&cached(dir.path()), &seven()).await;
    let [file] = &files(dir.path())[..] else {
        panic!("one file")
    };
    let before = fs::metadata(file).unwrap().modified().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));

    let plugin = loaded(&cached(dir.path()), &seven()).await;
    assert_eq!(run(&plugin).await.unwrap(), "7");
    // Used, so marked as used; and not written again beside itself.
    assert!(fs::metadata(file).unwrap().modified().unwrap() > before);
    assert_eq!(files(dir.path()).len(), 1);
}

/// Compiles quickly at first.
fn quick(dir: &Path) -> Runtime {
    let settings = RuntimeSettings {
        cache_dir: Some(dir.join("compiled")),
        quick_first: true,
        max_instances: 4,
        ..RuntimeSettings::default()
    };
    Runtime::new(settings, services()).unwrap()
}

/// On one thread, as the log is captured on it.
#[tokio::test]
async fn code_that_was_made_quickly_is_replaced_while_calls_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::capture();
    let runtime = quick(dir.path());
    let plugin = loaded(&runtime, &seven()).await;
    assert!(files(dir.path()).is_empty(), "the quick code is not kept");
    let start = std::time::Instant::now();
    while !log.text().contains("its code has been compiled well") {
        assert_eq!(run(&plugin).await.unwrap(), "7");
        assert!(start.elapsed() < std::time::Duration::from_secs(60));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(files(dir.path()).len(), 1);
    assert_eq!(run(&plugin).await.unwrap(), "7");
    // From there it is loaded at once, and there is nothing left to do better.
    let plugin = loaded(&quick(dir.path()), &seven()).await;
    assert_eq!(run(&plugin).await.unwrap(), "7");
}

#[tokio::test]
async fn what_is_replaced_soon_is_compiled_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = quick(dir.path());
    drop(loaded(&runtime, &seven()).await);
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert!(files(dir.path()).is_empty());
}

#[tokio::test]
async fn a_damaged_file_is_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    loaded(&cached(dir.path()), &seven()).await;
    let [file] = &files(dir.path())[..] else {
        panic!("one file")
    };
    let whole = fs::read(file).unwrap();

    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&b""[..], &whole[..10], &whole[..whole.len() / 2], &flipped] {
        fs::write(file, damaged).unwrap();
        let plugin = loaded(&cached(dir.path()), &seven()).await;
        assert_eq!(run(&plugin).await.unwrap(), "7");
        assert!(fs::read(file).unwrap() == whole, "written anew");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_cache_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("compiled")).unwrap();
    fs::set_permissions(
        dir.path().join("compiled"),
        fs::Permissions::from_mode(0o777),
    )
    .unwrap();
    loaded(&cached(dir.path()), &seven()).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("compiled")), 0o700);
    assert_eq!(mode(&files(dir.path())[0]), 0o600);
}
