//! What a proxy tells the cluster of its worker: pure comparisons of what is known here with what the state says.

use super::seat::View;
use longshore_state::{CloneAlarm, Node, Via};
use longshore_wire::Epoch;
use longshore_wire::edge::Report;
use longshore_wire::task::NodeState;
use std::time::Duration;
use tokio::time::Instant;

/// A worker whose session has just ended usually comes back at once; nothing is told within this time.
const RETURN_GRACE: Duration = Duration::from_secs(1);

/// How a worker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) state: NodeState,
    pub(crate) via: Option<Via>,
    pub(crate) clone: Option<CloneAlarm>,
}

/// Until when an empty seat is not told.
pub(crate) fn patience_ends(view: &View, attach_grace: Duration) -> Instant {
    view.empty_since + if view.ever { RETURN_GRACE } else { attach_grace }
}

/// What must be told of the worker's presence, if anything. `patient` = an empty seat is not told yet.
pub(crate) fn presence(record: &Node, epoch: Epoch, view: &View, patient: bool) -> Option<Presence> {
    let presence = match (&view.session, &view.report) {
        (Some(session), report) => {
            let peer = session.peer();
            let via =
                Via { transport: peer.carrier.name().to_owned(), remote: peer.remote.map(|remote| remote.to_string()) };
            Presence { state: seen_state(report.as_ref()), via: Some(via), clone: view.clone.clone() }
        }
        // Whoever has said goodbye in good order stays known as stopped.
        (None, Some(report)) if report.state == NodeState::Stopped => {
            Presence { state: NodeState::Stopped, via: None, clone: None }
        }
        (None, None) if record.state == NodeState::Stopped => return None,
        (None, _) if patient => return None,
        (None, _) => Presence { state: NodeState::NotConnected, via: None, clone: None },
    };
    let same = presence.state == record.state && presence.via == record.via && presence.clone == record.clone;
    let known = same && record.told == epoch;
    (!known).then_some(presence)
}

/// The state of a worker that has a session. What it said before it was accepted is out of date by that very fact.
fn seen_state(report: Option<&Report>) -> NodeState {
    match report.map(|report| report.state) {
        None | Some(NodeState::Launching | NodeState::Connecting | NodeState::NotConnected) => NodeState::Ready,
        Some(state) => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_wire::{Generation, NodeId, ShortId};

    fn record(state: NodeState) -> Node {
        Node {
            id: NodeId::default(),
            name: "w".to_owned(),
            short_id: ShortId(1),
            generation: Generation(1),
            boots: Default::default(),
            roles: Default::default(),
            state,
            told: Epoch(1),
            labels: Default::default(),
            release: String::new(),
            runtimes: Default::default(),
            addresses: Default::default(),
            via: None,
            clone: None,
            alive: false,
            since_ms: 0,
        }
    }

    fn empty_seat(report: Option<NodeState>) -> View {
        let report = report.map(|state| Report { state, tasks: vec![], archives: vec![] });
        View { link: None, session: None, ever: report.is_some(), report, empty_since: Instant::now(), clone: None }
    }

    #[test]
    fn an_empty_seat_is_told_once_patience_ends() {
        let (ready, gone) = (record(NodeState::Ready), record(NodeState::NotConnected));
        let seat = empty_seat(Some(NodeState::Ready));
        assert_eq!(presence(&ready, Epoch(1), &seat, true), None);
        let told = presence(&ready, Epoch(1), &seat, false).unwrap();
        assert_eq!((told.state, &told.via), (NodeState::NotConnected, &None));
        assert_eq!(presence(&gone, Epoch(1), &seat, false), None);
        assert_eq!(presence(&gone, Epoch(2), &seat, false), Some(told), "a new owner says it again, in its own name");
    }

    #[test]
    fn who_said_goodbye_stays_stopped() {
        let stopped = empty_seat(Some(NodeState::Stopped));
        assert_eq!(presence(&record(NodeState::Ready), Epoch(1), &stopped, true).unwrap().state, NodeState::Stopped);
        assert_eq!(presence(&record(NodeState::Stopped), Epoch(1), &empty_seat(None), false), None);
    }
}
