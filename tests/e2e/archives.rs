//! Hostile archives are refused by a running control node, each with its own error, and leave nothing behind.

use crate::process::{BINARY, stderr, wait_for};
use crate::single::Single;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Uploads bytes that need not be an archive; gives the whole HTTP answer.
fn upload(node: &Single, bytes: &[u8], announced: usize) -> String {
    let mut stream = TcpStream::connect((node.subnet.host(1), 8138)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "PUT /v1/apps HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-tar\r\nContent-Length: {announced}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The node may answer and close before it has read all of a bad archive.
    drop(stream.write_all(bytes));
    if announced > bytes.len() {
        drop(stream.shutdown(std::net::Shutdown::Write));
    }
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Every file below the folder where archives are stored and uploads begin.
fn blobs(node: &Single) -> Vec<String> {
    let mut found = Vec::new();
    collect(&node.dir.path().join("data/blobs"), &mut found);
    found
}

fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
        } else {
            found.push(entry.path().display().to_string());
        }
    }
}

/// A tar with the given entries behind a correct-looking manifest.
fn tar(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        // The builder refuses hostile paths, so they go into the header by hand.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let node = Single::start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/greeter");
    let file = node.dir.path().join("greeter.tar");
    let packed = Command::new(BINARY).args(["app", "pack"]).arg(&folder).arg("-o").arg(&file).output().unwrap();
    assert!(packed.status.success(), "{}", stderr(&packed));
    let good = std::fs::read(&file).unwrap();
    let manifest_size = usize::from_str_radix(std::str::from_utf8(&good[124..135]).unwrap().trim(), 8).unwrap();
    let manifest = good[512..512 + manifest_size].to_vec();
    let head = ("app.json", tar::EntryType::Regular, manifest.as_slice());
    let mut flipped = good.clone();
    let last = 512 + manifest_size.div_ceil(512) * 512 + 512 + 3;
    flipped[last] ^= 1;

    let regular = tar::EntryType::Regular;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("corrupt", flipped),
        ("garbage", vec![7; 4096]),
        ("traversal", tar(&[head, ("../escape", regular, b"x")])),
        ("absolute", tar(&[head, ("/tmp/escape", regular, b"x")])),
        ("symlink", tar(&[head, ("link", tar::EntryType::Symlink, b"")])),
        ("hard link", tar(&[head, ("link", tar::EntryType::Link, b"")])),
        ("device", tar(&[head, ("dev", tar::EntryType::Char, b"")])),
        ("duplicate", [&good[..good.len() - 1024], &good[512 + manifest_size.div_ceil(512) * 512..]].concat()),
        ("no manifest", tar(&[("greet.sh", regular, b"x")])),
    ];
    let mut answers = Vec::new();
    for (name, bytes) in cases {
        let answer = upload(&node, &bytes, bytes.len());
        let status = answer.lines().next().unwrap_or_default().to_owned();
        assert!(status.contains(" 4"), "{name}: {answer}");
        assert!(answer.contains("application/problem+json"), "{name}: {answer}");
        assert_eq!(blobs(&node), Vec::<String>::new(), "{name} left something behind");
        let detail =
            answer.split("\"detail\":\"").nth(1).and_then(|rest| rest.split("\",\"").next()).unwrap_or_default();
        println!("{name}: {detail}");
        answers.push(detail.to_owned());
    }
    answers.sort();
    answers.dedup();
    assert_eq!(answers.len(), 9, "each has its own error: {answers:#?}");

    upload(&node, &good[..good.len() / 2], good.len());
    wait_for("the truncated upload to be cleaned up", || match blobs(&node).as_slice() {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(node.cli().json(&["app", "list"]).as_array().map(Vec::len), Some(0));
    node.cli().text(&["app", "deploy", file.to_str().unwrap()]);
    assert_eq!(node.cli().json(&["app", "list"])[0]["app"], "greeter");
}

#[test]
fn packing_is_reproducible_and_inspectable() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/counter");
    let pack = |name: &str| {
        let file = dir.path().join(name);
        let output = Command::new(BINARY).args(["app", "pack"]).arg(&folder).arg("-o").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        std::fs::read(file).unwrap()
    };
    assert_eq!(pack("first.tar"), pack("second.tar"));
    let shown = Command::new(BINARY).args(["app", "inspect"]).arg(dir.path().join("first.tar")).output().unwrap();
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("increments"));
}
