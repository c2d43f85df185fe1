//! MongoDB's aggregation pipelines.
//!
//! A pipeline is compiled whole before anything is read, so that what is not
//! supported is refused by name. What stands at its front and a find can do
//! (filter, sort, limit) becomes a find, with its indexes. The other stages pass
//! documents on one by one; those that must hold their input (`$sort`, `$group`,
//! `$facet`) and the result itself count the bytes that they hold.

mod compile;
mod group;
mod project;
mod run;
mod stage;

use std::sync::Arc;

use bson::{Bson, DateTime, Document, RawDocumentBuf};

use crate::engine::candidates::Limits;
use crate::engine::catalog::Catalog;
use crate::engine::sqlite::Session;
use crate::error::Result;
use crate::expression::Environment;

pub(crate) use compile::STAGES;
pub(crate) use group::accumulators;
use stage::Stage;

/// A compiled pipeline.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    stages: Vec<Stage>,
}

impl Pipeline {
    /// Compiles a pipeline.
    pub(crate) fn compile(stages: &[Document]) -> Result<Self> {
        let _patterns = crate::query::Budget::open();
        compile::pipeline(stages, &[], 0)
    }

    /// Runs the pipeline on a collection, on one snapshot.
    pub(crate) fn run(
        &self,
        session: &mut Session<'_>,
        catalog: &Arc<Catalog>,
        collection: &str,
        max_bytes: usize,
        limits: &Limits,
    ) -> Result<Vec<RawDocumentBuf>> {
        let environment = Environment {
            now: DateTime::now(),
            max_bytes,
            limits: limits.clone(),
        };
        session.snapshot(|session| {
            let context = run::Context {
                catalog,
                environment: &environment,
                variables: Vec::new(),
            };
            let documents = run::pipeline(&self.stages, session, &context, collection)?;
            documents.iter().map(crate::value::encode).collect()
        })
    }
}

/// Values of variables, by name.
type Variables = Vec<(String, Bson)>;
