//! What one store may hold: linear memory and table elements, counted over all that a component makes, so that many small
//! ones are no way around the limit of one.

use wasmtime::ResourceLimiter;

use super::engine::MEMORY_MAX;
use super::error::{Limit, LimitHit};

/// Elements of all tables together.
const TABLE_ELEMENTS_MAX: usize = 50_000;
/// A component made by an interpreter's toolchain has two or three.
const MEMORIES_MAX: usize = 8;
/// See [`MEMORIES_MAX`].
const TABLES_MAX: usize = 32;
/// A stubbed CPython has some forty.
const INSTANCES_MAX: usize = 256;

/// Counts what the guest holds. Growing past the limit ends the call: a guest that handles it would only try again.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    memory: usize,
    elements: usize,
}

impl Holdings {
    /// Bytes of all linear memories.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}

impl ResourceLimiter for Holdings {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.memory = grown(self.memory, current, desired, MEMORY_MAX)?;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.elements = grown(self.elements, current, desired, TABLE_ELEMENTS_MAX)?;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

fn grown(held: usize, current: usize, desired: usize, most: usize) -> wasmtime::Result<usize> {
    let held = held.saturating_add(desired.saturating_sub(current));
    if held > most { Err(LimitHit(Limit::Memory).into()) } else { Ok(held) }
}

#[cfg(test)]
mod tests {
    use wasmtime::ResourceLimiter as _;

    use super::{Holdings, MEMORY_MAX, TABLE_ELEMENTS_MAX};

    #[test]
    fn memories_and_tables_count_together() {
        let mut holdings = Holdings::default();
        assert!(holdings.memory_growing(0, MEMORY_MAX / 2, None).is_ok());
        assert!(holdings.memory_growing(0, MEMORY_MAX / 2, None).is_ok());
        assert!(holdings.memory_growing(0, 1, None).is_err());
        assert!(holdings.table_growing(0, TABLE_ELEMENTS_MAX, None).is_ok());
        assert!(holdings.table_growing(0, 1, None).is_err());
    }
}
