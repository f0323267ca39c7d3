//! ZooKeeper as a peer: three nodes of the installed program, and its own protocol by hand.
//!
//! A linearizable read is a `sync` and a `getData` behind it, sent together: a server answers one session in order.

use super::line::Line;
use super::node::Node;
use super::{NODES, VALUE, What, key};
use crate::commands::bench::children::free_address;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::path::Path;

/// Where the distribution has it.
const JAR: &str = "/usr/share/java/zookeeper.jar";
const ADVICE: &str = "apt-get install zookeeperd";

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const SYNC: i32 = 9;
/// The error of a path that is not there.
const NO_NODE: i32 = -101;
/// The error of a path that is there already.
const NODE_EXISTS: i32 = -110;
/// Number of a message that nobody asked for: a ping's or a watch's.
const UNASKED: i32 = -1;
/// Every right.
const ALL: i32 = 31;
/// A session that is idle for so long ends; idle clients shall outlive every measurement.
const SESSION_MS: i32 = 3_600_000;

/// Three nodes that know each other; none runs yet.
pub(super) fn nodes(folder: &Path) -> anyhow::Result<Vec<Node>> {
    anyhow::ensure!(Path::new(JAR).exists(), "ZooKeeper is not installed ({JAR} is not there): {ADVICE}");
    let mut places = Vec::new();
    let mut servers = String::new();
    for number in 1..=NODES {
        let (clients, peers, election) = (free_address()?, free_address()?, free_address()?);
        servers.push_str(&format!("server.{number}=127.0.0.1:{}:{}\n", peers.port(), election.port()));
        places.push((number, clients));
    }
    let mut nodes = Vec::new();
    for (number, clients) in places {
        let place = folder.join(format!("zookeeper-{number}"));
        std::fs::create_dir(&place)?;
        std::fs::write(place.join("myid"), number.to_string())?;
        // The limits of connections and sessions are for this benchmark; all else is the distribution's own.
        let config = format!(
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPortAddress=127.0.0.1\nclientPort={}\n\
             maxClientCnxns=0\nmaxSessionTimeout={SESSION_MS}\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n{servers}",
            place.display(),
            clients.port(),
        );
        let file = place.join("zoo.cfg");
        std::fs::write(&file, config)?;
        let log4j = "log4j.rootLogger=ERROR, CONSOLE\nlog4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender\n\
                     log4j.appender.CONSOLE.layout=org.apache.log4j.SimpleLayout\n";
        std::fs::write(place.join("log4j.properties"), log4j)?;
        let arguments = vec![
            "-cp".into(),
            format!("{}:{JAR}", place.display()).into(),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain".into(),
            file.into(),
        ];
        let log = folder.join(format!("zookeeper-{number}.log"));
        nodes.push(Node { program: "java", arguments, advice: ADVICE, log, address: clients, child: None });
    }
    Ok(nodes)
}

/// One client with its session.
pub(super) struct Client {
    line: Line,
    out: Vec<u8>,
    last: i32,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let mut client = Self { line: Line::connect(address).await?, out: Vec::new(), last: 0 };
        let password = [0; 16];
        client.begin();
        client.int(0);
        client.long(0);
        client.int(SESSION_MS);
        client.long(0);
        client.bytes(&password);
        client.out.push(0);
        client.end(0);
        client.line.send(&client.out).await?;
        let answer = client.message().await?;
        // Protocol, timeout, session.
        let timeout = answer.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        anyhow::ensure!(timeout.is_some_and(|timeout| timeout > 0), "ZooKeeper gave no session");
        Ok(client)
    }

    /// One operation.
    pub(super) async fn run(&mut self, what: What, number: u32) -> anyhow::Result<()> {
        let path = format!("/{}", key(number).replace('/', "-"));
        self.out.clear();
        match what {
            What::Put => {
                self.set(&path);
                match self.ask(0).await? {
                    NO_NODE => self.create(&path).await,
                    error => fine(error),
                }
            }
            What::Get => {
                self.request(SYNC, |client| client.bytes(path.as_bytes()));
                self.get(&path);
                self.line.send(&self.out).await?;
                fine(self.answer(0).await?)?;
                fine(self.answer(VALUE).await?)
            }
            What::GetLocal => {
                self.get(&path);
                fine(self.ask(VALUE).await?)
            }
            What::Livez => anyhow::bail!("ZooKeeper is not asked for that"),
        }
    }

    async fn create(&mut self, path: &str) -> anyhow::Result<()> {
        self.out.clear();
        self.request(CREATE, |client| {
            client.bytes(path.as_bytes());
            client.bytes(&[b'x'; VALUE]);
            client.int(1);
            client.int(ALL);
            client.bytes(b"world");
            client.bytes(b"anyone");
            client.int(0);
        });
        match self.ask(0).await? {
            NODE_EXISTS => Ok(()),
            error => fine(error),
        }
    }

    fn set(&mut self, path: &str) {
        self.request(SET_DATA, |client| {
            client.bytes(path.as_bytes());
            client.bytes(&[b'x'; VALUE]);
            client.int(-1);
        });
    }

    fn get(&mut self, path: &str) {
        self.request(GET_DATA, |client| {
            client.bytes(path.as_bytes());
            client.out.push(0);
        });
    }

    /// Sends what is written; the error of the answer.
    async fn ask(&mut self, least: usize) -> anyhow::Result<i32> {
        self.line.send(&self.out).await?;
        self.answer(least).await
    }

    /// The next answer's error; one without error has at least so many bytes.
    async fn answer(&mut self, least: usize) -> anyhow::Result<i32> {
        /// Number, transaction, error.
        const HEAD: usize = 16;
        loop {
            let answer = self.message().await?;
            let int =
                |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
            let (number, error) = int(0).zip(int(12)).context("ZooKeeper's answer is too short")?;
            if number > UNASKED {
                anyhow::ensure!(error != 0 || answer.len() >= HEAD + least, "ZooKeeper's answer lacks the value");
                return Ok(error);
            }
        }
    }

    /// A message without its length.
    async fn message(&mut self) -> anyhow::Result<Vec<u8>> {
        const LENGTH: usize = 4;
        let length = u32::from_be_bytes(self.line.at_least(LENGTH).await?.try_into()?) as usize;
        let message = self.line.at_least(LENGTH + length).await?.get(LENGTH..).unwrap_or_default().to_vec();
        self.line.taken(LENGTH + length);
        Ok(message)
    }

    fn request(&mut self, kind: i32, content: impl FnOnce(&mut Self)) {
        let start = self.begin();
        self.last = if self.last == i32::MAX { 1 } else { self.last + 1 };
        self.int(self.last);
        self.int(kind);
        content(self);
        self.end(start);
    }

    /// Leaves room for the length.
    fn begin(&mut self) -> usize {
        let start = self.out.len();
        self.int(0);
        start
    }

    fn end(&mut self, start: usize) {
        let length = (self.out.len() - start - 4) as i32;
        if let Some(place) = self.out.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn int(&mut self, number: i32) {
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    fn long(&mut self, number: i64) {
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.int(bytes.len() as i32);
        self.out.extend_from_slice(bytes);
    }
}

fn fine(error: i32) -> anyhow::Result<()> {
    anyhow::ensure!(error == 0, "ZooKeeper answered with error {error}");
    Ok(())
}

/// Whether the node at this address leads.
pub(super) async fn leads(address: SocketAddr) -> anyhow::Result<bool> {
    let mut line = Line::connect(address).await?;
    line.send(b"srvr").await?;
    // It ends the connection behind its answer.
    while line.more().await.is_ok() {}
    Ok(String::from_utf8_lossy(line.arrived()).contains("Mode: leader"))
}
