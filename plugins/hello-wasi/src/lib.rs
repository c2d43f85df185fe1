//! A standard `wasi:http/incoming-handler` component. It knows nothing of Coglex:
//! no SDK, no manifest, so the server mounts it at `/hello-wasi/` behind the API
//! key.

use std::io::Write as _;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

/// The component. Exported on WebAssembly; elsewhere it only has to compile.
pub struct Hello;

impl Guest for Hello {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        if let Err(error) = hello(out) {
            // The head is on its way already; the log is all that is left.
            eprintln!("the answer broke off: {error}");
        }
    }
}

fn hello(out: ResponseOutparam) -> Result<(), Box<dyn std::error::Error>> {
    let fields = Fields::new();
    fields.append("content-type", b"text/plain; charset=utf-8")?;
    let response = OutgoingResponse::new(fields);
    let body = response
        .body()
        .map_err(|()| ErrorCode::InternalError(None))?;
    ResponseOutparam::set(out, Ok(response));

    let mut stream = body.write().map_err(|()| ErrorCode::InternalError(None))?;
    stream.write_all(b"Hello from a standard component\n")?;
    stream.flush()?;
    drop(stream);
    OutgoingBody::finish(body, None)?;
    Ok(())
}

#[cfg(target_arch = "wasm32")]
wasip2::http::proxy::export!(Hello);
