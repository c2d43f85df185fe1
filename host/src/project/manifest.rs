//! Puts a plugin's `coglex.toml` into its component, where the server looks for
//! it: as the custom section `coglex:manifest`.

use anyhow::{Context as _, bail};
use coglex_runtime::Ask;

/// The component with its manifest. One that carries the same text already, as
/// the Rust SDK's `manifest!` puts it in, stays as it is.
pub(super) fn embed(mut component: Vec<u8>, manifest: &str) -> anyhow::Result<Vec<u8>> {
    let own = Ask::embedded(&component).context("what the build made cannot be read")?;
    match own {
        Some(own) if own == manifest => Ok(component),
        Some(_) => bail!(
            "the component carries another coglex.toml than the one in its folder; \
             does `coglex_sdk::manifest!` name another file?"
        ),
        None => {
            append(&mut component, Ask::SECTION, manifest.as_bytes());
            Ok(component)
        }
    }
}

/// A custom section at the end: its id 0, its size, its name with the name's
/// size, the data.
/// (<https://webassembly.github.io/spec/core/binary/modules.html#custom-section>)
fn append(wasm: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut content = Vec::with_capacity(name.len() + data.len() + 5);
    leb128(&mut content, name.len());
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(data);
    wasm.push(0);
    leb128(wasm, content.len());
    wasm.extend_from_slice(&content);
}

/// An unsigned number, seven bits a byte, the lowest first.
fn leb128(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest component: its preamble.
    const EMPTY: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

    #[test]
    fn the_manifest_is_found_where_it_was_put() {
        for length in [0, 1, 100, 200, 20_000] {
            let text = "#".repeat(length);
            let component = embed(EMPTY.to_vec(), &text).unwrap();
            assert_eq!(Ask::embedded(&component).unwrap(), Some(text.clone()));
            let again = embed(component.clone(), &text).unwrap();
            assert_eq!(again, component, "once is enough");
            assert!(embed(component, "# another").is_err());
        }
    }

    #[test]
    fn what_is_no_component_is_an_error() {
        assert!(embed(b"no component".to_vec(), "").is_err());
    }
}
