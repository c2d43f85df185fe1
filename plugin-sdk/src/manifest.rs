//! What the plugin asks for, carried by the component itself.

/// Embeds the plugin's `coglex.toml`, so that one `.wasm` file says what it asks
/// for. The path starts at the folder of the plugin's `Cargo.toml`.
///
/// ```ignore
/// coglex_sdk::manifest!("coglex.toml");
/// ```
///
/// ```toml
/// # coglex.toml
/// [grants]
/// storage = [{ collection = "items", verbs = ["read", "insert", "update", "delete"] }]
/// ```
///
/// The server's operator decides what of it is granted. The text ends up as the
/// custom section `coglex:manifest` of the component's core module.
#[macro_export]
macro_rules! manifest {
    ($path:literal) => {
        const _: () = {
            // The array itself, not a reference to it: only plain bytes can
            // become a custom section.
            #[cfg_attr(target_arch = "wasm32", unsafe(link_section = "coglex:manifest"))]
            #[used]
            static MANIFEST: [u8; include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path))
                .len()] = *include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path));
        };
    };
}
