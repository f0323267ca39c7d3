//! Application archives: pack, verify, unpack safely.
