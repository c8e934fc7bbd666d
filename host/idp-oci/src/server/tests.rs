//! The registry over real sockets.
