//! The worker: dial loop, task supervisor, archive cache, app socket.
