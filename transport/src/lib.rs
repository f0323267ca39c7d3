//! Dial, listen, authenticate, multiplex.
