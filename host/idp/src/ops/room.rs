//! Room for what is pushed: what `--create` allows to be made, asked of the provider before a push that may make nothing, and in a
//! rehearsal. Writes nothing.

use idp_oci::client::Event;
use idp_oci::client::dialect::{Created, DialectError, EnsureState, ErrorKind};
use idp_oci::name::Reference;

use super::session::{self, Session, Subject};
use super::{Context, Error};
use crate::provider::{Create, EnsureWhen};

/// What a rehearsal found out.
#[derive(Debug)]
pub(super) struct Room {
    /// The provider's name and version.
    pub(super) provider: String,
    /// What would be made.
    pub(super) created: Vec<Created>,
}

/// With `--create never` a repository that is not there ends the push before it begins: products make one as soon as something is
/// sent. A provider that cannot tell stops nothing.
pub(super) async fn check(
    context: &Context,
    session: &Session,
    destination: &Reference,
) -> Result<(), Error> {
    if context.create(&destination.registry) != Create::Never {
        return Ok(());
    }
    let repository = session.on_wire(&destination.repository);
    let place = format!("{}/{}", destination.registry, destination.repository);
    let Some(dialect) = &session.dialect else { return Ok(()) };
    match dialect.info(repository).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind == ErrorKind::NotFound => Err(Error::Missing(format!(
            "{place} is not there, and --create never (or `create: never` in registries.yaml) makes nothing: {error}"
        ))),
        Err(error) if error.kind == ErrorKind::Unsupported => {
            let text =
                format!("{} cannot tell whether {place} is there; the push may make it", session.provider);
            context.progress.event(Event::Warning { text });
            Ok(())
        }
        Err(error) => Err(session.refused(format!("looking for {place}"), error)),
    }
}

/// Asks what a push would have to make. A registry that cannot be reached is told of and ends nothing.
pub(super) async fn rehearse(context: &Context, destination: &Reference) -> Result<Room, Error> {
    let session = session::open(context, Subject::from(destination)).await?;
    let note = |text: String| context.progress.event(Event::Note { text });
    let unknown = |why: &dyn std::fmt::Display| {
        note(format!("What a push would find at {} is not known: {why}", destination.registry));
    };
    let mut created = Vec::new();
    if let Some(error) = &session.silence {
        unknown(&error.cause());
    } else if context.create(&destination.registry) == Create::Never {
        match check(context, &session, destination).await {
            Err(Error::Registry { error, .. }) if error.kind() == idp_oci::client::Kind::Transient => {
                unknown(&error.cause());
            }
            checked => checked?,
        }
    } else if let Some(dialect) = &session.dialect
        && dialect.manifest().ensure.when != EnsureWhen::Never
    {
        let place = format!("{}/{}", destination.registry, destination.repository);
        match dialect.ensure_now(session.on_wire(&destination.repository)).await {
            Ok(Some(ensured)) => {
                if ensured.state == EnsureState::Implicit {
                    note(format!("{place} comes into being with the push, unless it is there"));
                }
                if let Some(text) = ensured.note {
                    note(text);
                }
                if let Some(made) = ensured.created {
                    note(format!("Would create {made} at {}", destination.registry));
                    created.push(made);
                }
            }
            Ok(None) => {}
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::RateLimited) => {
                unknown(&error)
            }
            // It is asked only after a push was refused, and may be wrong before.
            Err(error) if dialect.manifest().ensure.when == EnsureWhen::AfterFailure => {
                warn(context, &error);
            }
            Err(error) => return Err(session.refused(format!("making {place} ready"), error)),
        }
    }
    Ok(Room { provider: session.provider, created })
}

fn warn(context: &Context, error: &DialectError) {
    let text = format!("a push may be refused: {error}");
    context.progress.event(Event::Warning { text });
}
