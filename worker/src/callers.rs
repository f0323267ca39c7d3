//! Takes calls of control nodes, where this worker has listeners: accept → prove → a line for the link. Without a listener,
//! the default, there is no socket and none of this runs.
//!
//! A call while the worker is connected is declined: it looks for nobody then.

use crate::link::{Connector, Line, LinkState, Relays};
use crate::vital::Vital;
use longshore_transport::{
    Identity, Keyring, ListenError, ListenOptions, Listener, Pending, Session, SessionOptions, answer,
};
use longshore_wire::{ClusterUri, Code, Failure};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

/// Calls that wait for the link. It takes them at once or not at all.
const WAITING: usize = 1;

/// Where a worker listens, and what it tells the cluster of it.
#[derive(Debug)]
pub struct Listen {
    /// The listener.
    pub options: ListenOptions,
    /// Under which address control nodes find it.
    pub advertise: Option<ClusterUri>,
}

/// Listeners that are bound.
pub(crate) struct Doors {
    listeners: Vec<Listener>,
    pub(crate) published: Vec<ClusterUri>,
}

impl Doors {
    pub(crate) async fn open(listen: Vec<Listen>) -> Result<Self, ListenError> {
        let mut doors = Self { listeners: Vec::new(), published: Vec::new() };
        for Listen { options, advertise } in listen {
            let listener = Listener::bind(options).await?;
            tracing::info!(address = %listener.local_addr(), "control nodes can dial this worker");
            doors.listeners.push(listener);
            doors.published.extend(advertise);
        }
        Ok(doors)
    }

    /// Serves the listeners; the receiver gives the lines. It closes at once when there is no listener.
    pub(crate) fn serve(self, porter: Porter, tracker: &TaskTracker, vital: &Vital) -> mpsc::Receiver<Line> {
        let (lines, calls) = mpsc::channel(WAITING);
        let porter = Arc::new(porter);
        for listener in self.listeners {
            let serving = run(listener, Arc::clone(&porter), lines.clone(), tracker.clone());
            let stop = vital.stop.clone();
            tracker.spawn(vital.clone().watch("listener", async move {
                stop.run_until_cancelled(serving).await;
            }));
        }
        calls
    }
}

/// What proving needs.
pub(crate) struct Porter {
    identity: Identity,
    keyring: Keyring,
    session: SessionOptions,
    relays: Arc<Relays>,
    state: watch::Receiver<LinkState>,
}

impl Porter {
    /// As who dials out.
    pub(crate) fn of(connector: &Connector, state: watch::Receiver<LinkState>) -> Self {
        let (identity, keyring) = (connector.identity.clone(), connector.keyring.clone());
        Self { identity, keyring, session: connector.session.clone(), relays: Arc::clone(&connector.relays), state }
    }
}

async fn run(listener: Listener, porter: Arc<Porter>, lines: mpsc::Sender<Line>, tracker: TaskTracker) {
    loop {
        match listener.accept().await {
            // Bounded by the listener's own limit of connections that have not proven themselves.
            Ok(pending) => drop(tracker.spawn(receive(pending, Arc::clone(&porter), lines.clone()))),
            Err(error) => {
                tracing::error!("the listener {} has failed: {error}", listener.local_addr());
                return;
            }
        }
    }
}

async fn receive(pending: Pending, porter: Arc<Porter>, lines: mpsc::Sender<Line>) {
    let link = match pending.upgrade().await {
        Ok(link) => link,
        Err(error) => return tracing::debug!(%error, "a connection came to nothing"),
    };
    let proven = match answer(link, &porter.identity, &porter.keyring).await {
        Ok(proven) => proven,
        // It was logged who was refused, and why.
        Err(error) => return tracing::debug!(%error, "a caller did not prove itself"),
    };
    let (caller, remote) = (proven.peer.node, proven.peer.remote);
    let (session, inbound) = Session::start_with(proven, porter.session.clone(), Arc::clone(&porter.relays) as _);
    if porter.state.borrow().status.is_some() {
        session.close(Failure::new(Code::Conflict, "this worker is connected already"));
        return;
    }
    tracing::info!(%caller, remote = remote.map(tracing::field::display), "a control node has dialled this worker");
    // A line that finds no place says goodbye as it is dropped.
    drop(lines.try_send(Line::dialled_by(session, inbound)));
}
