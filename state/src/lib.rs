//! The replicated state machine: commands, apply, snapshot, placement.
