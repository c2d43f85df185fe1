//! The embedded engine behind the port.
