//! What `tests/cli/secrets.rs` leaves open: token services and registries that hand credentials back where they were not asked to.
