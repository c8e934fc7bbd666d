//! Diff: what differs between two packages, wherever they are.

use idp_package::diff::{Diff, Options, Side, diff as compare};

use super::super::{Context, Error};
use super::validate::unpacked;

/// Compares.
///
/// # Errors
/// One of them is not there or cannot be read.
pub async fn diff(context: &Context, old: &str, new: &str, lines: usize) -> Result<Diff, Error> {
    let (old_files, old_manifest, _old) = unpacked(context, old).await?;
    let (new_files, new_manifest, _new) = unpacked(context, new).await?;
    let (old, new) = (
        Side { files: &old_files, manifest: old_manifest.as_ref() },
        Side { files: &new_files, manifest: new_manifest.as_ref() },
    );
    Ok(compare(old, new, Options { lines, ..Options::default() }))
}
