//! The fuzz targets over their corpora and over some changes of those: bounded, the same in every run, on any toolchain.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../fuzz/seeds/inputs.rs"]
mod inputs;
#[path = "targets/all.rs"]
mod targets;

use std::path::Path;

/// Changed copies of each input.
const CHANGES: u64 = 40;

/// xorshift64*: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit.max(1)
    }

    /// The input with a few bytes flipped, cut out, doubled or put in.
    fn change(&mut self, input: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), u8::try_from(self.below(256)).unwrap()),
                2 => bytes.extend_from_within(at..),
                _ if bytes.is_empty() => {}
                3 => bytes[at] ^= 1 << self.below(8),
                _ => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            }
        }
        bytes
    }
}

#[test]
fn every_target_holds_over_its_corpus_and_its_changes() {
    for (name, run) in targets::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        let mut inputs = 0;
        for (number, file) in files.iter().enumerate() {
            let input = std::fs::read(file).unwrap();
            let mut dice = Dice(u64::try_from(number).unwrap() + 1);
            let changed = std::iter::repeat_with(|| dice.change(&input)).take(usize::try_from(CHANGES).unwrap());
            for bytes in std::iter::once(input.clone()).chain(changed.collect::<Vec<_>>()) {
                inputs += 1;
                std::panic::catch_unwind(|| run(&bytes))
                    .unwrap_or_else(|_| panic!("target {name}, from {}: {bytes:02x?}", file.display()));
            }
        }
        println!("{name}: {inputs} inputs");
    }
}

#[test]
fn the_seeds_are_those_of_todays_messages() {
    let seeds = inputs::seeds();
    for (name, _) in targets::ALL {
        assert!(seeds.iter().any(|(target, seeds)| target == name && !seeds.is_empty()), "no seeds for {name}");
    }
    for (target, seeds) in seeds {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        for (number, bytes) in seeds.iter().enumerate() {
            let file = folder.join(format!("seed-{number:02}"));
            let is = std::fs::read(&file).unwrap_or_default();
            assert!(is == *bytes, "{} is old: `cd fuzz && cargo run --bin seeds`", file.display());
        }
    }
}

#[test]
fn the_corpora_stay_small() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut bytes = 0;
    for target in std::fs::read_dir(&folder).unwrap() {
        let target = target.unwrap();
        assert!(targets::ALL.iter().any(|(name, _)| target.file_name() == *name), "{target:?} is no target");
        bytes +=
            std::fs::read_dir(target.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
    }
    assert!(bytes <= 200 * 1024, "{bytes} bytes");
}

#[test]
fn every_target_has_its_fuzzer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in targets::ALL {
        assert!(root.join(format!("fuzz/fuzz_targets/{name}.rs")).exists(), "{name}");
    }
}
