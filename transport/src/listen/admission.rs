//! Places for connections that have proven nothing yet: how many there may be, and who comes next.
//!
//! ```text
//! accepted ─▶ waiting ─▶ worked on (TLS, WebSocket, proof) ─▶ proven, and out of here
//!    └─▶ turned away, when its address waits with more than a fair share
//! ```
//!
//! A waiting connection costs a socket and a few hundred bytes, one that is worked on a few ten thousand: so many may
//! wait and few are worked on, and addresses take turns. An address may wait with no more connections than there are free
//! places (the dynamic threshold of shared switch buffers), so however many one takes, a newcomer always finds room. It
//! knows nothing of TLS or proofs, and remembers of an address no more than how often it lately failed.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How many connections may be unproven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// In all, with those that wait. Each costs a file descriptor.
    pub pending: usize,
    /// Worked on at once, in all.
    pub active: usize,
    /// Worked on at once for one address (an IPv6 address is its /64).
    pub active_per_address: usize,
}

impl Default for AdmissionLimits {
    /// 16,384 in all; 1,024 worked on (some 30 MB with TLS); 64 of one address: at a round trip of 100 ms that lets 150
    /// nodes a second in from behind one NAT or balancer, and a silent address keeps at most 64 places for 5 s.
    fn default() -> Self {
        Self { pending: 16_384, active: 1024, active_per_address: 64 }
    }
}

/// Connections worked on at once for an address that lately failed to prove itself: with the pause before each answer
/// that is five guesses a second, and honest nodes behind the same address still come in.
const ACTIVE_OF_SUSPECT: usize = 16;
/// Pause before a wrong proof is answered, by how many the address has lately given. The longest leaves the dialler time to
/// hear the answer before its own deadline of 5 s.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];
/// After so long without a failure an address's count is halved.
const FORGIVEN_AFTER: Duration = Duration::from_secs(15);
/// Addresses whose failures are remembered; then the oldest is forgotten.
const REMEMBERED: usize = 4096;
/// How far the turns of newcomers stand before all others: among themselves they come in order of arrival.
const FIRST: i64 = i64::MAX / 2;
/// Shortest time between two lines in the log about connections that were turned away.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The places of one or several listeners. Clones share them.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: AdmissionLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: HashMap<IpAddr, Address>,
    /// Addresses with connections that wait and may be worked on, each once; the lowest number is next.
    turns: BTreeMap<i64, IpAddr>,
    suspects: HashMap<IpAddr, Suspect>,
    pending: usize,
    active: usize,
    newest: i64,
    turned_away: u64,
    logged: Option<Instant>,
}

/// Unproven connections of one address.
#[derive(Debug, Default)]
struct Address {
    active: usize,
    waiting: BTreeMap<i64, oneshot::Sender<()>>,
    /// Where it stands among the turns.
    queued: Option<i64>,
}

/// An address that failed to prove itself.
#[derive(Debug)]
struct Suspect {
    failures: usize,
    last: Instant,
}

impl Suspect {
    fn recent(&self) -> usize {
        let halvings = self.last.elapsed().as_secs() / FORGIVEN_AFTER.as_secs();
        u32::try_from(halvings).ok().and_then(|shift| self.failures.checked_shr(shift)).unwrap_or(0)
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(AdmissionLimits::default())
    }
}

impl Admission {
    /// Places within these limits, each at least one.
    pub fn new(limits: AdmissionLimits) -> Self {
        let AdmissionLimits { pending, active, active_per_address } = limits;
        let limits = AdmissionLimits {
            pending: pending.max(1),
            active: active.max(1),
            active_per_address: active_per_address.max(1),
        };
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// A place for a connection from this address; `None` when it is to be turned away.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Ticket> {
        let address = network(address);
        let mut state = self.0.state();
        let free = self.0.limits.pending.saturating_sub(state.pending);
        let held = state.addresses.get(&address).map_or(0, |held| held.active + held.waiting.len());
        if held >= free {
            state.turn_away(address);
            return None;
        }
        state.pending += 1;
        state.newest += 1;
        let id = state.newest;
        let (turn, wait) = oneshot::channel();
        state.addresses.entry(address).or_default().waiting.insert(id, turn);
        state.queue(address, &self.0.limits);
        state.grant(&self.0.limits);
        Some(Ticket { shared: Arc::clone(&self.0), address, id, turn: Some(wait) })
    }

    /// Whether so many are unproven that a client whose address may be borrowed gets no place.
    pub(crate) fn is_crowded(&self) -> bool {
        self.0.state().pending >= self.0.limits.active.div_ceil(2)
    }

    /// How many connections are unproven now: in all, and worked on.
    #[cfg(test)]
    fn count(&self) -> (usize, usize) {
        let state = self.0.state();
        (state.pending, state.active)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Connections of this address that may be worked on at once.
    fn share(&self, address: IpAddr, limits: &AdmissionLimits) -> usize {
        let suspect = self.suspects.get(&address).is_some_and(|suspect| suspect.recent() > 0);
        if suspect { limits.active_per_address.min(ACTIVE_OF_SUSPECT) } else { limits.active_per_address }
    }

    /// Gives the address a turn when it has use for one. One of which nothing is worked on goes before those that have
    /// something: a newcomer does not wait behind a crowd.
    fn queue(&mut self, address: IpAddr, limits: &AdmissionLimits) {
        let share = self.share(address, limits);
        let Some(held) = self.addresses.get_mut(&address) else { return };
        if held.queued.is_some() || held.waiting.is_empty() || held.active >= share {
            return;
        }
        self.newest += 1;
        let turn = if held.active == 0 { self.newest - FIRST } else { self.newest };
        held.queued = Some(turn);
        self.turns.insert(turn, address);
    }

    /// Lets connections be worked on while there is room.
    fn grant(&mut self, limits: &AdmissionLimits) {
        while self.active < limits.active
            && let Some((_, address)) = self.turns.pop_first()
        {
            let Some(held) = self.addresses.get_mut(&address) else { continue };
            held.queued = None;
            let Some((_, turn)) = held.waiting.pop_first() else { continue };
            held.active += 1;
            self.active += 1;
            // A connection that is just being given up gives its turn back when its ticket is dropped.
            let _ = turn.send(());
            self.queue(address, limits);
        }
    }

    fn leave(&mut self, address: IpAddr, id: i64, limits: &AdmissionLimits) {
        let Some(held) = self.addresses.get_mut(&address) else { return };
        self.pending -= 1;
        if held.waiting.remove(&id).is_none() {
            held.active -= 1;
            self.active -= 1;
        }
        if held.waiting.is_empty() {
            if let Some(turn) = held.queued.take() {
                self.turns.remove(&turn);
            }
            if held.active == 0 {
                self.addresses.remove(&address);
            }
        }
        self.queue(address, limits);
        self.grant(limits);
    }

    /// Counts a wrong proof; says how long to wait before it is answered.
    fn failed(&mut self, address: IpAddr) -> Duration {
        if self.suspects.len() >= REMEMBERED && !self.suspects.contains_key(&address) {
            self.suspects.retain(|_, suspect| suspect.recent() > 0);
            let oldest = self.suspects.iter().min_by_key(|(_, suspect)| suspect.last).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| self.suspects.len() >= REMEMBERED) {
                self.suspects.remove(&oldest);
            }
        }
        let now = Instant::now();
        let suspect = self.suspects.entry(address).or_insert(Suspect { failures: 0, last: now });
        let before = suspect.recent();
        *suspect = Suspect { failures: before + 1, last: now };
        PAUSES[before.min(PAUSES.len() - 1)]
    }

    fn turn_away(&mut self, address: IpAddr) {
        self.turned_away += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_EVERY) {
            self.logged = Some(Instant::now());
            tracing::warn!(
                %address, turned_away = self.turned_away, unproven = self.pending,
                "connections were turned away: too many from this address have not proven themselves; \
                 if it is a balancer or NAT, raise limits.pending_per_address"
            );
        }
    }
}

/// One connection's place. Dropped, the place is free.
#[derive(Debug)]
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    address: IpAddr,
    id: i64,
    turn: Option<oneshot::Receiver<()>>,
}

impl Ticket {
    /// Waits until the connection may be worked on. Cancel safe.
    pub(crate) async fn turn(&mut self) {
        if let Some(turn) = &mut self.turn {
            // The sender is dropped only with its turn given.
            let _ = turn.await;
            self.turn = None;
        }
    }

    /// The connection gave a wrong proof: how long to wait before it is told so.
    pub(crate) fn failed(&self) -> Duration {
        self.shared.state().failed(self.address)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.state().leave(self.address, self.id, &self.shared.limits);
    }
}

/// Whom an address stands for: an IPv6 host commands its whole /64.
fn network(address: IpAddr) -> IpAddr {
    const HOST: u128 = (1 << 64) - 1;
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !HOST).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
