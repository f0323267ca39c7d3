//! A QUIC session outlives what ends a TCP one. Needs root, iproute2 and nftables.

use crate::netns::Net;
use crate::netns_shore::{Plan, Shore};
use crate::process::wait_for;
use std::path::Path;
use std::time::Instant;

const WORKER: u8 = 2;
/// Rate of the way to the worker: the archive takes some four seconds.
const RATE: &str = "20mbit";
const ARCHIVE: usize = 10 * 1024 * 1024;
/// Bytes after which the network changes.
const CHANGE_AT: u64 = 2 * 1024 * 1024;
/// A session that does not live is noticed within a few seconds.
const TIMERS: &str = "[timers]\nping_every = \"1s\"\nping_deadline = \"750ms\"\nsession_lost_after = \"6s\"\n";

/// An app whose archive is large.
fn large_app(folder: &Path) {
    let body: Vec<u8> = (0..ARCHIVE).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect();
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("body"), body).unwrap();
    let script = "#!/bin/sh\nexec sleep 3600\n";
    std::fs::write(folder.join("run.sh"), script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.join("run.sh"), mode).unwrap();
    std::fs::write(
        folder.join("app.toml"),
        "name = \"large\"\nruntime = \"exec\"\n[flows.main]\nentry = [\"./run.sh\"]\n",
    )
    .unwrap();
}

/// Something happens to the network while an archive is on its way to the worker: the same session carries it to its end,
/// and goes on.
fn outlives(test: &str, change: fn(&Net)) -> Option<Shore> {
    let net = Net::new(test, 2)?;
    net.shape(WORKER, RATE);
    let shore = Shore::start_in(net, Plan { common: TIMERS, ..Plan::pair("quic") });
    let folder = shore.dir.path().join("large");
    large_app(&folder);
    let before = shore.received().unwrap();
    shore.run(&folder, "large");
    wait_for("the transfer to begin", || match shore.received()? - before {
        received if received > CHANGE_AT => Ok(()),
        received => Err(format!("{received} bytes so far")),
    });
    assert!(!shore.workers[0].log().contains("an archive was received"), "the transfer is over too soon");
    change(&shore.net);
    let changed = Instant::now();
    shore.workers[0].wait_log(&["an archive was received"]);
    println!("{test}: the transfer ended {:?} after the change", changed.elapsed());
    shore.tasks(0);
    // Long enough for either side to miss the pings of a dead session.
    wait_for("the timers to have their say", || {
        if changed.elapsed().as_secs() > 14 { Ok(()) } else { Err(String::new()) }
    });
    assert_eq!(shore.in_state(0, "ready"), Ok(()));
    assert_eq!((shore.sessions(), shore.losses()), (1, 0), "another session: {}", shore.workers[0].log());
    Some(shore)
}

/// The worker's only address is replaced by another.
#[test]
fn a_quic_session_moves_to_another_address() {
    let shore = outlives("a_quic_session_moves_to_another_address", |net| net.renumber(WORKER, 2, 77));
    // It did not wait for something to send.
    if let Some(shore) = shore {
        shore.workers[0].wait_log(&["the QUIC connection moves along", "10.9.2.77"]);
    }
}

/// A part of the way takes only small packets from now on, and drops the larger ones without a word.
#[test]
fn a_quic_session_fits_through_a_narrow_way() {
    drop(outlives("a_quic_session_fits_through_a_narrow_way", |net| net.narrow(WORKER, 1300)));
}
