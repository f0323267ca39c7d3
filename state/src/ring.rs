//! The ring: which control node drives which partition, under which epoch.
//!
//! Invariants: every partition has an owner as soon as there is one; an epoch belongs to one owner only and rises with
//! every change. Balance counts workers first and partitions second, since with few workers an even number of
//! partitions says nothing about the work. Nothing moves that balance does not ask for.

mod balance;

use longshore_wire::{Epoch, NodeId, PARTITIONS, Partition};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Partition → owner and epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    owners: Arc<Vec<NodeId>>,
    slots: Arc<Vec<Slot>>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Who drives its workers.
    pub(crate) owner: Option<NodeId>,
    /// Rises with every change of owner.
    pub(crate) epoch: Epoch,
    /// Registered workers that hash to it. Counted from the nodes, so no part of a snapshot.
    #[serde(skip)]
    pub(crate) workers: u32,
}

impl Default for Ring {
    fn default() -> Self {
        Self { owners: Arc::default(), slots: Arc::new(vec![Slot::default(); usize::from(PARTITIONS)]) }
    }
}

impl Ring {
    /// The control nodes over which the ring is spread, by id.
    pub fn owners(&self) -> &[NodeId] {
        &self.owners
    }

    /// The owner of a partition and its epoch; `None` before the first owner, or for a partition that does not exist.
    pub fn owner(&self, partition: Partition) -> Option<(NodeId, Epoch)> {
        let slot = self.slots.get(usize::from(partition.0))?;
        slot.owner.map(|owner| (owner, slot.epoch))
    }

    /// The partitions of an owner, with the epochs under which it owns them.
    pub fn partitions_of(&self, owner: NodeId) -> impl Iterator<Item = (Partition, Epoch)> {
        let mine =
            move |(number, slot): (u16, &Slot)| (slot.owner == Some(owner)).then_some((Partition(number), slot.epoch));
        (0..PARTITIONS).zip(self.slots.iter()).filter_map(mine)
    }

    /// How many registered workers an owner drives.
    pub fn workers_of(&self, owner: NodeId) -> u32 {
        self.slots.iter().filter(|slot| slot.owner == Some(owner)).map(|slot| slot.workers).sum()
    }

    /// Whether both share their memory, and so are equal.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.owners, &other.owners) && Arc::ptr_eq(&self.slots, &other.slots)
    }

    /// The partitions whose owner or epoch is another one in `other`.
    pub(crate) fn moved<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Partition> + 'a {
        let both = if Arc::ptr_eq(&self.slots, &other.slots) { 0 } else { usize::from(PARTITIONS) };
        let slots = self.slots.iter().zip(other.slots.iter()).take(both);
        let moved = |(mine, theirs): (&Slot, &Slot)| (mine.owner, mine.epoch) != (theirs.owner, theirs.epoch);
        (0..PARTITIONS).zip(slots).filter_map(move |(number, slots)| moved(slots).then_some(Partition(number)))
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Spreads the ring over `owners`; says how many partitions moved.
    pub(crate) fn set_owners(&mut self, owners: &[NodeId]) -> u32 {
        let mut sorted = owners.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let plan = balance::spread(&self.slots, &sorted);
        self.owners = Arc::new(sorted);
        self.take_over(&plan)
    }

    /// Counts a new worker, and hands its partition to the owner with the fewest workers if that is fairer.
    pub(crate) fn add_worker(&mut self, partition: Partition) {
        let place = usize::from(partition.0);
        let plan = balance::place_worker(&self.slots, &self.owners, place);
        if let Some(slot) = Arc::make_mut(&mut self.slots).get_mut(place) {
            slot.workers += 1;
        }
        self.take_over(&plan);
    }

    /// Uncounts a worker that is removed.
    pub(crate) fn remove_worker(&mut self, partition: Partition) {
        if let Some(slot) = Arc::make_mut(&mut self.slots).get_mut(usize::from(partition.0)) {
            slot.workers = slot.workers.saturating_sub(1);
        }
    }

    /// Puts back a ring of a snapshot; the workers are counted with [`Ring::count_worker`].
    pub(crate) fn restore(owners: Vec<NodeId>, mut slots: Vec<Slot>) -> Self {
        slots.resize_with(usize::from(PARTITIONS), Slot::default);
        Self { owners: Arc::new(owners), slots: Arc::new(slots) }
    }

    /// Counts a worker without moving anything.
    pub(crate) fn count_worker(&mut self, partition: Partition) {
        if let Some(slot) = Arc::make_mut(&mut self.slots).get_mut(usize::from(partition.0)) {
            slot.workers += 1;
        }
    }

    /// Takes all partitions from their owners; whoever owns one next does so under an epoch above `least`.
    pub(crate) fn refound(&mut self, least: u64) {
        self.owners = Arc::default();
        for slot in Arc::make_mut(&mut self.slots) {
            slot.owner = None;
            slot.epoch.0 = slot.epoch.0.max(least);
        }
    }

    fn take_over(&mut self, moves: &[(usize, NodeId)]) -> u32 {
        if moves.is_empty() {
            return 0;
        }
        let slots = Arc::make_mut(&mut self.slots);
        let mut moved = 0;
        for (place, owner) in moves {
            if let Some(slot) = slots.get_mut(*place).filter(|slot| slot.owner != Some(*owner)) {
                slot.owner = Some(*owner);
                slot.epoch.0 += 1;
                moved += 1;
            }
        }
        moved
    }
}
