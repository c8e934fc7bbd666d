//! (method, path) → what is asked: a pure function. Names of repositories have slashes, so the path is read from its end.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::digest::{Digest, DigestError};
use crate::name::{NameError, Repository, Target};

/// What a request asks for (distribution-spec, "Endpoints").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// end-1
    Ping,
    /// Not in the specification; Docker's `_catalog`.
    Catalogue,
    /// end-2
    ReadBlob { repository: Repository, digest: Digest },
    /// end-3
    ReadManifest { repository: Repository, target: Target },
    /// end-4a, end-4b, end-4c, end-11
    BeginUpload { repository: Repository },
    /// end-5
    AppendUpload { repository: Repository, id: String },
    /// end-6
    FinishUpload { repository: Repository, id: String },
    /// end-7a, end-7b
    PutManifest { repository: Repository, target: Target },
    /// end-8a, end-8b
    ListTags { repository: Repository },
    /// end-9
    DeleteManifest { repository: Repository, target: Target },
    /// end-10
    DeleteBlob { repository: Repository, digest: Digest },
    /// end-12a, end-12b
    ListReferrers { repository: Repository, subject: Digest },
    /// end-13
    UploadStatus { repository: Repository, id: String },
    /// end-14
    CancelUpload { repository: Repository, id: String },
}

/// Why a request asks for nothing that there is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misrouted {
    #[error("there is nothing at this path; a registry's paths begin with /v2/")]
    Nothing,
    #[error("this method is not supported here; these are: {0}")]
    Method(&'static str),
    #[error(transparent)]
    Name(NameError),
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error(transparent)]
    Tag(NameError),
}

/// What is asked. Says of a bad name what is wrong with it, before it looks at the method.
pub(crate) fn route(method: &Method, path: &str) -> Result<Route, Misrouted> {
    let path = percent_decode_str(path).decode_utf8().map_err(|_| Misrouted::Nothing)?;
    let rest = match path.strip_prefix("/v2") {
        Some("") => "",
        Some(rest) => rest.strip_prefix('/').ok_or(Misrouted::Nothing)?,
        None => return Err(Misrouted::Nothing),
    };
    match rest {
        "" => return read_only(method, || Route::Ping),
        "_catalog" => return read_only(method, || Route::Catalogue),
        _ => {}
    }
    let (front, last) = rest.rsplit_once('/').ok_or(Misrouted::Nothing)?;
    let (name, noun) = front.rsplit_once('/').unwrap_or(("", front));
    let read = [Method::GET, Method::HEAD].contains(method);
    match noun {
        "tags" if last == "list" => {
            let repository = repository(name)?;
            read_only(method, || Route::ListTags { repository })
        }
        "manifests" => {
            let repository = repository(name)?;
            let target = target(last)?;
            match *method {
                _ if read => Ok(Route::ReadManifest { repository, target }),
                Method::PUT => Ok(Route::PutManifest { repository, target }),
                Method::DELETE => Ok(Route::DeleteManifest { repository, target }),
                _ => Err(Misrouted::Method("GET, HEAD, PUT, DELETE")),
            }
        }
        "referrers" => {
            let repository = repository(name)?;
            let subject = last.parse()?;
            read_only(method, || Route::ListReferrers { repository, subject })
        }
        "blobs" if last == "uploads" => begin(method, name),
        "blobs" => {
            let repository = repository(name)?;
            let digest = last.parse()?;
            match *method {
                _ if read => Ok(Route::ReadBlob { repository, digest }),
                Method::DELETE => Ok(Route::DeleteBlob { repository, digest }),
                _ => Err(Misrouted::Method("GET, HEAD, DELETE")),
            }
        }
        "uploads" => {
            let name = name.strip_suffix("/blobs").ok_or(Misrouted::Nothing)?;
            if last.is_empty() {
                return begin(method, name);
            }
            let (repository, id) = (repository(name)?, last.to_owned());
            match *method {
                Method::GET => Ok(Route::UploadStatus { repository, id }),
                Method::PATCH => Ok(Route::AppendUpload { repository, id }),
                Method::PUT => Ok(Route::FinishUpload { repository, id }),
                Method::DELETE => Ok(Route::CancelUpload { repository, id }),
                _ => Err(Misrouted::Method("GET, PATCH, PUT, DELETE")),
            }
        }
        _ => Err(Misrouted::Nothing),
    }
}

fn read_only(method: &Method, route: impl FnOnce() -> Route) -> Result<Route, Misrouted> {
    if [Method::GET, Method::HEAD].contains(method) {
        Ok(route())
    } else {
        Err(Misrouted::Method("GET, HEAD"))
    }
}

fn begin(method: &Method, name: &str) -> Result<Route, Misrouted> {
    let repository = repository(name)?;
    if method == Method::POST {
        Ok(Route::BeginUpload { repository })
    } else {
        Err(Misrouted::Method("POST"))
    }
}

fn repository(name: &str) -> Result<Repository, Misrouted> {
    name.parse().map_err(Misrouted::Name)
}

/// No tag has a colon and every digest has one.
fn target(text: &str) -> Result<Target, Misrouted> {
    if text.contains(':') {
        Ok(Target::Digest(text.parse()?))
    } else {
        text.parse().map(Target::Tag).map_err(Misrouted::Tag)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::{Misrouted, Route, route};
    use crate::digest::Digest;
    use crate::name::Target;

    fn check(method: &str, path: &str) -> Result<Route, Misrouted> {
        route(&method.parse::<Method>().expect("a method"), path)
    }

    #[test]
    fn what_is_asked() {
        let digest = Digest::of(b"");
        let repository = || "team/sub/app".parse().expect("a repository");
        let tag = || Target::Tag("v1".parse().expect("a tag"));
        let by_digest = || Target::Digest(digest.clone());
        let id = || "some-id".to_owned();
        let escaped = digest.as_str().replace(':', "%3A");
        for (method, path, expect) in [
            ("GET", "/v2", Route::Ping),
            ("GET", "/v2/", Route::Ping),
            ("HEAD", "/v2/", Route::Ping),
            ("GET", "/v2/_catalog", Route::Catalogue),
            ("GET", "/v2/team/sub/app/tags/list", Route::ListTags { repository: repository() }),
            (
                "GET",
                "/v2/team/sub/app/manifests/v1",
                Route::ReadManifest { repository: repository(), target: tag() },
            ),
            (
                "HEAD",
                &format!("/v2/team/sub/app/manifests/{digest}"),
                Route::ReadManifest { repository: repository(), target: by_digest() },
            ),
            (
                "GET",
                &format!("/v2/team/sub/app/manifests/{escaped}"),
                Route::ReadManifest { repository: repository(), target: by_digest() },
            ),
            (
                "PUT",
                "/v2/team/sub/app/manifests/v1",
                Route::PutManifest { repository: repository(), target: tag() },
            ),
            (
                "DELETE",
                "/v2/team/sub/app/manifests/v1",
                Route::DeleteManifest { repository: repository(), target: tag() },
            ),
            (
                "HEAD",
                &format!("/v2/team/sub/app/blobs/{digest}"),
                Route::ReadBlob { repository: repository(), digest: digest.clone() },
            ),
            (
                "DELETE",
                &format!("/v2/team/sub/app/blobs/{digest}"),
                Route::DeleteBlob { repository: repository(), digest: digest.clone() },
            ),
            ("POST", "/v2/team/sub/app/blobs/uploads/", Route::BeginUpload { repository: repository() }),
            ("POST", "/v2/team/sub/app/blobs/uploads", Route::BeginUpload { repository: repository() }),
            (
                "GET",
                "/v2/team/sub/app/blobs/uploads/some-id",
                Route::UploadStatus { repository: repository(), id: id() },
            ),
            (
                "PATCH",
                "/v2/team/sub/app/blobs/uploads/some-id",
                Route::AppendUpload { repository: repository(), id: id() },
            ),
            (
                "PUT",
                "/v2/team/sub/app/blobs/uploads/some-id",
                Route::FinishUpload { repository: repository(), id: id() },
            ),
            (
                "DELETE",
                "/v2/team/sub/app/blobs/uploads/some-id",
                Route::CancelUpload { repository: repository(), id: id() },
            ),
            (
                "GET",
                &format!("/v2/team/sub/app/referrers/{digest}"),
                Route::ListReferrers { repository: repository(), subject: digest.clone() },
            ),
        ] {
            assert_eq!(check(method, path), Ok(expect), "{method} {path}");
        }
    }

    #[test]
    fn names_that_look_like_paths() {
        for name in ["tags/list", "blobs/uploads", "manifests", "a/manifests/b", "blobs/uploads/manifests"] {
            let expect = Route::ListTags { repository: name.parse().expect("a repository") };
            assert_eq!(check("GET", &format!("/v2/{name}/tags/list")), Ok(expect));
            let expect = Route::BeginUpload { repository: name.parse().expect("a repository") };
            assert_eq!(check("POST", &format!("/v2/{name}/blobs/uploads/")), Ok(expect));
        }
    }

    #[test]
    fn what_asks_for_nothing() {
        for path in
            ["", "/", "/v1/", "/v2x", "/v2/a", "/v2/a/b/c", "/v2/a/uploads/x", "/v2/a/tags/other", "/v2/%ff"]
        {
            assert_eq!(check("GET", path), Err(Misrouted::Nothing), "{path}");
        }
        for path in [
            "/v2/Team/tags/list",
            "/v2/a//b/tags/list",
            "/v2/../manifests/x",
            "/v2//manifests/x",
            "/v2/tags/list",
        ] {
            assert!(matches!(check("GET", path), Err(Misrouted::Name(_))), "{path}");
        }
        for path in [
            "/v2/a/manifests/sha256:bad",
            "/v2/a/blobs/bad",
            "/v2/a/referrers/sha256:bad",
            "/v2/a/blobs/md5:00",
        ] {
            assert!(matches!(check("GET", path), Err(Misrouted::Digest(_))), "{path}");
        }
        for path in ["/v2/a/manifests/.bad", "/v2/a/manifests/", "/v2/a/manifests/..%2f..%2fx%20"] {
            assert!(!matches!(check("GET", path), Ok(_) | Err(Misrouted::Digest(_))), "{path}");
        }
        for (method, path) in [
            ("POST", "/v2/"),
            ("DELETE", "/v2/_catalog"),
            ("PUT", "/v2/a/tags/list"),
            ("PATCH", "/v2/a/manifests/x"),
            ("GET", "/v2/a/blobs/uploads/"),
            ("POST", "/v2/a/blobs/uploads/x"),
        ] {
            assert!(matches!(check(method, path), Err(Misrouted::Method(_))), "{method} {path}");
        }
    }
}
