//! ECR Public (registries dossier, 4.5): the registry with its token service, and the API, which no stand-in has. The data plane is
//! that of [`super::ecr`]. Names: [`REGISTRY`], [`API`].

use serde_json::{Value, json};

use super::base::{self, Verb};
use super::ecr::{self, Ecr};
use crate::faults::Reply;
use crate::net::{Request, Site};

/// The registry and its token service.
pub const REGISTRY: &str = "public.ecr.aws";
/// The API; in one region only.
pub const API: &str = "api.ecr-public.us-east-1.amazonaws.com";

/// What the API gives, and is Basic credentials in Docker's way.
const TOKEN: &str = "QVdTOnB1YmxpYy1wYXNzd29yZA==";
const ANONYMOUS: &str = "anonymous-token";
const EXCHANGED: &str = "exchanged-token";

/// ECR Public, and what the account of the keys has there.
#[derive(Debug, Default)]
pub struct EcrPublic {
    /// Content of all aliases, by `alias/name`.
    pub data: Ecr,
    /// The alias of the account; nobody else's can be asked about.
    pub alias: &'static str,
    /// The API's token is for the token service only, as Docker uses it.
    pub docker_only: bool,
    /// The keys may not ask for a token.
    pub denied: bool,
}

impl EcrPublic {
    fn unauthorized() -> Reply {
        let challenge =
            format!(r#"Bearer realm="https://{REGISTRY}/token/",service="{REGISTRY}",scope="aws""#);
        base::text(401, "Not Authorized\n").header("www-authenticate", &challenge)
    }

    fn registry(&mut self, request: &Request) -> Reply {
        if request.path() == "/token/" {
            let token = match request.header("authorization") {
                None => ANONYMOUS,
                Some(sent) if sent == format!("Basic {TOKEN}") => EXCHANGED,
                Some(_) => return Reply::status(401),
            };
            return base::document(200, &json!({ "token": token }));
        }
        let Some((name, verb)) = base::route(request.path()) else {
            return base::text(404, "404 page not found\n");
        };
        let known = match request.bearer() {
            Some(TOKEN) => !self.docker_only,
            Some(EXCHANGED) => true,
            // To be somebody is not enough to write under any alias, to be nobody is to write nowhere.
            Some(ANONYMOUS) => matches!(request.method.as_str(), "GET" | "HEAD"),
            _ => false,
        };
        if !known {
            return Self::unauthorized();
        }
        match self.data.quirks(request, &name, &verb) {
            Some(reply) => reply,
            None => match verb {
                // Blobs of ECR Public come from CloudFront; that they come from elsewhere is tested with the private one.
                Verb::Blob(_) => base::content(&mut self.data.content, request),
                verb => self.data.serve(request, &name, &verb),
            },
        }
    }

    fn api(&mut self, request: &Request) -> Reply {
        let signed = request.header("authorization").unwrap_or_default();
        if request.method != "POST" || !signed.contains("/us-east-1/ecr-public/aws4_request") {
            return error(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            );
        }
        let Some(operation) =
            request.header("x-amz-target").and_then(|target| target.strip_prefix("SpencerFrontendService."))
        else {
            return error("UnsupportedCommandException", "The action isn't supported in this Region.");
        };
        let body = request.json();
        let name = body["repositoryName"].as_str().unwrap_or_default();
        let full = format!("{}/{name}", self.alias);
        if !name.is_empty() && operation != "CreateRepository" && !self.data.repositories.contains_key(&full)
        {
            return error("RepositoryNotFoundException", &missing(name));
        }
        match operation {
            "GetAuthorizationToken" if self.denied => error(
                "AccessDeniedException",
                "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ecr-public:GetAuthorizationToken on resource: *",
            ),
            "GetAuthorizationToken" => base::document(
                200,
                &json!({"authorizationData": {"authorizationToken": TOKEN, "expiresAt": 4_102_444_800.5}}),
            ),
            "DescribeRegistries" => base::document(
                200,
                &json!({"registries": [{"registryId": "123456789012", "registryUri": format!("{REGISTRY}/a1b2c3d4"),
                    "aliases": [{"name": self.alias, "status": "ACTIVE"}]}]}),
            ),
            "CreateRepository" if self.data.repositories.contains_key(&full) => {
                error("RepositoryAlreadyExistsException", "it exists")
            }
            "CreateRepository" => {
                self.data.repositories.insert(full, ecr::Repository::default());
                base::document(200, &json!({ "repository": self.described(name) }))
            }
            "DescribeRepositories" => self.describe(&body),
            "DescribeImages" => self.images(&full, &body),
            "DescribeImageTags" => self.tags(&full),
            "BatchDeleteImage" => self.delete(&full, &body["imageIds"][0]),
            "DeleteRepository" => {
                let images = self.data.content.manifests.keys().any(|(repository, _)| *repository == full);
                if images && body["force"] != json!(true) {
                    return error("RepositoryNotEmptyException", "the repository still contains images");
                }
                self.data.repositories.remove(&full);
                self.data.content.manifests.retain(|(repository, _), _| *repository != full);
                self.data.content.tags.retain(|(repository, _), _| *repository != full);
                base::document(200, &json!({ "repository": self.described(name) }))
            }
            _ => error("UnsupportedCommandException", "The action isn't supported in this Region."),
        }
    }

    fn described(&self, name: &str) -> Value {
        json!({"registryId": "123456789012", "repositoryName": name,
            "repositoryUri": format!("{REGISTRY}/{}/{name}", self.alias), "createdAt": 1_795_251_600.25})
    }

    /// One's own, two a page.
    fn describe(&self, body: &Value) -> Reply {
        let own = format!("{}/", self.alias);
        let mut names: Vec<&str> =
            self.data.repositories.keys().filter_map(|name| name.strip_prefix(own.as_str())).collect();
        if let Some(wanted) = body["repositoryNames"][0].as_str() {
            names.retain(|name| *name == wanted);
            if names.is_empty() {
                return error("RepositoryNotFoundException", &missing(wanted));
            }
        }
        let start =
            body["nextToken"].as_str().and_then(|token| token.parse::<usize>().ok()).unwrap_or_default();
        let page: Vec<Value> = names.iter().skip(start).take(2).map(|name| self.described(name)).collect();
        let mut answer = json!({ "repositories": page });
        if start + 2 < names.len() {
            answer["nextToken"] = json!((start + 2).to_string());
        }
        base::document(200, &answer)
    }

    fn tags_of(&self, full: &str, digest: &str) -> Vec<String> {
        let tags = self.data.content.tags.iter();
        tags.filter(|((repository, _), of)| repository == full && *of == digest)
            .map(|((_, tag), _)| tag.clone())
            .collect()
    }

    fn images(&self, full: &str, body: &Value) -> Reply {
        let mut digests: Vec<&String> = self
            .data
            .content
            .manifests
            .keys()
            .filter(|(repository, _)| repository == full)
            .map(|(_, digest)| digest)
            .collect();
        let id = &body["imageIds"][0];
        if id.is_object() {
            let by_tag = id["imageTag"]
                .as_str()
                .and_then(|tag| self.data.content.tags.get(&(full.to_owned(), tag.to_owned())));
            let wanted = by_tag.map(String::as_str).or(id["imageDigest"].as_str());
            digests.retain(|digest| Some(digest.as_str()) == wanted);
            if digests.is_empty() {
                return error("ImageNotFoundException", "The image does not exist within the repository");
            }
        }
        let one = |digest: &&String| json!({"imageDigest": digest, "imageTags": self.tags_of(full, digest), "imageSizeInBytes": 7});
        base::document(200, &json!({ "imageDetails": digests.iter().map(one).collect::<Vec<_>>() }))
    }

    fn tags(&self, full: &str) -> Reply {
        let tags = self.data.content.tags.iter().filter(|((repository, _), _)| repository == full);
        let one = |((_, tag), digest): (&(String, String), &String)| json!({"imageTag": tag, "createdAt": 1_795_251_600.0, "imageDetail": {"imageDigest": digest, "imageSizeInBytes": 7}});
        base::document(200, &json!({ "imageTagDetails": tags.map(one).collect::<Vec<_>>() }))
    }

    /// By tag the last one takes the image along.
    fn delete(&mut self, full: &str, id: &Value) -> Reply {
        let content = &mut self.data.content;
        let digest = match id["imageTag"].as_str() {
            Some(tag) => content.tags.remove(&(full.to_owned(), tag.to_owned())),
            None => id["imageDigest"].as_str().map(str::to_owned),
        };
        let Some(digest) = digest else {
            let failure = json!({"imageId": id, "failureCode": "ImageNotFound", "failureReason": "Requested image not found"});
            return base::document(200, &json!({"imageIds": [], "failures": [failure]}));
        };
        let left = content.tags.iter().any(|((repository, _), of)| repository == full && *of == digest);
        if id["imageTag"].is_null() || !left {
            content.tags.retain(|(repository, _), of| repository != full || *of != digest);
            content.manifests.remove(&(full.to_owned(), digest.clone()));
        }
        base::document(200, &json!({"imageIds": [{"imageDigest": digest}], "failures": []}))
    }
}

fn missing(name: &str) -> String {
    format!("The repository with name '{name}' does not exist in the registry with id '123456789012'")
}

/// As JSON 1.1 has it: 400 and the type with a prefix.
fn error(kind: &str, message: &str) -> Reply {
    let document = json!({"__type": format!("com.amazonaws.ecrpublic#{kind}"), "message": message});
    Reply::status(400).header("content-type", "application/x-amz-json-1.1").body(document.to_string())
}

impl Site for EcrPublic {
    fn answer(&mut self, request: &Request) -> Reply {
        if request.host == API { self.api(request) } else { self.registry(request) }
    }
}
