//! Push and pull.
