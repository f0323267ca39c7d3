//! In which order records are tried: pure, with the dice passed in.
