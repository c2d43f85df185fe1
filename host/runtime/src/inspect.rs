//! What can be read off a component without compiling it, for operators who want
//! to know before they deploy.

use wasmparser::{Parser, Payload};

use crate::error::LoadError;

/// The interfaces and functions that a component imports, by their names with
/// versions, in its own order.
pub fn imports(wasm: &[u8]) -> Result<Vec<String>, LoadError> {
    if !Parser::is_component(wasm) {
        return Err(if Parser::is_core_wasm(wasm) {
            LoadError::CoreModule
        } else {
            LoadError::NotWasm
        });
    }
    let malformed = |error: wasmparser::BinaryReaderError| LoadError::Compile(error.into());
    let mut found = Vec::new();
    // Components nest: only the outermost one's imports are its own.
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(malformed)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    found.push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_outermost_imports_count() {
        let wasm = wat::parse_str(
            r#"(component
                 (import "wasi:io/poll@0.2.0" (instance))
                 (component (import "inner" (func)))
                 (core module (import "env" "f" (func)))
                 (import "acme:gpu/compute@1.0.0" (instance)))"#,
        )
        .unwrap();
        let found = imports(&wasm).unwrap();
        assert_eq!(found, ["wasi:io/poll@0.2.0", "acme:gpu/compute@1.0.0"]);
        assert!(matches!(imports(b"x"), Err(LoadError::NotWasm)));
        assert!(matches!(
            imports(b"\0asm\x01\0\0\0"),
            Err(LoadError::CoreModule)
        ));
        assert!(imports(&wasm[..wasm.len() - 3]).is_err());
    }
}
