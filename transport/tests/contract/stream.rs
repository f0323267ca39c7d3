//! What every carrier promises of its bytes.

use crate::harness::{pair, transport_of};
use longshore_transport::{Carrier, Io};
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

on_every_carrier!(
    bulk_arrives_whole_both_ways,
    a_flush_sends,
    a_shutdown_is_the_end_behind_the_last_byte,
    a_dropped_end_is_seen,
    a_writer_waits_for_its_reader,
    both_ends_know_the_link,
);

const BULK: usize = 8 * 1024 * 1024;

/// Bytes that show a loss, a repeat or a swap of anything but whole megabytes.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect()
}

async fn bulk_arrives_whole_both_ways(carrier: Carrier) {
    let (a, b) = pair(carrier).await;
    let (sent, one, other) = (pattern(BULK), exchange(a.io), exchange(b.io));
    let (one, other) = tokio::join!(one, other);
    assert!(one == sent && other == sent);
}

/// Writes the pattern in pieces of odd sizes while another task reads as much: each must keep its own waker.
async fn exchange(io: Box<dyn Io>) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(io);
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        let bytes = pattern(BULK);
        let (mut rest, mut size) = (&bytes[..], 1);
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(size.min(rest.len()));
            writer.write_all(piece).await.unwrap();
            rest = tail;
            size = size * 7 % 300_007 + 1;
        }
        writer.flush().await.unwrap();
        writer
    });
    let mut got = vec![0; BULK];
    reader.read_exact(&mut got).await.unwrap();
    writing.join_all().await;
    got
}

async fn a_flush_sends(carrier: Carrier) {
    let (mut a, mut b) = pair(carrier).await;
    let echo = async {
        let mut byte = [0];
        while b.io.read_exact(&mut byte).await.is_ok() {
            b.io.write_all(&byte).await.unwrap();
            b.io.flush().await.unwrap();
        }
    };
    let ask = async move {
        for number in 0..100_u8 {
            let mut answer = [0];
            a.io.write_all(&[number]).await.unwrap();
            a.io.flush().await.unwrap();
            a.io.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, [number]);
        }
    };
    tokio::join!(echo, ask);
}

async fn a_shutdown_is_the_end_behind_the_last_byte(carrier: Carrier) {
    let (mut a, mut b) = pair(carrier).await;
    let last_words = pattern(300_000);
    let speak = async {
        a.io.write_all(&last_words).await.unwrap();
        a.io.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let end = a.io.read_to_end(&mut answer).await;
        (answer, end)
    };
    let listen = async {
        let mut heard = Vec::new();
        b.io.read_to_end(&mut heard).await.unwrap();
        let _ = b.io.shutdown().await;
        drop(b);
        heard
    };
    let ((answer, _), heard) = tokio::join!(speak, listen);
    assert!(heard == last_words);
    assert!(answer.is_empty());
}

async fn a_dropped_end_is_seen(carrier: Carrier) {
    let (mut a, b) = pair(carrier).await;
    drop(b);
    let mut rest = Vec::new();
    let _ = a.io.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    while a.io.write_all(&[0; 1000]).await.is_ok() && a.io.flush().await.is_ok() {
        tokio::task::yield_now().await;
    }
}

async fn a_writer_waits_for_its_reader(carrier: Carrier) {
    let (mut a, mut b) = pair(carrier).await;
    // More than the socket buffers of loopback hold together.
    let much = vec![7; 24 * 1024 * 1024];
    let mut write = pin!(async {
        a.io.write_all(&much).await.unwrap();
        a.io.flush().await.unwrap();
    });
    let stalled = tokio::time::timeout(Duration::from_millis(700), &mut write).await;
    assert!(stalled.is_err(), "the carrier took 24 MiB that nobody read");
    let mut got = vec![0; much.len()];
    tokio::join!(write, async { b.io.read_exact(&mut got).await.unwrap() });
    assert!(got == much);
}

async fn both_ends_know_the_link(carrier: Carrier) {
    let (a, b) = pair(carrier).await;
    assert_eq!((a.info.carrier, b.info.carrier), (carrier, carrier));
    assert_eq!(a.info.exporter, b.info.exporter);
    let encrypted = transport_of(carrier).is_some_and(longshore_wire::Transport::is_encrypted);
    assert_eq!(a.info.exporter.is_some(), encrypted);
    assert_eq!(a.info.remote.is_some(), carrier != Carrier::Memory);
    assert!(!a.info.certified && !b.info.certified);
    let again = pair(carrier).await;
    assert!(a.info.exporter.is_none() || a.info.exporter != again.0.info.exporter);
}
