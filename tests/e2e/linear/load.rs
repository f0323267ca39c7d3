//! Clients that read and write a few keys through all nodes, and write down what they asked and what they were told.

use super::door::{Door, Headers, Lost, Reply};
use super::history::{Answer, Record, Wish};
use crate::process::{PATIENCE, wait_for};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// What every key begins with.
pub(crate) const PREFIX: &str = "lin/";
/// How long a client waits for one answer: less than the cluster would think about it, so that it also leaves questions
/// behind that are answered later.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// How long a client repeats a write.
const REPEATS: Duration = Duration::from_secs(8);
/// Every so manieth write is not repeated, so that its outcome may stay unknown.
const LEFT: u64 = 4;

/// How the clients go about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) clients: usize,
    /// Keys in use at a time.
    pub(crate) keys: usize,
    /// Operations after which another key takes the place of one, so that no search gets long.
    pub(crate) per_key: usize,
    /// Unknown outcomes after which one does.
    pub(crate) unknown_per_key: usize,
    /// Pause of a client between two operations.
    pub(crate) pause: Duration,
    pub(crate) seed: u64,
}

/// A key in use.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u32,
    used: usize,
    unknown: usize,
}

/// What all clients share.
pub(crate) struct Book {
    plan: Plan,
    start: Instant,
    /// The next place in the order of all beginnings and ends.
    place: AtomicU64,
    value: AtomicU64,
    slots: Mutex<Vec<Slot>>,
    next_key: AtomicU64,
    records: Mutex<Vec<Record>>,
    done: AtomicUsize,
    stop: AtomicBool,
}

impl Book {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        let slots = (0..plan.keys).map(|key| Slot { key: u32::try_from(key).unwrap(), ..Slot::default() }).collect();
        Arc::new(Self {
            plan,
            start: Instant::now(),
            place: AtomicU64::new(0),
            value: AtomicU64::new(1),
            slots: Mutex::new(slots),
            next_key: AtomicU64::new(plan.keys as u64),
            records: Mutex::default(),
            done: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        })
    }

    pub(crate) fn place(&self) -> u64 {
        self.place.fetch_add(1, Ordering::SeqCst)
    }

    /// A value that nobody else writes.
    pub(crate) fn value(&self) -> u64 {
        self.value.fetch_add(1, Ordering::SeqCst)
    }

    fn key(&self, dice: &mut Dice) -> (usize, u32) {
        let slot = dice.below(self.plan.keys);
        (slot, self.slots.lock().unwrap()[slot].key)
    }

    pub(crate) fn write_down(&self, record: Record) {
        // What was answered well counts as progress.
        if !matches!(record.answer, Answer::NotDone | Answer::Unknown) {
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        self.records.lock().unwrap().push(record);
    }

    fn count(&self, slot: usize, key: u32, unknown: bool) {
        let mut slots = self.slots.lock().unwrap();
        let place = &mut slots[slot];
        if place.key != key {
            return;
        }
        place.used += 1;
        place.unknown += usize::from(unknown);
        if place.used >= self.plan.per_key || place.unknown >= self.plan.unknown_per_key {
            let next = self.next_key.fetch_add(1, Ordering::SeqCst);
            *place = Slot { key: u32::try_from(next).unwrap(), ..Slot::default() };
        }
    }

    /// Operations that were answered well so far.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Since the start.
    pub(crate) fn at(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits until so many more operations were answered well.
    pub(crate) fn wait_more(&self, wanted: usize) {
        let from = self.done();
        wait_for(&format!("{wanted} more operations"), || match self.done() - from {
            more if more >= wanted => Ok(()),
            more => Err(format!("{more} so far")),
        });
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }
}

/// The clients, running.
pub(crate) struct Load {
    pub(crate) book: Arc<Book>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(runtime: &Runtime, plan: Plan, sockets: &[PathBuf]) -> Self {
        let book = Book::new(plan);
        let clients = (0..plan.clients).map(|number| {
            let client = Client::new(Arc::clone(&book), number, sockets);
            runtime.spawn(client.run())
        });
        let clients = clients.collect();
        Self { book, clients }
    }

    /// Lets the clients finish what they are at.
    pub(crate) fn stop(self, runtime: &Runtime) -> Arc<Book> {
        self.book.stop.store(true, Ordering::SeqCst);
        runtime.block_on(async {
            for client in self.clients {
                tokio::time::timeout(PATIENCE, client).await.expect("a client ends").expect("a client does not panic");
            }
        });
        self.book
    }
}

/// Somebody who does one thing after the other.
pub(crate) struct Client {
    book: Arc<Book>,
    number: usize,
    doors: Vec<Door>,
    dice: Dice,
    /// What it saw of a key last: value and revision.
    seen: HashMap<u32, Option<(u64, u64)>>,
}

impl Client {
    pub(crate) fn new(book: Arc<Book>, number: usize, sockets: &[PathBuf]) -> Self {
        let dice = Dice(book.plan.seed.wrapping_add(number as u64 * 7919));
        let doors = sockets.iter().map(|socket| Door::new(socket)).collect();
        Self { book, number, doors, dice, seen: HashMap::new() }
    }

    async fn run(mut self) {
        while !self.book.stop.load(Ordering::SeqCst) {
            let (slot, key) = self.book.key(&mut self.dice);
            let known = self.seen.get(&key).copied();
            let wish = match (self.dice.below(100), known) {
                (0..40, _) => Wish::Get,
                (40..60, _) => Wish::Put(self.book.value()),
                (60..90, Some(known)) => Wish::Cas(known.map(|(value, _)| value), self.book.value()),
                (90..100, _) => Wish::Delete,
                (_, _) => Wish::Get,
            };
            let node = self.dice.below(self.doors.len());
            let answer = self.act(node, key, wish).await;
            self.book.count(slot, key, answer == Answer::Unknown && wish != Wish::Get);
            tokio::time::sleep(self.book.plan.pause).await;
        }
    }

    /// Does something, and writes it down.
    pub(crate) async fn act(&mut self, node: usize, key: u32, wish: Wish) -> Answer {
        let path = format!("/v1/kv/{PREFIX}{key}");
        self.act_on(node, key, wish, &path).await
    }

    /// Reads what a node holds, and writes it down as if it were what the cluster holds: the fault that the check must see.
    pub(crate) async fn read_stale(&mut self, node: usize, key: u32) -> Answer {
        let path = format!("/v1/kv/{PREFIX}{key}?consistency=local");
        self.act_on(node, key, Wish::Get, &path).await
    }

    async fn act_on(&mut self, node: usize, key: u32, wish: Wish, path: &str) -> Answer {
        let (invoked, at) = (self.book.place(), self.book.at());
        let known = self.seen.get(&key).copied().flatten();
        let (method, condition, body) = match wish {
            Wish::Get => ("GET", None, String::new()),
            Wish::Put(value) => ("PUT", None, value.to_string()),
            Wish::Cas(None, value) => ("PUT", Some(("if-none-match", "*".to_owned())), value.to_string()),
            Wish::Cas(Some(_), value) => {
                let (_, revision) = known.expect("a value to compare with has been seen");
                ("PUT", Some(("if-match", revision.to_string())), value.to_string())
            }
            Wish::Delete => ("DELETE", None, String::new()),
        };
        let mut headers: Vec<(&str, String)> = condition.into_iter().collect();
        let (node, reply) = match wish {
            Wish::Get => (node, self.doors[node].ask(ATTEMPT, (method, path), &headers, body).await),
            _ => {
                headers.push(("x-longshore-request-id", self.dice.request()));
                self.write(node, (method, path), &mut headers, &body).await
            }
        };
        let (answer, revision) = told(wish, reply);
        match answer {
            Answer::Read(value) => drop(self.seen.insert(key, value.zip(revision))),
            Answer::Written { .. } => drop(self.seen.insert(key, wish.value().zip(revision))),
            Answer::Deleted { .. } => drop(self.seen.insert(key, None)),
            Answer::Conflict | Answer::NotDone | Answer::Unknown => drop(self.seen.remove(&key)),
        }
        let returned = self.book.place();
        let client = self.number;
        self.book.write_down(Record { client, node, key, wish, answer, revision, invoked, returned, at });
        answer
    }

    /// Writes; most writes are repeated at other nodes until somebody knows what came of them.
    async fn write(
        &mut self,
        mut node: usize,
        line: (&str, &str),
        headers: &mut Vec<(&'static str, String)>,
        body: &str,
    ) -> (usize, Result<Reply, Lost>) {
        let deadline = Instant::now() + REPEATS;
        let repeats = self.dice.below(LEFT as usize) != 0;
        let mut doubt = false;
        loop {
            let reply = self.doors[node].ask(ATTEMPT, line, headers, body.to_owned()).await;
            let settled = match &reply {
                Ok(reply) => reply.status < 500 && reply.status != 429,
                Err(_) => false,
            };
            if settled {
                return (node, reply);
            }
            doubt |= match &reply {
                Ok(reply) => reply.json()["outcome"] != "not_done",
                Err(lost) => *lost == Lost::Unanswered,
            };
            if !repeats || Instant::now() >= deadline {
                // One attempt that was surely not made takes the doubt about another away from nobody.
                return (node, if doubt { Err(Lost::Unanswered) } else { Err(Lost::Unsent) });
            }
            if !headers.iter().any(|(name, _)| *name == REPEAT) {
                headers.push((REPEAT, "yes".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            node = self.dice.below(self.doors.len());
        }
    }
}

const REPEAT: &str = "x-longshore-repeat";

/// What an answer says.
fn told(wish: Wish, reply: Result<Reply, Lost>) -> (Answer, Option<u64>) {
    let reply = match reply {
        Ok(reply) => reply,
        Err(Lost::Unsent) => return (Answer::NotDone, None),
        Err(Lost::Unanswered) => return (Answer::Unknown, None),
    };
    let value = || std::str::from_utf8(&reply.body).unwrap().parse::<u64>().expect("the value is one of ours");
    let body = if wish == Wish::Get { serde_json::Value::Null } else { reply.json() };
    let answer = match (wish, reply.status) {
        (Wish::Get, 200) => Answer::Read(Some(value())),
        (Wish::Get, 404) => Answer::Read(None),
        (Wish::Put(_) | Wish::Cas(..), 200 | 201) => Answer::Written { created: body["created"] == true },
        (Wish::Delete, 200) => Answer::Deleted { existed: body["existed"] == true },
        (Wish::Cas(..), 409) if body["code"] == "conflict" => Answer::Conflict,
        _ if reply.json()["outcome"] == "not_done" => Answer::NotDone,
        _ => Answer::Unknown,
    };
    let changed = matches!(answer, Answer::Read(Some(_)) | Answer::Written { .. } | Answer::Deleted { existed: true });
    (answer, reply.revision.filter(|_| changed))
}

/// Numbers that look random, the same ones for a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn request(&mut self) -> String {
        ulid::Ulid::from(u128::from(self.next()) << 64 | u128::from(self.next())).to_string()
    }
}

/// Headers of nobody.
pub(crate) const NONE: Headers<'static> = &[];
