//! Where the embedded registry keeps its content.
