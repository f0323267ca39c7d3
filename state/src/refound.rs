//! The same cluster under a new control group: what changes when a state outlives the control nodes that kept it.

use crate::command::Holder;
use crate::machine::State;
use crate::registry::SHORT_ID_REST;
use longshore_wire::{NodeId, Role};
use std::sync::Arc;

/// How much there is of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Control nodes.
    pub control_nodes: usize,
    /// Workers.
    pub workers: usize,
    /// Credentials, revoked ones too.
    pub credentials: usize,
    /// Apps.
    pub apps: usize,
    /// Started flows.
    pub instances: usize,
    /// Tasks.
    pub tasks: usize,
    /// Keys.
    pub keys: usize,
}

impl State {
    /// How much there is of everything.
    pub fn counts(&self) -> Counts {
        Counts {
            control_nodes: self.controls().count(),
            workers: self.workers().count(),
            credentials: self.credentials.len(),
            apps: self.apps.len(),
            instances: self.instances.len(),
            tasks: self.tasks.len(),
            keys: self.kv.len(),
        }
    }

    /// Prepares the state for a group that begins anew with one control node, as if by log entry `index`. Cluster id,
    /// credentials, workers, apps, flows, keys and revisions stay. All control nodes go, since none of the former group
    /// belongs to the new one; a control credential of `former` alone becomes `founder`'s. Every partition waits for an
    /// owner under an epoch of at least `epoch`: workers obey no lower one than they have seen, and this state may be
    /// older than that.
    pub fn refound(&mut self, index: u64, former: Option<NodeId>, founder: NodeId, epoch: u64) {
        self.applied = index;
        let controls: Vec<_> = self.controls().cloned().collect();
        for mut node in controls {
            if node.is_worker() {
                Arc::make_mut(&mut node.roles).remove(&Role::Control);
                Arc::make_mut(&mut node.boots).remove(&Role::Control);
                self.nodes.insert(node.id, Arc::new(node));
                continue;
            }
            self.nodes.remove(&node.id);
            self.short_ids.remove(&node.short_id);
            self.resting.insert(node.short_id, index.saturating_add(SHORT_ID_REST));
        }
        let former = former.map(Holder::Node);
        let own = |role, holder: &Option<Holder>| role == Role::Control && holder.is_some() && *holder == former;
        let names: Vec<String> =
            self.credentials().filter(|each| own(each.role, &each.holder)).map(|each| each.name.clone()).collect();
        for name in names {
            if let Some(credential) = self.credentials.get_mut(&name) {
                Arc::make_mut(credential).holder = Some(Holder::Node(founder));
            }
        }
        self.ring.refound(epoch);
    }
}

#[cfg(test)]
mod tests {
    use crate::snapshot::tests::full;
    use longshore_wire::{NodeId, PARTITIONS, Partition};

    #[test]
    fn only_the_control_nodes_go() {
        let before = full();
        let mut after = before.clone();
        let (index, founder) = (before.applied() + 1, NodeId::from_u128(99));
        after.refound(index, None, founder, 1_000_000);
        let (was, is) = (before.counts(), after.counts());
        assert!(was.control_nodes > 0 && was.workers > 0 && was.keys > 0, "{was:?}");
        assert_eq!(is.control_nodes, 0);
        assert_eq!(crate::Counts { control_nodes: was.control_nodes, ..is }, was);
        assert_eq!((after.applied(), after.kv_revision()), (index, before.kv_revision()));
        assert_eq!(after.cluster(), before.cluster());
        assert!((0..PARTITIONS).all(|number| after.ring().owner(Partition(number)).is_none()));
        after.ring.set_owners(&[founder]);
        assert!(after.ring().owner(Partition(0)).is_some_and(|(owner, epoch)| owner == founder && epoch.0 > 1_000_000));
    }
}
