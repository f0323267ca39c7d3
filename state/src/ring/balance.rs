//! How partitions are spread over owners. Pure: slots and owners in, moves out.
//!
//! Partitions with workers are spread first, so that owners get even numbers of workers; then the empty ones, so that
//! owners get even numbers of partitions. Ties go by the order of owners and partitions, never by chance.

use super::Slot;
use longshore_wire::NodeId;

/// What one owner has, while a spread is worked out.
struct Load {
    owner: NodeId,
    workers: u32,
    /// Places in the ring of partitions with workers.
    busy: Vec<usize>,
    /// Places in the ring of partitions without.
    empty: Vec<usize>,
}

impl Load {
    fn partitions(&self) -> usize {
        self.busy.len() + self.empty.len()
    }
}

/// Spreads all partitions over `owners` (sorted, without repeats). Returns place → owner, also for those that stay.
pub(super) fn spread(slots: &[Slot], owners: &[NodeId]) -> Vec<(usize, NodeId)> {
    if owners.is_empty() {
        return Vec::new();
    }
    let (mut loads, orphans) = present_loads(slots, owners);
    let (mut busy, empty): (Vec<usize>, Vec<usize>) = orphans.into_iter().partition(|place| slots[*place].workers > 0);
    // The heaviest first: what is left over at the end is light and evens out best. The sort is stable.
    busy.sort_by_key(|place| std::cmp::Reverse(slots[*place].workers));
    for place in busy {
        let to = lightest(&loads);
        let load = &mut loads[to];
        load.workers += slots[place].workers;
        load.busy.push(place);
    }
    while let Some((from, position, to)) = next_busy_move(slots, &loads) {
        let place = loads[from].busy.remove(position);
        loads[from].workers -= slots[place].workers;
        loads[to].workers += slots[place].workers;
        loads[to].busy.push(place);
    }
    spread_empty(&mut loads, empty);
    loads.iter().flat_map(|load| load.busy.iter().chain(&load.empty).map(|place| (*place, load.owner))).collect()
}

/// What the owners have now, and the places whose owner is none of them.
fn present_loads(slots: &[Slot], owners: &[NodeId]) -> (Vec<Load>, Vec<usize>) {
    let fresh = |owner: &NodeId| Load { owner: *owner, workers: 0, busy: Vec::new(), empty: Vec::new() };
    let mut loads: Vec<Load> = owners.iter().map(fresh).collect();
    let mut orphans = Vec::new();
    for (place, slot) in slots.iter().enumerate() {
        match slot.owner.and_then(|owner| owners.binary_search(&owner).ok()) {
            None => orphans.push(place),
            Some(number) => {
                let load = &mut loads[number];
                load.workers += slot.workers;
                if slot.workers > 0 { load.busy.push(place) } else { load.empty.push(place) }
            }
        }
    }
    (loads, orphans)
}

/// The owner with the fewest workers; among equals the one with the fewest partitions.
fn lightest(loads: &[Load]) -> usize {
    (0..loads.len()).min_by_key(|number| (loads[*number].workers, loads[*number].partitions())).unwrap_or(0)
}

/// The next move of a partition with workers that makes the spread fairer: from, position there, to.
///
/// It goes to the lightest owner: if anybody could take a partition with gain, the lightest could too. Each move makes
/// the sum of squares smaller, so there is an end.
fn next_busy_move(slots: &[Slot], loads: &[Load]) -> Option<(usize, usize, usize)> {
    let to = lightest(loads);
    let mut donors: Vec<usize> = (0..loads.len()).filter(|number| *number != to).collect();
    donors.sort_by_key(|number| std::cmp::Reverse((loads[*number].workers, loads[*number].partitions())));
    donors.into_iter().find_map(|from| {
        let gap = loads[from].workers.saturating_sub(loads[to].workers);
        let position = best_to_move(slots, &loads[from].busy, gap)?;
        Some((from, position, to))
    })
}

/// Among partitions lighter than the gap, the one whose move leaves the two owners closest to each other.
fn best_to_move(slots: &[Slot], busy: &[usize], gap: u32) -> Option<usize> {
    if gap < 2 {
        return None;
    }
    let fitting = (0..busy.len()).filter(|position| slots[busy[*position]].workers < gap);
    fitting.min_by_key(|position| (gap.abs_diff(2 * slots[busy[*position]].workers), busy[*position]))
}

/// Gives the orphans away and evens out the numbers of partitions, with empty ones only.
fn spread_empty(loads: &mut [Load], orphans: Vec<usize>) {
    let fewest = |loads: &[Load]| (0..loads.len()).min_by_key(|number| loads[*number].partitions()).unwrap_or(0);
    for place in orphans {
        let to = fewest(loads);
        loads[to].empty.push(place);
    }
    loop {
        let to = fewest(loads);
        let enough = loads[to].partitions() + 1;
        let donor = (0..loads.len())
            .filter(|number| loads[*number].partitions() > enough && !loads[*number].empty.is_empty())
            .max_by_key(|number| (loads[*number].partitions(), std::cmp::Reverse(*number)));
        let Some(place) = donor.and_then(|from| loads[from].empty.pop()) else { return };
        loads[to].empty.push(place);
    }
}

/// Moves that make room for a new worker in the partition at `place`, before it is counted.
///
/// Only a partition without workers may move, since the others' workers would have to move with it. The least loaded
/// owner takes it and gives an empty one back, so that the numbers of partitions stay even.
pub(super) fn place_worker(slots: &[Slot], owners: &[NodeId], place: usize) -> Vec<(usize, NodeId)> {
    let Some(Slot { owner: Some(present), workers: 0, .. }) = slots.get(place) else { return Vec::new() };
    let (loads, _) = present_loads(slots, owners);
    let Some(from) = loads.iter().find(|load| load.owner == *present) else { return Vec::new() };
    let to = &loads[lightest(&loads)];
    if to.workers >= from.workers {
        return Vec::new();
    }
    let back = to.empty.last().map(|back| (*back, *present));
    std::iter::once((place, to.owner)).chain(back).collect()
}
