//! Whose turn it is: which of the jobs that are due a host takes next.
//!
//! Plugins take turns, and so do the functions of each: the next job is one of the
//! plugin of which the fewest run here, of its function of which the fewest do, and of
//! that the one that is due longest. So however many jobs of one function wait, those of others are run
//! as soon as there is room for one.
//!
//! Jobs that are not over are indexed by function and time. A host walks from function
//! to function in that index and reads the first of each, so that a look costs as many
//! reads as there are functions with jobs, whatever the number of jobs.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use bson::{DateTime, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;

use super::{Claim, Job, Jobs};
use crate::error::{Error, Result};
use crate::storage::Find;

/// Jobs of a function that are looked at for each that is wanted, since other hosts
/// look at the same.
const LOOK_AHEAD: usize = 2;

/// How often it is looked for jobs while other hosts take all that are found.
const ROUNDS: usize = 4;

/// Functions that one look goes through; the next begins after them.
const LINES: usize = 64;

/// What runs on a host: how many jobs of each plugin, and whose a function is.
pub struct Load<'a> {
    plugin_of: &'a PluginOf<'a>,
    /// By the plugin's name, or the function's where nobody has it.
    by_plugin: HashMap<String, usize>,
    by_function: HashMap<String, usize>,
}

/// The name of the plugin that has a function now.
type PluginOf<'a> = dyn Fn(&str) -> Option<String> + Send + Sync + 'a;

impl<'a> Load<'a> {
    /// Jobs of these functions run, one for each time that it is named.
    pub fn new(plugin_of: &'a PluginOf<'a>, running: impl IntoIterator<Item = String>) -> Self {
        let mut load = Self {
            plugin_of,
            by_plugin: HashMap::new(),
            by_function: HashMap::new(),
        };
        for function in running {
            load.add(&function);
        }
        load
    }

    fn add(&mut self, function: &str) {
        let plugin = self.plugin(function);
        *self.by_plugin.entry(plugin).or_default() += 1;
        *self.by_function.entry(function.to_owned()).or_default() += 1;
    }

    /// How many run of its plugin, and of itself.
    fn of(&self, function: &str) -> (usize, usize) {
        let count = |of: Option<&usize>| of.copied().unwrap_or_default();
        (
            count(self.by_plugin.get(&self.plugin(function))),
            count(self.by_function.get(function)),
        )
    }

    fn plugin(&self, function: &str) -> String {
        (self.plugin_of)(function).unwrap_or_else(|| function.to_owned())
    }
}

/// Jobs of one function that are due.
struct Line {
    function: String,
    /// Since when the first is due.
    since: DateTime,
    /// Those that were read; nothing before that.
    read: Option<VecDeque<RawDocumentBuf>>,
}

impl Jobs {
    /// Takes up to `limit` jobs that are due, as if nothing ran here.
    pub async fn claim(&self, limit: usize) -> Result<Vec<Claim>> {
        self.claim_beside(limit, Load::new(&|_| None, [])).await
    }

    /// Takes up to `limit` jobs that are due, beside those that run here: functions
    /// take turns.
    pub async fn claim_beside(&self, limit: usize, mut load: Load<'_>) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        if limit == 0 {
            return Ok(claims);
        }
        for _ in 0..ROUNDS {
            let was_beaten = self.claim_into(&mut claims, limit, &mut load).await?;
            // Who was faster has left the next ones.
            if !claims.is_empty() || !was_beaten {
                break;
            }
        }
        Ok(claims)
    }

    /// Looks once. Answers with whether other hosts took a job that this one would
    /// have. What was claimed is run, whatever becomes of the rest: an error counts
    /// only when nothing was.
    async fn claim_into(
        &self,
        claims: &mut Vec<Claim>,
        limit: usize,
        load: &mut Load<'_>,
    ) -> Result<bool> {
        let now = DateTime::now();
        let mut lines = self.lines(now).await?;
        let mut was_beaten = false;
        while claims.len() < limit && !lines.is_empty() {
            let turns = lines.iter().enumerate();
            let next = turns.min_by_key(|(_, line)| (load.of(&line.function), line.since));
            let Some(place) = next.map(|(place, _)| place) else {
                break;
            };
            let Some(line) = lines.get_mut(place) else {
                break;
            };
            if line.read.is_none() {
                match self.due_in(&line.function, now, limit * LOOK_AHEAD).await {
                    Ok(read) => line.read = Some(read),
                    Err(error) if claims.is_empty() => return Err(error),
                    Err(_) => break,
                }
            }
            let Some(raw) = line.read.as_mut().and_then(VecDeque::pop_front) else {
                lines.swap_remove(place);
                continue;
            };
            line.since = raw.get_datetime("at").unwrap_or(line.since);
            match self.claim_one(&raw).await {
                Ok(Taken::Claimed(claim)) => {
                    load.add(&claim.job.function);
                    claims.push(*claim);
                }
                Ok(Taken::Lost) => was_beaten = true,
                Ok(Taken::NoJob) => {}
                Err(error) if claims.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(was_beaten)
    }

    async fn claim_one(&self, raw: &RawDocumentBuf) -> Result<Taken> {
        let job = match Job::read(raw) {
            Ok(job) => job,
            Err(error) => {
                // It must not keep all others from running.
                tracing::error!(job.id = ?raw.get("_id"), %error, "a job was set aside");
                self.set_aside(raw).await?;
                return Ok(Taken::NoJob);
            }
        };
        let taken = match self.take(&job).await {
            // What a claim adds does not fit into it any more, where the store
            // takes only small documents. Nor must that keep others from running.
            Err(Error::TooLarge(_)) => self.bury(&job).await.map(|()| None),
            taken => taken,
        };
        Ok(match taken? {
            Some(claim) => Taken::Claimed(Box::new(claim)),
            None => Taken::Lost,
        })
    }

    /// The functions that have jobs which are due; some of them, where they are very
    /// many, and the others another time.
    async fn lines(&self, now: DateTime) -> Result<Vec<Line>> {
        let looked = &self.0.looked;
        let begin = looked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut lines = Vec::new();
        let (mut after, mut turned) = (begin.clone(), begin.is_empty());
        for _ in 0..LINES {
            let Some((function, since)) = self.line_after(&after).await? else {
                if turned {
                    after.clear();
                    break;
                }
                // From the beginning, up to where this look began.
                (after, turned) = (String::new(), true);
                continue;
            };
            if turned && !begin.is_empty() && function > begin {
                // It was looked at first.
                after.clear();
                break;
            }
            if since <= now {
                lines.push(Line {
                    function: function.clone(),
                    since,
                    read: None,
                });
            }
            let is_round = turned && !begin.is_empty() && function == begin;
            after = function;
            if is_round {
                after.clear();
                break;
            }
        }
        *looked.lock().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(lines)
    }

    /// The next function with jobs after this name, and when the first of them is due.
    async fn line_after(&self, name: &str) -> Result<Option<(String, DateTime)>> {
        let first = Find {
            filter: doc! { "queue": { "$gt": name } },
            projection: Some(doc! { "queue": 1, "at": 1 }),
            sort: Some(doc! { "queue": 1, "at": 1 }),
            limit: Some(1),
            ..Find::default()
        };
        let mut found = self.0.store.find(self.0.collection, first).await?;
        let Some(raw) = found.try_next().await? else {
            return Ok(None);
        };
        let function = raw.get_str("queue").unwrap_or_default().to_owned();
        // What has no time is no job, and never due; others of its name may be.
        let since = raw.get_datetime("at").unwrap_or(DateTime::MIN);
        Ok(Some((function, since)))
    }

    /// Jobs of a function that are due, the longest first.
    async fn due_in(
        &self,
        function: &str,
        now: DateTime,
        limit: usize,
    ) -> Result<VecDeque<RawDocumentBuf>> {
        let due = Find {
            filter: doc! { "queue": { "$eq": function }, "at": { "$lte": now } },
            projection: Some(doc! { "result": 0 }),
            sort: Some(doc! { "at": 1 }),
            limit: Some(limit as u64),
            ..Find::default()
        };
        let found = self.0.store.find(self.0.collection, due).await?;
        Ok(found.try_collect::<Vec<_>>().await?.into())
    }
}

/// What came of a try to claim a job.
enum Taken {
    Claimed(Box<Claim>),
    /// Somebody else was faster, or it is not to be run.
    Lost,
    /// It was none.
    NoJob,
}
