//! The placer: compares what should run where with what is assigned, and says what to commit.
//!
//! Pure. It runs on the leader after each change; whatever it says is checked again when it is applied, so a plan made
//! on an older state does no harm. A worker that is merely not connected keeps its tasks: nobody knows that they ended.

use crate::command::Command;
use crate::machine::State;
use crate::record::{Instance, Node, Wanted};
use crate::selector::Selector;
use longshore_wire::NodeId;
use longshore_wire::task::NodeState;
use std::collections::BTreeMap;

/// Most workers in one command: keeps log entries small, with ten thousand workers too.
pub const MAX_ASSIGN: usize = 1_000;

/// The commands that make assignments match wishes; none when all is right.
pub fn plan(state: &State) -> Vec<Command> {
    let running = state.instances().filter(|instance| instance.wanted == Wanted::Running);
    let mut planned = Planned::default();
    for instance in running {
        plan_instance(state, instance, &mut planned);
    }
    planned.commands
}

/// What has been decided so far in this plan.
#[derive(Default)]
struct Planned {
    commands: Vec<Command>,
    /// Tasks given out by this plan, so that several instances do not all take the same idle worker.
    given: BTreeMap<NodeId, usize>,
}

fn plan_instance(state: &State, instance: &Instance, planned: &mut Planned) {
    // A selector is checked before it is stored; one that does not parse picks nobody and drops nobody.
    let Ok(selector) = instance.selector.parse::<Selector>() else { return };
    let fits = |node: &Node| node.is_worker() && node.runtimes.contains(&instance.runtime) && selector.matches(node);
    let tasks: Vec<_> = state.tasks_of_instance(&instance.name).collect();
    let assigned: Vec<NodeId> = tasks.iter().filter(|task| task.assigned).map(|task| task.node).collect();
    let (mut keep, mut drop): (Vec<NodeId>, Vec<NodeId>) =
        assigned.into_iter().partition(|node| state.node(*node).is_some_and(fits));
    // Tasks come in the order of their nodes, so `tasks` and `keep` are sorted.
    let free = |node: &&Node| node.state == NodeState::Ready && fits(node);
    let add = match instance.on.limit() {
        None => {
            state.workers().filter(free).map(|node| node.id).filter(|node| keep.binary_search(node).is_err()).collect()
        }
        Some(limit) => {
            drop.extend(keep.split_off(limit.min(keep.len())));
            // A task that shall end holds its place until the worker has reported it gone.
            let held = |node: &Node| tasks.binary_search_by_key(&node.id, |task| task.node).is_ok();
            let candidates = state.workers().filter(free).filter(|node| !held(node));
            idlest(state, candidates, limit.saturating_sub(tasks.len()), planned)
        }
    };
    push_commands(instance, &add, &drop, planned);
}

/// The `wanted` workers with the fewest tasks; among equals those with the smallest short ids.
fn idlest<'a>(
    state: &State,
    candidates: impl Iterator<Item = &'a Node>,
    wanted: usize,
    planned: &Planned,
) -> Vec<NodeId> {
    if wanted == 0 {
        return Vec::new();
    }
    let tasks = |node: &Node| state.tasks_on(node.id).count() + planned.given.get(&node.id).copied().unwrap_or(0);
    let mut ranked: Vec<_> = candidates.map(|node| (tasks(node), node.short_id, node.id)).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(wanted).map(|(_, _, node)| node).collect()
}

fn push_commands(instance: &Instance, add: &[NodeId], drop: &[NodeId], planned: &mut Planned) {
    for node in add {
        *planned.given.entry(*node).or_default() += 1;
    }
    let command = |add: &[NodeId], drop: &[NodeId]| Command::Assign {
        instance: instance.name.clone(),
        revision: instance.revision,
        add: add.to_vec(),
        drop: drop.to_vec(),
    };
    planned.commands.extend(drop.chunks(MAX_ASSIGN).map(|chunk| command(&[], chunk)));
    planned.commands.extend(add.chunks(MAX_ASSIGN).map(|chunk| command(chunk, &[])));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::On;
    use crate::registry::tests::worker;
    use crate::snapshot::tests::instance;
    use longshore_wire::ShortId;
    use std::sync::Arc;

    fn state(workers: u32, on: On) -> State {
        let mut state = State::default();
        for number in 1..=workers {
            let mut node = worker(&format!("w{number}"), "");
            (node.id, node.short_id) = (NodeId::from_u128(number.into()), ShortId(number));
            (node.state, node.runtimes) = (NodeState::Ready, ["exec".into()].into());
            state.nodes.insert(node.id, Arc::new(node));
        }
        for name in ["a", "b"] {
            state.instances.insert(name.into(), Arc::new(instance(name, on)));
        }
        state
    }

    fn added(commands: &[Command]) -> Vec<usize> {
        let added = |command: &Command| match command {
            Command::Assign { add, .. } => add.len(),
            other => panic!("{other:?}"),
        };
        commands.iter().map(added).collect()
    }

    #[test]
    fn large_plans_come_in_pieces() {
        assert_eq!(added(&plan(&state(2_500, On::All))), [1_000, 1_000, 500, 1_000, 1_000, 500]);
    }

    #[test]
    fn instances_of_one_plan_go_to_different_workers() {
        let commands = plan(&state(2, On::One));
        let Some(Command::Assign { add: first, .. }) = commands.first() else { panic!("{commands:?}") };
        let Some(Command::Assign { add: second, .. }) = commands.last() else { panic!("{commands:?}") };
        assert_eq!((first.len(), second.len()), (1, 1));
        assert_ne!(first, second);
    }
}
