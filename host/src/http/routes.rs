//! Handlers, one file for each resource: extract, one service call, answer.

pub(super) mod health;
