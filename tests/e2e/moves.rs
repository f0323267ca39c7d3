//! Planned moves under load: workers change their owners, and no request notices.

use crate::cluster::{Cluster, Reach};
use crate::process::wait_for;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const API_PORT: u16 = 8138;

/// Requests without a pause, from several sides.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Asks every worker in turn through every one of these control nodes.
    fn start(apis: &[IpAddr], workers: &[String]) -> Self {
        let (stop, done, failed) = (Arc::default(), Arc::default(), Arc::default());
        let mut load = Self { stop, done, failed, threads: Vec::new() };
        for api in apis.iter().flat_map(|api| [*api; 2]) {
            let (stop, done, failed) = (Arc::clone(&load.stop), Arc::clone(&load.done), Arc::clone(&load.failed));
            let workers = workers.to_vec();
            load.threads.push(thread::spawn(move || {
                for (number, worker) in workers.iter().cycle().enumerate() {
                    if stop.load(SeqCst) {
                        return;
                    }
                    match ask(api, worker, number) {
                        Ok(()) => drop(done.fetch_add(1, SeqCst)),
                        Err(why) => failed.lock().unwrap().push(format!("{worker} through {api}: {why}")),
                    }
                }
            }));
        }
        load
    }

    /// Waits for so many more answers.
    fn more(&self, count: usize) {
        let wanted = self.done.load(SeqCst) + count;
        wait_for("more answers", || {
            let done = self.done.load(SeqCst);
            if done >= wanted { Ok(()) } else { Err(format!("{done} of {wanted}; {:?}", self.failed.lock().unwrap())) }
        });
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let failed = self.failed.lock().unwrap();
        let done = self.done.load(SeqCst);
        assert!(failed.is_empty(), "{} of {} requests failed: {failed:#?}", failed.len(), failed.len() + done);
        println!("{done} requests, none failed");
    }
}

fn ask(api: IpAddr, worker: &str, number: usize) -> Result<(), String> {
    let body = format!(r#"{{"class":"echo","body":"number-{number}.","timeout_ms":20000}}"#);
    let head = format!("POST /v1/nodes/{worker}/request HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    let asking = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((api, API_PORT))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asking().map_err(|error| error.to_string())?;
    match answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("number-{number}.")) {
        true => Ok(()),
        false => Err(answer),
    }
}

/// Stops one control node under load, and starts it again: its workers move away and back.
fn a_control_node_goes_and_comes(choose: impl Fn(&Cluster) -> usize) {
    let mut cluster = Cluster::start(6, Reach::All);
    cluster.wait_spread(3);
    let victim = choose(&cluster);
    let others: Vec<usize> = (0..3).filter(|index| *index != victim).collect();
    let apis: Vec<IpAddr> = others.iter().map(|index| cluster.subnet.host(u8::try_from(*index).unwrap() + 1)).collect();
    let workers: Vec<String> = cluster.workers.iter().map(|worker| worker.name.clone()).collect();
    let load = Load::start(&apis, &workers);
    load.more(100);
    assert!(cluster.controls[victim].terminate().success());
    load.more(200);
    let owners = || -> Result<BTreeSet<String>, String> {
        let records = cluster.worker_records(others[0])?;
        Ok(records.iter().filter_map(|node| node["owner_name"].as_str().map(str::to_owned)).collect())
    };
    assert!(!owners().unwrap().contains(&cluster.controls[victim].name), "it left in order, before it stopped");
    cluster.controls[victim].start(&[]);
    cluster.wait_spread(3);
    load.more(200);
    load.end();
}

#[test]
fn no_request_fails_when_a_follower_is_stopped_and_comes_back() {
    a_control_node_goes_and_comes(|cluster| {
        let leader = wait_for("a leader", || cluster.leader_seen_by(0));
        (0..3).find(|index| *index != leader).unwrap()
    });
}

#[test]
fn no_request_fails_when_the_leader_is_stopped_and_comes_back() {
    a_control_node_goes_and_comes(|cluster| wait_for("a leader", || cluster.leader_seen_by(0)));
}
