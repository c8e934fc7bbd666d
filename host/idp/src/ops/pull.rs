//! Pull: a reference of a registry to a sink of the command line.

use idp_oci::client::{Access, RateLimit};
use idp_oci::digest::Digest;
use idp_oci::manifest::{Arch, Os, Platform};
use idp_oci::name::Target;
use idp_oci::pipeline::{self, PullOptions};
use idp_oci::sink;
use serde::Serialize;

use super::context::To;
use super::package::trust::{allow, is_held};
use super::session::{self, Subject};
use super::{Context, Error, cache};

/// Where an image goes that is given no place.
const DAEMON: &str = "docker-daemon:";

/// What is pulled and where to.
#[derive(Debug, Clone)]
pub struct Request {
    /// A reference, in the default registry where it names none.
    pub reference: String,
    /// As [`sink::open`] takes it; the Docker daemon unless given.
    pub destination: Option<String>,
    /// Only this platform.
    pub platform: Option<Platform>,
    /// Success means that the disk has everything.
    pub sync: bool,
}

/// What was pulled.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pulled {
    /// What was asked for.
    pub reference: String,
    /// `registry/repository@digest`.
    pub pinned: String,
    /// The digest of what is there now.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Where it is now.
    pub destination: String,
    /// Manifests.
    pub manifests: usize,
    /// Blobs of all manifests, each once.
    pub blobs: usize,
    /// Those whose bytes came.
    pub blobs_received: usize,
    /// How many bytes the registry sent of these; an earlier pull may have left the start of some.
    pub bytes_received: u64,
    /// Those that the content cache had.
    pub blobs_cached: usize,
    /// The provider's name and version.
    pub provider: String,
    /// What the registry says about how often it may be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// Pulls.
pub async fn pull(context: &Context, request: Request) -> Result<Pulled, Error> {
    context.find_registry(&[&request.reference], To::Read).await?;
    let reference = context.reference(&request.reference)?;
    let base = std::env::current_dir()
        .map_err(|error| Error::Io { what: "finding the current directory".to_owned(), error })?;
    let destination = request.destination.unwrap_or_else(|| DAEMON.to_owned());
    let mut sink = sink::open(&destination, &base)?;
    if request.sync {
        sink.be_durable();
    }
    let shown = sink.describe();
    let session = session::open(context, Subject::from(&reference)).await?;
    let repository = session.on_wire(&reference.repository).clone();
    // What was verified is what is pulled, wherever the tag is moved meanwhile.
    let mut target = reference.target();
    if is_held(context, &reference) {
        let found = session.client.head_manifest(&repository, &target, Access::Pull).await;
        if let Some(found) = found.map_err(|error| session.failed(error))? {
            allow(context, &session, &repository, &reference, &found.digest).await?;
            target = Target::Digest(found.digest);
        }
    }
    let platform = request.platform.or_else(|| sink.wants_one_platform().then(this_platform));
    let options = PullOptions {
        platform,
        cache: cache::of(context)?,
        tag: reference.tag.clone(),
        ..PullOptions::default()
    };
    let pulled = pipeline::pull(&session.client, &repository, &target, sink, &options, &context.cancel)
        .await
        .map_err(|error| session.pipeline_failed(error))?;
    Ok(Pulled {
        reference: reference.to_string(),
        pinned: reference.pinned(&pulled.digest),
        digest: pulled.digest,
        media_type: pulled.media_type,
        destination: shown,
        manifests: pulled.manifests,
        blobs: pulled.blobs_received + pulled.blobs_cached + pulled.blobs_existing,
        blobs_received: pulled.blobs_received,
        blobs_cached: pulled.blobs_cached,
        bytes_received: pulled.bytes_received,
        rate_limit: session.rate_limit(),
        provider: session.provider,
    })
}

/// What containers on this machine run as: Linux, on the processor that we run on.
fn this_platform() -> Platform {
    let mut platform = Platform::default();
    platform.set_os(Os::Linux);
    platform.set_architecture(match std::env::consts::ARCH {
        "x86_64" => Arch::Amd64,
        "aarch64" => Arch::ARM64,
        other => Arch::from(other),
    });
    platform
}

#[cfg(test)]
mod tests {
    use super::this_platform;

    #[test]
    fn the_platform_of_this_machine_has_the_name_that_images_use() {
        let platform = this_platform();
        assert_eq!(platform.os().to_string(), "linux");
        assert!(!["x86_64", "aarch64"].contains(&platform.architecture().to_string().as_str()));
    }
}
