//! Tables whose keys are frame ids: the peer chooses half of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// What the entries of a table are spread by: the same for all sessions, unknown to peers.
static SPREAD: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0_u32) | 1);

/// A table by id.
pub(super) type IdMap<T> = HashMap<u32, T, Spread>;

/// Makes hashers that cost one multiplication: universal hashing by a secret odd number. Tables are bounded, so a peer
/// that guessed it could slow one down, yet never by more than the walk through it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Spread;

impl BuildHasher for Spread {
    type Hasher = Product;

    fn build_hasher(&self) -> Product {
        Product(0)
    }
}

/// See [`Spread`].
#[derive(Debug)]
pub(super) struct Product(u64);

impl Hasher for Product {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        let product = (self.0 ^ u64::from(number)).wrapping_mul(*SPREAD);
        self.0 = product ^ product.rotate_left(32);
    }
}
