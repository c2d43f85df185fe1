//! Enqueues what plugins want run by the clock. Every host does, for the plugins
//! that serve on it; of those that make the same run one succeeds.
//!
//! A schedule is there as long as the version of its plugin that declares it. What
//! was due while nobody made runs is made up once, for the last time that it was.

use std::collections::HashMap;
use std::time::Duration;

use bson::DateTime;
use coglex_services::Jobs;
use coglex_services::jobs::schedules::Schedule;
use coglex_services::schedule::Cron;

use crate::app::AppState;
use crate::plugins::Generation;

/// A schedule that could not be looked up or run is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// A schedule that is followed.
struct Followed {
    cron: Cron,
    /// The time of the last run, once it is known.
    last: Option<DateTime>,
    /// Nothing is to be done before this.
    next: DateTime,
}

/// Follows the schedules of what serves, for ever.
pub(super) async fn run(state: AppState) {
    let jobs = &state.services.jobs;
    let mut followed: HashMap<Schedule, Followed> = HashMap::new();
    let mut generation = None;
    loop {
        tokio::time::sleep(to_the_second()).await;
        let current = state.plugins.current();
        if generation != Some(current.number) {
            generation = Some(current.number);
            follow(&mut followed, &current);
        }
        drop(current);
        for (schedule, own) in &mut followed {
            // A store that is away need not be asked for each of them.
            if DateTime::now() >= own.next && !own.make_due(jobs, schedule).await {
                break;
            }
        }
    }
}

/// The schedules that serve now, by the plugin's and the function's name.
pub(crate) fn schedules(generation: &Generation) -> Vec<Schedule> {
    let mut schedules = Vec::new();
    for plugin in generation.plugins() {
        for function in plugin.functions() {
            schedules.extend(function.schedules.iter().map(|declared| Schedule {
                plugin: plugin.name().to_owned(),
                function: function.name.clone(),
                cron: declared.cron.clone(),
                args: declared.args.clone(),
                kwargs: declared.kwargs.clone(),
            }));
        }
    }
    schedules
}

/// Brings what is followed in line with what serves.
fn follow(followed: &mut HashMap<Schedule, Followed>, generation: &Generation) {
    let mut before = std::mem::take(followed);
    for schedule in schedules(generation) {
        let own = match before.remove(&schedule) {
            Some(own) => own,
            None => match Cron::parse(&schedule.cron) {
                Ok(cron) => Followed {
                    cron,
                    last: None,
                    next: DateTime::from_millis(0),
                },
                Err(why) => {
                    tracing::error!(
                        plugin.name = schedule.plugin,
                        "a schedule is not followed: {why}"
                    );
                    continue;
                }
            },
        };
        followed.insert(schedule, own);
    }
}

impl Followed {
    /// Makes the run that is due, if one is. Answers with whether that went well.
    async fn make_due(&mut self, jobs: &Jobs, schedule: &Schedule) -> bool {
        let made = async {
            let last = match self.last {
                Some(last) => last,
                None => jobs.last_run(schedule, &self.cron).await?,
            };
            self.last = Some(last);
            if let Some(due) = self.cron.latest(last, DateTime::now()) {
                jobs.make_run(schedule, &self.cron, due).await?;
                self.last = Some(due);
            }
            Ok::<_, coglex_services::Error>(())
        };
        if let Err(error) = made.await {
            tracing::warn!(
                plugin.name = schedule.plugin,
                function = schedule.function,
                error = &error as &dyn std::error::Error,
                "a schedule cannot be followed now"
            );
            let again = DateTime::now().timestamp_millis() + AGAIN.as_millis() as i64;
            self.next = DateTime::from_millis(again);
            return false;
        }
        let last = self.last.unwrap_or_else(DateTime::now);
        // One that is never due again is looked at in the far future.
        self.next = self.cron.next(last).unwrap_or(DateTime::MAX);
        true
    }
}

/// The time to the next full second: what is due is due on one.
fn to_the_second() -> Duration {
    let past = DateTime::now().timestamp_millis().rem_euclid(1000);
    Duration::from_millis(1000 - past.unsigned_abs())
}
