//! Maps that a flood of strangers must not fill: limits count by caller, and callers can
//! make themselves up.

use std::collections::HashMap;
use std::time::Duration;

/// Sees to it that there is room for `id` in a map of at most `most` entries: what is
/// over goes, and if nothing is, the one with the smallest `rank`.
pub fn make_room<V>(
    map: &mut HashMap<u64, V>,
    most: usize,
    id: u64,
    is_over: impl Fn(&V) -> bool,
    rank: impl Fn(&V) -> Duration,
) {
    if map.len() < most || map.contains_key(&id) {
        return;
    }
    map.retain(|_, value| !is_over(value));
    if map.len() >= most {
        let first = map.iter().min_by_key(|(_, value)| rank(value));
        if let Some(id) = first.map(|(id, _)| *id) {
            map.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_gives_way_and_then_the_first() {
        let seconds = Duration::from_secs;
        let mut map: HashMap<u64, Duration> = (1..=4).map(|n| (n, seconds(n))).collect();
        let room = |map: &mut HashMap<u64, Duration>, id, now| {
            make_room(map, 4, id, |at| *at <= seconds(now), |at| *at);
            let mut left: Vec<u64> = map.keys().copied().collect();
            left.sort_unstable();
            left
        };
        assert_eq!(room(&mut map, 4, 9), [1, 2, 3, 4]);
        assert_eq!(room(&mut map, 5, 2), [3, 4]);
        map.extend([(5, seconds(5)), (6, seconds(6))]);
        assert_eq!(room(&mut map, 7, 0), [4, 5, 6]);
        assert_eq!(room(&mut map, 7, 0), [4, 5, 6]);
    }
}
