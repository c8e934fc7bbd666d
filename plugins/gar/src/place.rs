//! Where an image is: location by the host, project, repository and image by the name. A project may have a domain before it, written
//! with `/` here and with `:` in the API; gcr.io's names lack the repository, whose name is the host's.

use idp_provider_sdk::link;
use idp_provider_sdk::prelude::*;

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// As the API writes it: `example.com:team`.
    pub(crate) project: String,
    /// Empty for hosts that the API does not know.
    pub(crate) location: String,
    /// The repository of Artifact Registry; empty when the name ends before it.
    pub(crate) repository: String,
    /// The image in it, with `/`; empty when the name ends before it.
    pub(crate) image: String,
}

/// The location of a host and the repository that it stands for, if any.
fn host(registry: &str) -> (&str, Option<&str>) {
    let name = registry.split(':').next().unwrap_or(registry);
    match name {
        "gcr.io" | "us.gcr.io" => ("us", Some(name)),
        "eu.gcr.io" => ("europe", Some(name)),
        "asia.gcr.io" => ("asia", Some(name)),
        // Mirrors, and the other cloud: their API is not known.
        name if name.ends_with(".gcr.io") => ("", Some(name)),
        name => (name.strip_suffix("-docker.pkg.dev").unwrap_or_default(), None),
    }
}

/// Whether this registry's names have no repository in them.
pub(crate) fn is_gcr() -> bool {
    host(&invocation::registry()).1.is_some()
}

impl Place {
    /// Takes a name apart, as far as it goes. None without a project.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let registry = invocation::registry();
        let (location, fixed) = host(&registry);
        let (first, rest) = name.split_once('/').unwrap_or((name, ""));
        let (project, rest) = if first.contains('.') {
            let (second, rest) = rest.split_once('/').unwrap_or((rest, ""));
            if second.is_empty() {
                return None;
            }
            (format!("{first}:{second}"), rest)
        } else {
            (first.to_owned(), rest)
        };
        if project.is_empty() {
            return None;
        }
        let (repository, image) = match fixed {
            Some(fixed) => (fixed, rest),
            None => rest.split_once('/').unwrap_or((rest, "")),
        };
        Some(Self {
            project,
            location: location.to_owned(),
            repository: repository.to_owned(),
            image: image.to_owned(),
        })
    }

    /// `projects/P/locations/L`, escaped for a path of the API.
    pub(crate) fn parent(&self) -> String {
        format!("projects/{}/locations/{}", link::percent(&self.project), link::percent(&self.location))
    }

    /// `projects/P/locations/L/repositories/R`
    pub(crate) fn resource(&self) -> String {
        format!("{}/repositories/{}", self.parent(), link::percent(&self.repository))
    }

    /// `…/packages/IMAGE`; the image is one segment there.
    pub(crate) fn package(&self) -> String {
        format!("{}/packages/{}", self.resource(), link::percent(&self.image))
    }

    /// What stands before an image's own name here: `project/repository` or, at gcr.io, `project`.
    pub(crate) fn prefix(&self) -> String {
        let project = self.project.replacen(':', "/", 1);
        if is_gcr() { project } else { format!("{project}/{}", self.repository) }
    }
}

/// How names are written at a host, for messages.
pub(crate) fn form() -> String {
    let registry = invocation::registry();
    if is_gcr() {
        format!("{registry}/PROJECT/IMAGE")
    } else {
        format!("{registry}/PROJECT/REPOSITORY/IMAGE")
    }
}

/// A name must reach an image.
pub(crate) fn image(name: &str) -> Result<Place> {
    let unknown = || {
        let list = Place::of(name).filter(|place| is_gcr() || !place.repository.is_empty());
        let list = list.map_or_else(String::new, |_| {
            format!("; `idp list {} --namespace {name}` shows the images below it", invocation::registry())
        });
        Error::invalid(format!("`{name}` names no image: it is {}{list}", form())).code("image-missing")
    };
    Place::of(name).filter(|place| !place.image.is_empty()).ok_or_else(unknown)
}

/// Checks what the registry would refuse in words that nobody understands.
pub(crate) fn normalize(name: &str) -> Result<WireName> {
    let registry = invocation::registry();
    image(name)?;
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let message = format!("{registry} refuses upper case in `{name}`; write it in lower case");
        return Err(Error::invalid(message).code("NAME_INVALID"));
    }
    Ok(WireName {
        display: format!("{registry}/{name}"),
        credential_keys: vec![registry.clone()],
        host: registry,
        repository: name.to_owned(),
        warnings: Vec::new(),
        extra: Vec::new(),
    })
}

/// The service of a challenge is a host of Google's, also when the registry has a name of its own before it.
pub(crate) fn identify() -> Result<Identification> {
    let subject = invocation::subject().ok_or_else(|| Error::invalid("there is no answer to identify"))?;
    let ours = |challenge: &Challenge| {
        let realm = challenge.realm_url(&invocation::origin()).unwrap_or_default();
        let service = challenge.param("service").unwrap_or_default();
        let named =
            service == "gcr.io" || service.ends_with(".gcr.io") || service.ends_with("-docker.pkg.dev");
        challenge.is("bearer") && link::path(&realm) == "/v2/token" && named
    };
    let found = subject.challenges().iter().any(ours);
    let (certainty, product) = if found { (100, "gar") } else { (0, "unknown") };
    Ok(Identification { certainty, product: product.to_owned(), ..Identification::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use idp_provider_sdk::testing::Host;

    #[test]
    fn names_taken_apart() {
        let place = |project: &str, location: &str, repository: &str, image: &str| {
            Some(Place {
                project: project.to_owned(),
                location: location.to_owned(),
                repository: repository.to_owned(),
                image: image.to_owned(),
            })
        };
        for (registry, name, expected) in [
            ("us-docker.pkg.dev", "p/r/a/b", place("p", "us", "r", "a/b")),
            (
                "europe-west1-docker.pkg.dev",
                "example.com/p/r/a",
                place("example.com:p", "europe-west1", "r", "a"),
            ),
            ("us-docker.pkg.dev", "p/r", place("p", "us", "r", "")),
            ("us-docker.pkg.dev", "p", place("p", "us", "", "")),
            ("us-docker.pkg.dev", "example.com", None),
            ("gcr.io", "p/a/b", place("p", "us", "gcr.io", "a/b")),
            ("eu.gcr.io", "example.com/p/a", place("example.com:p", "europe", "eu.gcr.io", "a")),
            ("mirror.gcr.io", "library/a", place("library", "", "mirror.gcr.io", "a")),
            ("docker.s3nsregistry.fr", "p/r/a", place("p", "", "r", "a")),
            ("us-docker.pkg.dev", "", None),
        ] {
            let found = Host::new(registry).run(|| Place::of(name));
            assert_eq!(found, expected, "{registry}/{name}");
        }
    }

    #[test]
    fn paths_of_the_api_are_escaped() {
        let package =
            Host::new("us-docker.pkg.dev").run(|| Place::of("example.com/p/r/a/b").map(|it| it.package()));
        assert_eq!(
            package.as_deref(),
            Some("projects/example.com%3Ap/locations/us/repositories/r/packages/a%2Fb")
        );
    }
}
